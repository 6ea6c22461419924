"""A worker process: gets an evaluator, then jobs, through the socket named by its argument; sends back events."""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection


def main() -> None:
    """Serve until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    connection = Connection(int(sys.argv[1]))

    import torch

    from nas.executors.base import run_job

    torch.set_num_threads(1)
    try:
        evaluator = connection.recv()
        while True:
            for event in run_job(evaluator, connection.recv()):
                connection.send(event)
    except (EOFError, OSError):
        return
