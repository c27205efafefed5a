"""A Ray cluster as a pool: tasks and results pass through it, files go straight to storage."""

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from typing import Any

from sonde.errors import CapacityError, StorageError, UsageError
from sonde.tasks.worker import Pool, Recipe, Worker, do_task

RETRIES = 5
"""how often a task is begun again after its node or its process has died"""


@contextlib.contextmanager
def open_cluster(worker: Worker, n_workers: int | None, threads: int | None, gpus: int) -> Iterator[Pool]:
    """Open a pool of processes on a cluster, on whose nodes sonde must be installed.

    Args:
        n_workers: one for each node by default.
        threads: CPUs that a task takes of a node; by default all that the smallest node has.
        gpus: GPUs that it takes.
    """
    with _connect() as ray:
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        threads = threads or min((n for n in cpus if n > 0), default=1)
        submit = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(do_task).remote
        recipe = ray.put(Recipe(uuid.uuid4().hex, threads, *worker.recipe()))
        n_workers = n_workers or max(1, sum(n > 0 for n in cpus))
        yield Pool(lambda task: _PendingOnCluster(ray, submit(recipe, task), worker, task), n_workers)


@contextlib.contextmanager
def _connect() -> Iterator[Any]:
    """Yield Ray, connected to the cluster of RAY_ADDRESS, to one on this machine, or to a new local one."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'sonde[ray]', or leave --executor out") from error
    connects = not ray.is_initialized()
    if connects:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        yield ray
    finally:
        if connects:
            ray.shutdown()


class _PendingOnCluster:
    """The pending result of a task on a node, which another node does again if that one dies."""

    def __init__(self, ray: Any, reference: Any, worker: Worker, task: Any) -> None:
        self._ray, self._reference, self._worker, self._task = ray, reference, worker, task

    def result(self) -> Any:
        try:
            result = self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise CapacityError(
                f"the cluster could not do a task ({type(error).__name__}) in {1 + RETRIES} attempts, most likely for "
                "want of memory; the same command goes on, with more --threads, and so fewer tasks on a node, "
                "if need be"
            ) from error
        if self._worker.finished(self._task) is None:
            raise StorageError(
                f"a node wrote to {self._worker.out}, but what it wrote cannot be seen here; "
                "give --out a folder that all nodes share or, for activations, a URL (s3://, gs://, az://)"
            )
        return result
