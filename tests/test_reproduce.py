"""The graph of notebooks: keys, order, skipping, failures, parameters, exercises."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_notebooks import notebook

from seechat.foundation.strict import SpecError
from seechat.presets import experiments
from seechat.reporting import experiments as experiments_module
from seechat.reporting import graph
from seechat.reporting.execution import NotebookError, checked, execute
from seechat.reporting.experiments import run_experiment, walk_and_keep
from seechat.reporting.graph import Task, changed, closure, imports, key, tasks
from seechat.reporting.rendered import exercise
from seechat.reporting.reproduce import chosen, walk
from seechat.spec import at_scale, load_spec

ROOT = experiments().parent


# ---- parameters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tims": 3}, "tims: unknown key, did you mean 'times'"),
        ({"times": "3"}, "times: expected int, got '3'"),
        ({"seeds": [0, "1"]}, "seeds"),
    ],
)
def test_parameters_are_compared_with_the_notebook_before_it_starts(tmp_path, given, said):
    path = notebook(tmp_path / "n.ipynb", parameters="times: int = 2\nseeds: list[int] = [0]")
    with pytest.raises(SpecError, match=said):
        checked(path, given)
    assert checked(path, {"times": 3, "seeds": [1]}) == {"times": 3, "seeds": [1]}


def test_a_notebook_without_parameters_is_refused(tmp_path):
    path = notebook(tmp_path / "n.ipynb")
    path.write_text(path.read_text().replace('["parameters"]', "[]"))
    with pytest.raises(SpecError, match="0 cells are tagged `parameters`, not one"):
        checked(path, {})


def test_every_task_of_the_graph_has_parameters_that_its_notebook_knows():
    for scale in ("smoke", "laptop"):
        for task in tasks(ROOT, Path("runs"), scale).values():
            checked(task.notebook, task.parameters)


# ---- what a task is made from -----------------------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_stand():
    source = "%matplotlib inline\nimport seechat\nfrom seechat.world import scenes\ndef f():\n    from seechat.layout import Layout\n"
    source += "seechat.build(1)"
    assert imports(source) == ("seechat", "seechat.layout", "seechat.presets", "seechat.world", "seechat.world.scenes")


def test_the_vision_expert_does_not_use_the_bridge_and_the_stitched_do():
    def files(experiment):
        return {path.name for path in closure(next(t for n, t in found.items() if n.startswith(experiment)).entries)}

    found = tasks(ROOT, Path("runs"), "laptop")
    assert "projector.py" not in files("experts/clip")
    assert "projector.py" in files("systems/seechat") & files("03_projector")
    assert "contrastive.py" in files("experts/clip") and "contrastive.py" not in files("systems/seechat")


def test_comments_and_docstrings_do_not_train_again_but_are_shown_in_lessons(tmp_path, monkeypatch):
    found, lock, module = tasks(ROOT, Path("runs"), "laptop"), ROOT / "requirements.lock", tmp_path / "m.py"
    training, lesson = found["experts/clip/own/0"], found["03_projector"]
    monkeypatch.setattr(graph, "closure", lambda entries: (module,))
    monkeypatch.setattr(graph.seechat, "__file__", str(tmp_path / "__init__.py"))
    module.write_text('"""One."""\n\n\ndef f(x):\n    """Two."""\n    return "three"  # four\n')
    before = key(training, lock), key(lesson, lock)
    module.write_text('"""1."""\ndef f(x):\n    """2.\n\n    More.\n    """\n    # 4\n    return "three"\n')
    assert changed(before[0], key(training, lock)) == [] and changed(before[1], key(lesson, lock)) == ["m.py"]
    module.write_text('"""1."""\ndef f(x):\n    return "3"\n')
    assert changed(before[0], key(training, lock)) == ["m.py"]
    module.write_text('"""Only a docstring."""\nclass E(Exception):\n    """And one."""\n')
    assert key(training, lock)["source"]["m.py"]


def test_what_changed_is_named(tmp_path, monkeypatch):
    path, lock = notebook(tmp_path / "n.ipynb", "x = 1"), tmp_path / "lock"
    lock.write_text("a==1")
    module = tmp_path / "projector.py"
    module.write_text("x = 1")
    monkeypatch.setattr(graph, "closure", lambda entries: (module,))
    monkeypatch.setattr(graph.seechat, "__file__", str(tmp_path / "__init__.py"))
    read = tmp_path / "experiments" / "experts" / "clip"
    read.mkdir(parents=True)
    (read / "metrics.csv").write_text("1")
    task = Task("n", path, {"times": 1, "runs": "here"}, tmp_path / "out", ("before",), (), reads=(read,))
    old = key(task, lock)
    assert changed(old, key(replace(task, parameters={"times": 1, "runs": "there"}), lock)) == []
    assert changed(old, key(replace(task, parameters={"times": 2}), lock)) == ["parameters"]
    (read / "metrics.csv").write_text("2")
    assert changed(old, key(task, lock)) == ["experts/clip/metrics.csv"]
    (read / "metrics.csv").write_text("1")
    module.write_text("x = 2")
    assert changed(old, key(task, lock)) == ["projector.py"]
    lock.write_text("a==2")
    notebook(path, "x = 2")
    assert changed(old, key(task, lock)) == ["code", "lock", "projector.py"]
    assert changed(None, old) == ["not made yet"]


def test_words_of_a_notebook_change_nothing(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "x = 1")
    before = graph.code(path)
    content = json.loads(path.read_text())
    content["cells"].append({"cell_type": "markdown", "id": "m", "metadata": {}, "source": "words"})
    path.write_text(json.dumps(content))
    assert graph.code(path) == before


def test_an_experiment_that_stands_before_its_expert_is_refused(tmp_path):
    (tmp_path / "experiments").mkdir()
    for name in ("systems", "experts"):
        (tmp_path / "experiments" / name).symlink_to(ROOT / "experiments" / name)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / "experiments" / "pipeline.yaml").write_text("train: [systems/seechat, experts/clip]\nread: []\n")
    with pytest.raises(SpecError, match="experts/chatglm is needed, but does not stand before"):
        tasks(tmp_path, tmp_path, "smoke")


@pytest.mark.parametrize(("scale", "said"), [("paper", "it runs at laptop or smoke, not at paper"), ("lap", "not at lap")])
def test_a_spec_runs_at_its_own_scale_or_at_smoke(scale, said):
    spec = load_spec(ROOT / "experiments" / "systems" / "seechat")
    assert at_scale(spec, "laptop") == spec
    small = at_scale(spec, "smoke")
    assert small.system == "smoke/seechat" and all(stage.optimisation.steps <= 4 for stage in small.stages) and small.pool <= 24
    with pytest.raises(SpecError, match=said):
        at_scale(spec, scale)


def test_only_takes_what_is_needed_too():
    found = tasks(ROOT, Path("runs"), "smoke")
    assert list(chosen(found, ["systems/seechat/own"])) == ["experts/clip/own/0", "experts/chatglm/own/0", "systems/seechat/own/0"]
    assert list(chosen(found, [])) == list(found)
    with pytest.raises(SpecError, match="nothing in the graph is called 'experts/clop', did you mean"):
        chosen(found, ["experts/clop"])


def test_results_of_smoke_are_never_committed(tmp_path):
    folder = ROOT / "experiments" / "systems" / "seechat"
    with pytest.raises(SpecError, match="results of smoke are not committed, only those of laptop"):
        run_experiment(folder, tmp_path, scale="smoke", arms=[], seeds=[], jobs=1, commit=True, say=print)
    assert not list(tmp_path.iterdir())


# ---- walking ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """Four notebooks: b reads what a writes, c fails, d needs c."""
    (tmp_path / "requirements.lock").write_text("a==1\n")
    out = tmp_path / "runs"

    def task(name: str, body: str, needs: tuple[str, ...] = ()) -> Task:
        path = notebook(tmp_path / "notebooks" / f"{name}.ipynb", body, parameters='folder: str = "."')
        return Task(name, path, {"folder": str(out / name)}, out / name, needs, ())

    write = "from pathlib import Path\nPath(folder, 'x.txt').write_text({})"
    return tmp_path, {
        "a": task("a", write.format("'a'")),
        "c": task("c", "1 / 0"),
        "b": task("b", write.format("Path(folder, '../a/x.txt').read_text() + 'b'"), ("a",)),
        "d": task("d", "1", ("c",)),
    }


def test_a_failure_stops_only_what_needs_it_and_the_next_walk_goes_on(small):
    root, graph_of = small
    lines: list[str] = []
    first = walk(graph_of, root=root, jobs=2, say=lines.append)
    assert sorted(first.made) == ["a", "b"] and first.skipped == []
    assert first.failed["d"] == "not started: c failed"
    assert "c.ipynb, cell 2: ZeroDivisionError: division by zero (executed copy: " in first.failed["c"]
    assert (root / "runs" / "b" / "x.txt").read_text() == "ab"
    notebook(graph_of["c"].notebook, "2", parameters='folder: str = "."')
    second = walk(graph_of, root=root, jobs=1, say=lines.append)
    assert sorted(second.skipped) == ["a", "b"] and second.made == ["c", "d"] and not second.failed
    (root / "runs" / "a" / "x.txt").write_text("changed by hand")
    third = walk(graph_of, root=root, jobs=1, say=lines.append)
    assert third.made == ["a"] and sorted(third.skipped) == ["b", "c", "d"]


def test_a_dry_walk_runs_nothing_and_says_why(small):
    root, graph_of = small
    lines: list[str] = []
    would = walk(graph_of, root=root, jobs=1, say=lines.append, dry=True)
    assert would.made == ["a", "c", "b", "d"] and lines[0] == "a: not made yet"
    assert not (root / "runs").exists()


def test_a_full_disk_is_told_in_one_line(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "import errno, os\nraise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))")
    with pytest.raises(NotebookError, match="n.ipynb, cell 1: the disk is full: free some room and start again, what was saved is kept; "):
        execute(path, tmp_path / "out.ipynb", {}, cwd=tmp_path)


def test_a_dead_kernel_is_told_in_one_line(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotebookError, match="its kernel died"):
        execute(path, tmp_path / "out.ipynb", {}, cwd=tmp_path)


def test_a_lesson_is_kept_with_its_page(small, monkeypatch):
    root, graph_of = small
    kept: list[Path] = []
    monkeypatch.setattr(experiments_module.readme, "main", kept.append)
    lessons = {name: graph_of[name] for name in ("a", "c")}
    done = walk_and_keep(lessons, root=root, scale="laptop", jobs=1, say=lambda line: None)
    assert done.made == ["a"] and list(done.failed) == ["c"] and kept == [root]
    assert [path.name for path in sorted((root / "notebooks" / "rendered").iterdir())] == ["a.md"]


def test_a_lesson_starts_when_what_it_reads_is_kept_and_no_later(tmp_path, monkeypatch):
    """Two experiments of two runs, one of which fails; each has a lesson that reads it."""
    spec, order = load_spec(ROOT / "experiments" / "systems" / "seechat"), []
    graph_of: dict[str, Task] = {}
    for name in ("systems/good", "systems/bad"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
        for arm in ("own", "blind"):
            path = notebook(
                tmp_path / "notebooks" / f"{Path(name).name}-{arm}.ipynb", "1 / 0" if (arm, name[-3:]) == ("blind", "bad") else "1"
            )
            graph_of[f"{name}/{arm}/0"] = Task(f"{name}/{arm}/0", path, {}, tmp_path / "runs" / name / arm, (), (), spec)
    for name in ("good", "bad"):
        path = notebook(tmp_path / "notebooks" / f"about-{name}.ipynb", "1")
        reads = (tmp_path / "experiments" / "systems" / name,)
        graph_of[f"about-{name}"] = Task(f"about-{name}", path, {}, tmp_path / "runs" / name / "lesson", (), (), reads=reads)
    (tmp_path / "requirements.lock").write_text("")
    monkeypatch.setattr(experiments_module, "keep", lambda plans, folder: order.append(f"kept {folder.name}: {len(plans)} runs"))
    monkeypatch.setattr(experiments_module.readme, "main", lambda root: order.append("README"))
    done = walk_and_keep(graph_of, root=tmp_path, scale="laptop", jobs=1, say=order.append)
    assert done.made == ["systems/good/own/0", "systems/good/blind/0", "systems/bad/own/0", "about-good"]
    assert done.failed["about-bad"] == "not started: systems/bad/blind/0 failed"
    told = [line for line in order if line.startswith(("kept", "about", "README", "systems/good/blind"))]
    assert told.index("systems/good/blind/0: made") < told.index("kept good: 2 runs") < told.index("about-good: not made yet")
    assert told[-1] == "README" and not any(line.startswith("kept bad") for line in told)


# ---- exercises ----------------------------------------------------------------------------------------------------------------


def test_an_exercise_is_the_lesson_without_its_solutions(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\nf(1)")
    (tmp_path / "e.ipynb").write_text(exercise(path))
    assert graph.code(tmp_path / "e.ipynb").endswith("def f(x):\n    ...  # yours\nf(1)")


@pytest.mark.parametrize("body", ["### BEGIN SOLUTION\nx", "### END SOLUTION", "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION"])
def test_markers_that_do_not_pair_are_refused(tmp_path, body):
    with pytest.raises(SpecError, match="solution"):
        exercise(notebook(tmp_path / "n.ipynb", body))
