"""A pool of processes on this machine."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import torch

from sonde.errors import CapacityError
from sonde.tasks.worker import Pool, Recipe, Worker, do_task


@contextlib.contextmanager
def open_processes(worker: Worker, n_workers: int, threads: int | None) -> Iterator[Pool]:
    """Open a pool of `n_workers` processes; raises CapacityError where one of them is killed."""
    recipe = Recipe("", threads or max(1, torch.get_num_threads() // n_workers), *worker.recipe())
    spawn = multiprocessing.get_context("spawn")
    executor = concurrent.futures.ProcessPoolExecutor(n_workers, spawn, _start, (os.getpid(),))
    try:
        yield Pool(lambda task: executor.submit(do_task, recipe, task), n_workers)
    except BrokenProcessPool as error:
        raise CapacityError(
            "a worker was killed, most likely for want of memory; "
            "the same command goes on, with fewer --workers if need be"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops the workers
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: int) -> None:
    """End this process once its parent has been killed, or it would wait for tasks for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
