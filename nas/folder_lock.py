"""One process at a time works in a folder."""

from __future__ import annotations

from pathlib import Path

import filelock

from search_space import InputError


def lock_folder(path: Path, what: str) -> filelock.BaseFileLock:
    """Make the folder if need be, and take it for this process, until the lock is released or the process ends.

    Raises `InputError` if another has it; `what` says what is worked on.
    """
    lock = filelock.FileLock(path / ".lock", timeout=0)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        rule, remedy = f"another process is working on this {what}", "wait for it to end, or stop it"
        raise InputError(rule, str(path), remedy=remedy) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        rule, remedy = (
            f"cannot use the folder: {getattr(error, 'strerror', error)}",
            "choose a place that can be written",
        )
        raise InputError(rule, str(path), remedy=remedy) from None
    return lock
