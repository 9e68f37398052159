"""Killed at any moment and started again: the same files at the end, in training and in the graph of notebooks."""

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import workers

from seechat.foundation.seeding import derive

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")

CLOCKS = ("provenance.json", "clock.json", "log.txt", "begun.json", "executed.ipynb")


@pytest.fixture(scope="module")
def started() -> Callable:
    """Starts a process that has imported the trainers already, so that a kill falls into the work and not into the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seechat.training.vision", "seechat.training.stitching", "seechat.reporting.reproduce", "papermill"])

    def start(function: Callable, *arguments: object) -> multiprocessing.Process:
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    start(int).join()
    return start


def made(folder: Path) -> dict[str, bytes]:
    """The files a run leaves, without those that hold a clock, and without what was being written when it was killed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in CLOCKS and not path.name.startswith(".")
    }


@pytest.fixture(scope="module", params=["vision", "stitching"])
def whole(request, started, tmp_path_factory):
    """(kind, files, renames, seconds) of a run that nobody killed."""
    folder = tmp_path_factory.mktemp(request.param)
    begun = time.monotonic()
    process = started(workers.train, request.param, folder, None)
    process.join()
    assert process.exitcode == 0
    return request.param, made(folder), time.monotonic() - begun


def test_killed_at_every_file_it_writes_a_run_ends_with_the_same_bytes(whole, started, tmp_path):
    kind, files, _ = whole
    kills = 0
    for when in range(1, 100):
        process = started(workers.train, kind, tmp_path, when)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert made(tmp_path) == files
    assert kills > len(files) / 2  # each was killed before its name, if not made again at once


def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(whole, started, tmp_path):
    kind, files, seconds = whole
    chance = random.Random(derive("kill", kind))
    for _ in range(15):
        process = started(workers.train, kind, tmp_path, None)
        process.join(chance.uniform(0, seconds))
        process.kill()
        process.join()
    last = started(workers.train, kind, tmp_path, None)
    last.join()
    assert last.exitcode == 0 and made(tmp_path) == files


# ---- the graph ------------------------------------------------------------------------------------------------------------


def test_killed_at_random_moments_the_graph_ends_with_the_same_files(started, tmp_path):
    begun = time.monotonic()
    quiet = started(workers.graph, tmp_path / "whole")
    quiet.join()
    assert quiet.exitcode == 0
    seconds = time.monotonic() - begun
    chance = random.Random(derive("kill", "graph"))
    for _ in range(10):
        process = started(workers.graph, tmp_path / "killed")
        process.join(chance.uniform(0, seconds))
        process.kill()
        process.join()
    last = started(workers.graph, tmp_path / "killed")
    last.join()
    assert last.exitcode == 0

    def results(root: Path) -> dict[str, bytes]:
        return {name: value for name, value in made(root).items() if name[0] in "abc" and not name.endswith("task.json")}

    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    for name in "abc":
        told = json.loads((tmp_path / "killed" / name / "task.json").read_text())
        assert told["files"] == json.loads((tmp_path / "whole" / name / "task.json").read_text())["files"]
