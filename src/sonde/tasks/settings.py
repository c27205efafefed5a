"""Settings of the task runner."""

from dataclasses import dataclass
from typing import Literal, get_args

from sonde.settings import check

Executor = Literal["local", "processes", "ray"]


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How many workers share the tasks, and where they run. No result depends on it."""

    workers: int | None = None
    """workers that share the tasks, each with the model in its memory: one by default, on a cluster one for each
    node"""
    executor: Executor | None = None
    """local (this process), processes (the default for several workers) or ray (the cluster that RAY_ADDRESS names)"""

    def __post_init__(self) -> None:
        executors = get_args(Executor)
        check(self.workers is None or self.workers > 0, "workers", self.workers, "above 0")
        check(self.resolved_executor in executors, "executor", self.executor, f"one of {', '.join(executors)}")
        is_one = self.resolved_executor != "local" or self.workers in (None, 1)
        check(is_one, "workers", self.workers, "1 where executor is local")

    @property
    def resolved_executor(self) -> Executor:
        """The executor, with the default filled in."""
        return self.executor or ("processes" if self.workers and self.workers > 1 else "local")

    @property
    def is_local(self) -> bool:
        """Whether this process does all tasks."""
        return self.resolved_executor == "local"

    @property
    def workers_here(self) -> int:
        """How many workers share this machine's memory, as far as is known before they start."""
        return (self.workers or 1) if self.resolved_executor == "processes" else 1
