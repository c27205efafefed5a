"""Killing a run at a moment, in a process forked from one that has torch imported; killing a node of a cluster."""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["sonde.activations.harvest", "sonde.training.train"])


class Moment:
    """Some milliseconds after a random one of the steps that a run makes has been seen.

    Args:
        seen: counts the steps made so far.
        n: how many there will be.
    """

    def __init__(self, seen: Callable[[], int], n: int, generator: random.Random) -> None:
        self._seen, self._wanted, self._wait = seen, generator.randrange(n), generator.uniform(0, 0.03)
        self._since: float | None = None

    def __call__(self) -> bool:
        if self._since is None and self._seen() >= self._wanted:
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() - self._since >= self._wait


def run(do: Callable[..., Any], *given: Any, until: Callable[[], bool] = lambda: False) -> bool:
    """Run `do(*given)` in a process of its own and SIGKILL it as soon as `until()`; whether it was killed.

    It has this process's environment.
    """
    process = _context.Process(target=_run, args=(dict(os.environ), do, given))
    process.start()
    while process.is_alive() and not until():
        time.sleep(0.002)
    if process.is_alive():
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _run(environment: dict[str, str], do: Callable[..., Any], given: tuple) -> None:
    import torch

    torch.set_num_threads(min(2, torch.get_num_threads()))
    os.environ.update(environment)
    do(*given)


@contextlib.contextmanager
def node_killed(two_nodes: tuple, count: Callable[[], int], at_least: int) -> Iterator[list[int]]:
    """Kill a node of a Ray cluster once `count()` reaches `at_least`; yields a list that then holds the count."""
    cluster, nodes = two_nodes
    counts: list[int] = []

    def kill() -> None:
        while count() < at_least:
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        counts.append(count())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield counts
    killer.join(60)
