"""Walk the graph: execute what must be, in parallel where it may be, skip what is unchanged, go on past what fails."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seechat.foundation.files import write_json
from seechat.foundation.strict import SpecError, digest, nearest
from seechat.reporting.execution import NotebookError, execute
from seechat.reporting.graph import Task, changed, key, record, recorded

Say = Callable[[str], None]
BEGUN, EXECUTED = "begun.json", "executed.ipynb"
UNSTABLE = (EXECUTED, "provenance.json", "clock.json", "log.txt", BEGUN)  # what holds a clock


@dataclass
class Walk:
    """What became of the tasks: names of those skipped and made, and why others failed or could not start."""

    skipped: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def chosen(tasks: Mapping[str, Task], only: Sequence[str]) -> dict[str, Task]:
    """The tasks whose names begin with one of `only`, and all that they need; all of them where `only` is empty. Raises SpecError."""
    if not only:
        return dict(tasks)
    wanted: set[str] = set()
    for start in only:
        found = {name for name in tasks if name == start or name.startswith(f"{start}/")}
        if not found:
            raise SpecError(f"nothing in the graph is called {start!r}{nearest(start, tasks)}")
        wanted |= found
    for name in reversed(list(tasks)):  # what needs stands behind what is needed
        if name in wanted:
            wanted |= set(tasks[name].needs)
    return {name: task for name, task in tasks.items() if name in wanted}


def walk(
    tasks: Mapping[str, Task], *, root: Path, jobs: int, say: Say, dry: bool = False, after: Callable[[Walk], None] = lambda done: None
) -> Walk:
    """Make what is not made yet or no longer true. With `dry` only say what would run, and why.

    A task that fails is told in one line; what needs it does not start, everything else goes on. `after` is called whenever something was
    made or skipped, before what needs it starts.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each kernel: notebooks side by side would take each other's cores
    result, waiting = Walk(), dict(tasks)
    running: dict[Future, str] = {}
    lock = root / "requirements.lock"
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for name, task in list(waiting.items()):
                if lacking := [need for need in task.needs if need in result.failed]:
                    del waiting[name]
                    result.failed[name] = f"not started: {lacking[0]} failed"
                    say(f"{name}: {result.failed[name]}")
                elif all(need in (*result.made, *result.skipped) for need in task.needs):
                    del waiting[name]
                    own = key(task, lock)
                    done = recorded(task)
                    reasons = changed(done["key"] if done else None, own)
                    if dry and not reasons:  # what is needed would be made again, and perhaps be another
                        reasons = [need for need in task.needs if need in result.made]
                    if not reasons:
                        result.skipped.append(name)
                        after(result)
                        continue
                    say(f"{name}: {', '.join(reasons if dry else reasons[:3])}{' …' if len(reasons) > 3 and not dry else ''}")
                    if dry:
                        result.made.append(name)
                    else:
                        running[pool.submit(make, task, own, root)] = name
            if running:
                finish(running, result, say)
                after(result)
    return result


def finish(running: dict[Future, str], result: Walk, say: Say) -> None:
    """Wait for one task, or more, and write down what became of it."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        name = running.pop(future)
        try:
            future.result()
            result.made.append(name)
            say(f"{name}: made")
        except (NotebookError, SpecError, OSError) as error:
            result.failed[name] = str(error)
            say(f"{name}: FAILED: {error}")


def make(task: Task, own: Mapping[str, Any], root: Path) -> None:
    """Execute one task. What an earlier start left is used only if that start was of the same key."""
    begun = task.folder / BEGUN
    mark = digest(own)
    if not (begun.is_file() and begun.read_text(encoding="utf-8").strip() == f'"{mark}"'):
        shutil.rmtree(task.folder, ignore_errors=True)
        write_json(begun, mark)
    for left in task.folder.rglob(".*"):  # of a write that was killed
        left.unlink()
    execute(task.notebook, task.folder / EXECUTED, task.parameters, cwd=root / "notebooks")
    record(task, own, UNSTABLE)
