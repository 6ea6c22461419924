"""A worker process: gets an evaluator, then jobs, through the socket of its first argument; sends back events.

The second argument is the file in which the evaluator's arrays lie.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any


def main() -> None:
    """Serve until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    connection = Connection(int(sys.argv[1]))

    import torch

    from nas.executors.base import Started, run_job
    from nas.executors.shared_pickle import load

    torch.set_num_threads(1)
    try:
        pickled, timeout_s = connection.recv()
        evaluator = load(pickled, int(sys.argv[2]))
        jobs: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=_receive, args=(connection, jobs), daemon=True).start()
        while True:
            job = jobs.get()
            connection.send(Started(job.key))
            for event in run_job(evaluator, job, timeout_s):
                connection.send(event)
    except (EOFError, OSError):
        return


def _receive(connection: Connection, jobs: queue.Queue[Any]) -> None:
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):  # the parent is gone: nobody wants what an evaluation of minutes is about to give
        os._exit(0)
    except BaseException:  # a job that cannot be read: the parent sees that this process has died
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
