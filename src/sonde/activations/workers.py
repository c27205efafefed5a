"""Workers: tasks done by this process, or by several at once, with the same results in the same order.

A task is a pure function of what is sent to it, so it does not matter who does it, how often, or which run.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from sonde.errors import CapacityError

Task = TypeVar("Task")
Result = TypeVar("Result")

_worker: Any = None
"""in a worker process: what `make` gave"""


def in_order(
    tasks: Iterable[Task], make: Callable[..., Callable[[Task], Result]], arguments: tuple, workers: int
) -> Iterator[Result]:
    """Yield the result of each task, in their order, from `workers` processes.

    Args:
        make: called once in each process with `arguments`; gives what does a task. Both must be picklable,
            and so must tasks and results.

    Raises CapacityError where a worker is killed; errors of a task are raised as they are.
    """
    waiting: deque[concurrent.futures.Future[Result]] = deque()
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (make, arguments, os.getpid()))
    try:
        for task in tasks:
            waiting.append(pool.submit(_do, task))
            # Each worker has one task at hand and one to go on with; more would only fill memory.
            while len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise CapacityError(
            "a worker was killed, most likely for want of memory; the same command goes on, with fewer --workers if need be"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(make: Callable[..., Any], arguments: tuple, parent: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops the workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = make(*arguments)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed ends too, rather than wait for tasks for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _do(task: Any) -> Any:
    return _worker(task)
