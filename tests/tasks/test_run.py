"""The task runner: results in task order, bounded submission, errors, killed workers, Ctrl-C and resumption."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from sonde.errors import CapacityError, SettingsError, TextError
from sonde.progress import Progress, Silent
from sonde.tasks.run import run_tasks
from sonde.tasks.settings import TaskOptions
from tests.known import known
from tests.tasks.toy import TASK_SIZE, Toy, Unloadable

LOCAL, TWO = TaskOptions(), TaskOptions(workers=2)
both = pytest.mark.parametrize("options", [LOCAL, TWO], ids=["local", "processes"])


class Count(Progress):
    """A progress that adds up."""

    def __init__(self) -> None:
        self.n = 0.0

    def advance(self, n: float, note: str = "") -> None:
        self.n += n

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        pass


def silent():
    return Silent().start("", None, "")


@both
def test_results_come_in_task_order_with_few_tasks_submitted_ahead(options, tmp_path):
    n_workers, n_taken, n_yielded, progress = options.workers or 1, 0, 0, Count()

    def tasks():
        nonlocal n_taken
        for task in range(12):
            assert n_taken - n_yielded < 2 * n_workers
            n_taken += 1
            yield task

    worker = Toy(tmp_path, {0: 0.3, 1: 0.1})  # the first tasks end last
    for result in run_tasks(tasks(), worker, options, progress):
        assert result == n_yielded**2
        n_yielded += 1
    assert n_yielded == 12 and progress.n == 12 * TASK_SIZE


@both
def test_tasks_of_an_earlier_run_are_not_computed_again(options, tmp_path):
    worker, progress = Toy(tmp_path), Count()
    assert list(run_tasks(range(0, 8, 2), worker, LOCAL, silent())) == [0, 4, 16, 36]
    assert list(run_tasks(range(8), worker, options, progress)) == [n**2 for n in range(8)]
    assert [worker.n_begun(task) for task in range(8)] == [1] * 8 and progress.n == 8 * TASK_SIZE


@both
def test_the_error_of_a_task_is_raised_as_it_is_after_the_results_before_it(options, tmp_path):
    results = []
    with pytest.raises(TextError, match="task 3 failed"):
        results.extend(run_tasks(range(20), Toy(tmp_path, fails_at=3), options, silent()))
    assert not (tmp_path / "19.begun").exists()
    whole = Toy(tmp_path)
    assert whole.finished(2) == 4 and whole.finished(3) is None
    assert list(run_tasks(range(20), whole, LOCAL, silent())) == [n**2 for n in range(20)]


def test_errors_of_making_a_worker_are_raised_as_they_are(tmp_path):
    with pytest.raises(TextError, match="the worker could not be made"):
        list(run_tasks(range(5), Unloadable(tmp_path), TWO, silent()))


def test_a_killed_worker_is_an_error_and_the_same_run_goes_on(tmp_path):
    with pytest.raises(CapacityError, match="a worker was killed"):
        list(run_tasks(range(20), Toy(tmp_path, dies_at=5), TWO, silent()))
    worker = Toy(tmp_path)
    done = [task for task in range(20) if worker.finished(task) is not None]
    assert len(done) < 20 and worker.finished(5) is None
    begun = {task: worker.n_begun(task) for task in done}
    assert list(run_tasks(range(20), worker, LOCAL, silent())) == [n**2 for n in range(20)]
    assert {task: worker.n_begun(task) for task in done} == begun


def test_one_task_is_written_while_the_next_is_computed(tmp_path):
    began = {task: threading.Event() for task in range(4)}

    class Overlapping(Toy):
        def compute(self, task, advance):
            began[task].set()
            return super().compute(task, advance)

        def write(self, task, computed):
            assert task == 3 or began[task + 1].wait(10), "the next task did not begin"
            return super().write(task, computed)

    assert list(run_tasks(range(4), Overlapping(tmp_path), LOCAL, silent())) == [0, 1, 4, 9]


def test_a_local_run_keeps_to_its_threads_and_gives_them_back(tmp_path):
    before, seen = torch.get_num_threads(), []

    class Watching(Toy):
        def compute(self, task, advance):
            seen.append(torch.get_num_threads())
            return super().compute(task, advance)

    list(run_tasks(range(2), Watching(tmp_path), LOCAL, silent(), threads=before + 1))
    assert seen == [before + 1] * 2 and torch.get_num_threads() == before


def run_slowly(out: Path, options: TaskOptions) -> None:
    list(run_tasks(range(100), Toy(out, dict.fromkeys(range(100), 0.05)), options, silent()))


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def children_of(process: int | None) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("options", "how"), [(LOCAL, signal.SIGINT), (TWO, signal.SIGINT), (TWO, signal.SIGKILL)])
def test_a_stopped_run_leaves_no_process_and_goes_on(options, how, tmp_path):
    """Ctrl-C reaches the workers, too; SIGKILL only the process that started them."""
    process = multiprocessing.get_context("spawn").Process(target=run_slowly, args=(tmp_path, options))
    process.start()
    worker = Toy(tmp_path)
    wait_until(lambda: worker.n_done >= 4)
    pid = known(process.pid)
    children = children_of(pid)
    for each in [pid, *children] if how == signal.SIGINT else [pid]:
        os.kill(each, how)
    process.join(30)
    assert process.exitcode == (1 if how == signal.SIGINT else -how)
    wait_until(lambda: not any(is_running(child) for child in children), 10)
    n_done = worker.n_done
    assert n_done < 100
    assert list(run_tasks(range(100), worker, LOCAL, silent())) == [n**2 for n in range(100)]
    assert sum(worker.n_begun(task) for task in range(100)) <= 100 + 2  # those that were being done are done again


def test_options_have_defaults_and_refuse_what_makes_no_sense():
    assert [TaskOptions(workers=n).resolved_executor for n in (None, 1, 2)] == ["local", "local", "processes"]
    assert TaskOptions(workers=3).workers_here == 3 and TaskOptions(workers=3, executor="ray").workers_here == 1
    wrong: list[tuple[int | None, Any, str]] = [
        (0, None, "workers is 0, but must be above 0"),
        (2, "local", "workers is 2, but must be 1 where executor is local"),
        (None, "cloud", "executor is 'cloud', but must be one of local, processes, ray"),
    ]
    for workers, executor, message in wrong:
        with pytest.raises(SettingsError, match=message):
            TaskOptions(workers=workers, executor=executor)
