"""The task runner on a Ray cluster of two nodes: order, a killed node, errors, and output that cannot be seen."""

import pytest

from sonde.errors import CapacityError, StorageError, TextError
from sonde.tasks.run import run_tasks
from sonde.tasks.settings import TaskOptions
from tests import kill
from tests.tasks.test_run import Count, silent
from tests.tasks.toy import TASK_SIZE, Toy

RAY = TaskOptions(executor="ray")
pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("default")]  # Ray warns


def test_results_come_in_order_and_a_killed_node_loses_none(two_nodes, tmp_path):
    worker, progress = Toy(tmp_path, dict.fromkeys(range(40), 0.1) | {0: 1.0}), Count()
    with kill.node_killed(two_nodes, lambda: worker.n_done, 6) as n_done_when_killed:
        results = list(run_tasks(range(40), worker, RAY, progress))
    assert n_done_when_killed[0] < 40
    assert results == [n**2 for n in range(40)] and progress.n == 40 * TASK_SIZE


def test_errors_of_tasks_are_raised_as_they_are_and_deaths_are_named(two_nodes, tmp_path):
    with pytest.raises(TextError, match="task 3 failed"):
        list(run_tasks(range(9), Toy(tmp_path, fails_at=3), RAY, silent()))
    with pytest.raises(CapacityError, match="the cluster could not do a task .* in 6 attempts"):
        list(run_tasks(range(9), Toy(tmp_path, dies_at=3), RAY, silent()))
    assert Toy(tmp_path).n_begun(3) == 1 + 6
    assert list(run_tasks(range(9), Toy(tmp_path), RAY, silent())) == [n**2 for n in range(9)]


def test_output_that_cannot_be_seen_here_is_an_error(two_nodes, tmp_path):
    class Elsewhere(Toy):
        """Its processes write to a folder of their own, as where a node does not share the file system."""

        def recipe(self):
            (tmp_path / "node").mkdir()
            return Toy, (tmp_path / "node",)

    with pytest.raises(StorageError, match="a node wrote to .* cannot be seen here; give --out a folder that all"):
        list(run_tasks(range(3), Elsewhere(tmp_path), RAY, silent()))
