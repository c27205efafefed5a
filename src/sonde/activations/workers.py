"""Workers: tasks done by several processes, or by the nodes of a Ray cluster, with the same results in the same order.

A task is a pure function of what is sent to it, so it does not matter who does it, how often, or which run.
"""

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from sonde.errors import CapacityError, UsageError
from sonde.models.model import Model

Task = TypeVar("Task")

RETRIES = 5
"""how often a task of a cluster is begun again after its node or its process has died"""

_worker: Any = None
"""in a worker process: what `make` gave"""
_made_for: str = ""
"""in a process of a cluster: the run that it was made for"""


class Pending(Protocol):
    """A result that is on its way."""

    def result(self) -> Any: ...


def in_order(tasks: Iterable[Task], submit: Callable[[Task], Pending], workers: int) -> Iterator[Any]:
    """Yield the result of each task, in their order; `submit` hands a task to one of `workers`."""
    waiting: deque[Pending] = deque()
    for task in tasks:
        waiting.append(submit(task))
        # Each worker has one task at hand and one to go on with; more would only fill memory.
        while len(waiting) >= 2 * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def here(
    tasks: Iterable[Task], run: Callable[[Task, Callable[..., Pending]], Pending], threads: int | None
) -> Iterator[Any]:
    """Yield the result of each task, all run in this process; one is written while the next one runs.

    Args:
        run: does a task up to writing it, which it hands to its second argument as `submit(do, *given)`.
        threads: of torch, meanwhile; as many as there are by default.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(threads or cores)
    try:
        with concurrent.futures.ThreadPoolExecutor(1, "sonde-write") as writer:
            waiting = None
            for task in tasks:
                before, waiting = waiting, run(task, writer.submit)
                if before is not None:
                    yield before.result()
            if waiting is not None:
                yield waiting.result()
    finally:
        torch.set_num_threads(cores)


def recipe(model: Model) -> tuple[str, str, str]:
    """Name, device and dtype from which a worker, which may run in another folder, loads the same model."""
    folder = Path(model.name).expanduser()
    name = str(folder.resolve()) if folder.exists() else model.name
    return name, str(model.device), str(model.dtype).removeprefix("torch.")


# ---------------------------------------------------------------- processes of this machine


@contextlib.contextmanager
def processes(
    make: Callable[..., Callable[[Task], Any]], arguments: tuple, workers: int
) -> Iterator[Callable[[Task], Pending]]:
    """Lend what hands a task to one of `workers` processes.

    Args:
        make: called once in each process with `arguments`; gives what does a task. Both must be picklable,
            and so must tasks and results.

    Raises CapacityError where a worker is killed; errors of a task are raised as they are.
    """
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (make, arguments, os.getpid()))
    try:
        yield lambda task: pool.submit(_do, task)
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


# ---------------------------------------------------------------- nodes of a Ray cluster


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Lend Ray, connected to the cluster that RAY_ADDRESS names or that runs here, or to one of this machine alone."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'sonde[ray]', or leave --executor out") from error
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def on_cluster(
    ray: Any, make: Callable[..., Callable[[Task], Any]], arguments: tuple, cpus: int, gpus: int
) -> Callable[[Task], Pending]:
    """What hands a task to a process of a Ray cluster, where sonde must be installed on every node.

    Args:
        make, arguments: as for `processes`; a process keeps what was made for the next task that it gets.
        cpus, gpus: what a task takes of a node.

    A task whose node dies is done by another one. Raises CapacityError where that happens again and again.
    """
    do = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_do_on_cluster)
    run, shared = uuid.uuid4().hex, ray.put((make, arguments))
    return lambda task: _OnCluster(ray, do.remote(run, shared, task))


class _OnCluster:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def result(self) -> Any:
        try:
            return self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise CapacityError(
                f"the cluster could not do a task ({type(error).__name__}) in {1 + RETRIES} attempts, most likely for "
                "want of memory; the same command goes on, with more --threads, and so fewer tasks on a node, if need be"
            ) from error


def _do_on_cluster(run: str, shared: tuple, task: Any) -> Any:
    global _worker, _made_for
    if _made_for != run:
        make, arguments = shared
        _worker, _made_for = make(*arguments), run
    return _worker(task)
