"""A worker that squares numbers, and can be told to be slow, to fail, or to kill its process at some of them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from sonde.errors import TextError
from sonde.tasks.worker import Worker

TASK_SIZE = 10


class Toy(Worker[int, int, int]):
    def __init__(self, out: Path, seconds: dict[int, float] | None = None, fails_at: int = -1, dies_at: int = -1):
        self.out = self.folder = out
        self.seconds, self.fails_at, self.dies_at = seconds or {}, fails_at, dies_at

    def recipe(self) -> tuple[Callable[..., "Toy"], tuple]:
        return Toy, (self.folder, self.seconds, self.fails_at, self.dies_at)

    def size(self, task: int) -> float:
        return TASK_SIZE

    def finished(self, task: int) -> int | None:
        file = self.folder / f"{task}.done"
        return int(file.read_text()) if file.exists() else None

    def compute(self, task: int, advance: Callable[[float], None]) -> int:
        with (self.folder / f"{task}.begun").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self.seconds.get(task, 0))
        if task == self.fails_at:
            raise TextError(f"task {task} failed")
        if task == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        advance(TASK_SIZE)
        return task**2

    def write(self, task: int, computed: int) -> int:
        (self.folder / f"{task}.part").write_text(str(computed))
        (self.folder / f"{task}.part").rename(self.folder / f"{task}.done")
        return computed

    @property
    def n_done(self) -> int:
        return len(list(self.folder.glob("*.done")))

    def n_begun(self, task: int) -> int:
        """How often a task has been computed."""
        return len((self.folder / f"{task}.begun").read_text().splitlines())


class Unloadable(Toy):
    """A worker that no other process can make."""

    def recipe(self) -> tuple[Callable[..., Toy], tuple]:
        return fail_to_load, ()


def fail_to_load() -> Toy:
    raise TextError("the worker could not be made")
