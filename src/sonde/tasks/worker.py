"""The interface of a room that runs tasks: a worker, which does them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch

from sonde.remote import Place

Task = TypeVar("Task")
Computed = TypeVar("Computed")
Result = TypeVar("Result")


class Worker(ABC, Generic[Task, Computed, Result]):
    """Does the tasks of one run; each process has its own.

    A task is a pure function of what is sent to the worker, and writes its output whole or not at all. So it does not
    matter who does a task, how often, or in which run.
    """

    out: Place
    """the folder that tasks write to"""

    @abstractmethod
    def recipe(self) -> tuple[Callable[..., "Worker[Task, Computed, Result]"], tuple]:
        """A function and its arguments, both picklable, that make this worker in another process and folder."""

    @abstractmethod
    def size(self, task: Task) -> float:
        """How much work a task is, in the unit of the progress that is shown."""

    @abstractmethod
    def finished(self, task: Task) -> Result | None:
        """The result of a task that was written before; None where it has to be done."""

    @abstractmethod
    def compute(self, task: Task, advance: Callable[[float], None]) -> Computed:
        """Compute what a task writes; call `advance` with the size of each part that is done."""

    @abstractmethod
    def write(self, task: Task, computed: Computed) -> Result:
        """Write what was computed and return the result, which must be picklable."""


class Pending(Protocol):
    """A result that is not there yet."""

    def result(self) -> Any: ...


class Pool(NamedTuple):
    """A pool of workers: a function that submits a task, and their number."""

    submit: Callable[[Any], Pending]
    n_workers: int


class Recipe(NamedTuple):
    """How a process makes the worker of a run."""

    run: str
    """tells one run from another"""
    threads: int
    """of torch"""
    make: Callable[..., Worker]
    arguments: tuple


_worker_of_run: tuple[str, Worker] | None = None
"""in a process that does tasks: the run that it works for, and its worker"""


def do_task(recipe: Recipe, task: Any) -> Any:
    """Do one task in another process, with the worker that the first task of the run made there; return its result."""
    global _worker_of_run
    if _worker_of_run is None or _worker_of_run[0] != recipe.run:
        torch.set_num_threads(recipe.threads)
        _worker_of_run = recipe.run, recipe.make(*recipe.arguments)
    worker = _worker_of_run[1]
    result = worker.finished(task)
    return worker.write(task, worker.compute(task, lambda _: None)) if result is None else result
