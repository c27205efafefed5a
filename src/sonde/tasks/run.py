"""The task runner: one loop for three executors.

1. Open a pool of workers: this process, several processes, or the nodes of a Ray cluster.
2. Submit tasks, two for each worker at a time.
3. Yield the results in task order.
"""

import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

import torch

from sonde.progress import Progress
from sonde.tasks.cluster import open_cluster
from sonde.tasks.processes import open_processes
from sonde.tasks.settings import TaskOptions
from sonde.tasks.worker import Computed, Pending, Pool, Result, Task, Worker


def run_tasks(
    tasks: Iterable[Task],
    worker: Worker[Task, Computed, Result],
    options: TaskOptions,
    progress: Progress,
    *,
    threads: int | None = None,
    gpus: int = 0,
) -> Iterator[Result]:
    """Yield the result of each task, in task order.

    Args:
        tasks: taken as workers need them, so that memory holds two for each worker at most.
        worker: does the tasks in this process, and says how other processes make one.
        options: how many workers there are, and where.
        progress: advanced by the size of what is done, also by an earlier run.
        threads: torch threads of each worker; by default the cores are shared.
        gpus: GPUs of a node that a task on a cluster takes.

    Raises:
        what a task raises, as it is;
        CapacityError: a worker was killed, or the cluster gave a task up;
        StorageError: what a node of a cluster wrote is not visible here;
        UsageError: Ray is wanted but not installed.
    """
    with _open_pool(worker, options, progress, threads, gpus) as pool:

        def finish(task: Task, pending: Pending) -> Result:
            result = pending.result()
            if not options.is_local:
                progress.advance(worker.size(task))
            return result

        waiting: deque[tuple[Task, Pending]] = deque()
        for task in tasks:
            waiting.append((task, pool.submit(task)))
            # Each worker has one task at hand and one to go on with; more would only fill memory.
            while len(waiting) >= 2 * pool.n_workers:
                yield finish(*waiting.popleft())
        while waiting:
            yield finish(*waiting.popleft())


def _open_pool(
    worker: Worker, options: TaskOptions, progress: Progress, threads: int | None, gpus: int
) -> AbstractContextManager[Pool]:
    if options.is_local:
        return _open_local(worker, progress, threads)
    if options.resolved_executor == "processes":
        return open_processes(worker, options.workers or 1, threads)
    return open_cluster(worker, options.workers, threads, gpus)


@contextlib.contextmanager
def _open_local(worker: Worker, progress: Progress, threads: int | None) -> Iterator[Pool]:
    """This process as a pool: a thread writes one task while the next one is computed."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        with concurrent.futures.ThreadPoolExecutor(1, "sonde-write") as writer:

            def submit(task: Task) -> Pending:
                result = worker.finished(task)
                if result is not None:
                    progress.advance(worker.size(task))
                    return writer.submit(lambda: result)
                return writer.submit(worker.write, task, worker.compute(task, progress.advance))

            yield Pool(submit, 1)
    finally:
        torch.set_num_threads(threads_before)
