"""Lessons are sources without outputs that a reader and a machine can trust; the projector's runs from its first cell to its last."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import torch

import seechat
from seechat.reporting.architecture import architecture, write_architecture
from seechat.reporting.figures import number, save_figure, structure_figure
from seechat.reporting.graph import tasks
from seechat.training.freeze import apply_plan

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLANS = {"alignment": ["bridge.*"], "instruction": ["bridge.*", "language.*"]}
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def python(cell: nbformat.NotebookNode) -> ast.Module:
    """Without lines of magic."""
    return ast.parse("\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in cell.source.splitlines()))


# ---- sources -------------------------------------------------------------------------------------------------------


def test_there_are_notebooks():
    assert "03_projector" in [path.stem for path in NOTEBOOKS]


@each_notebook
def test_a_source_has_no_outputs_and_the_plain_kernel(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
    assert path.read_text(encoding="utf-8").endswith("}\n") and "\\u4e" not in path.read_text(encoding="utf-8")


@each_notebook
def test_cell_ids_are_unique_and_say_what_the_cell_is(path):
    ids = [cell.id for cell in read(path).cells]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", id) and not re.fullmatch(r"[0-9a-f]{8}", id) for id in ids), ids


@each_notebook
def test_one_cell_of_parameters_typed_and_commented(path):
    tagged = [cell for cell in read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    for statement in python(tagged[0]).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        assert "#" in "".join(lines[statement.lineno - 1 : statement.end_lineno]), ast.unparse(statement)


@each_notebook
def test_solutions_begin_and_end(path):
    for cell in read(path).cells:
        marks = [line.strip() for line in cell.source.splitlines() if line.strip() in (BEGIN, END)]
        assert marks == [BEGIN, END] * (len(marks) // 2), cell.id
        assert cell.source.count("SOLUTION") == len(marks), f"{cell.id}: a marker stands alone on its line"


@each_notebook
def test_what_is_imported_exists(path):
    for cell in code(read(path)):
        for node in ast.walk(python(cell)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@each_notebook
def test_pictures_of_the_world_name_their_artists(path):
    notebook = read(path)
    if any("render(" in cell.source for cell in code(notebook)):
        assert any("Artwork: Twemoji, CC-BY-4.0" in cell.source for cell in code(notebook))


# ---- the lesson runs -----------------------------------------------------------------------------------------------


DRAWN = {  # the cells of a lesson that draw
    "00_start_here": {"world", "structure", "control", "distances"},
    "01_pictures_to_tokens": {"filters", "positions", "looks", "temperature", "train", "probe", "names", "exercise-3-solution"},
    "02_language_and_masks": {"boxes", "masks", "packed", "positions", "norms", "surprise", "top-five", "train-plot"},
    "03_projector": {
        "scene", "colours", "cosine", "names-before", "slots", "alignment", "names-after", "instruction", "blind", "table-plot",
        "structure-stage-1", "structure-stage-2", "structure-paper", "exercise-3-solution",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_a_lesson_runs_at_smoke_scale(name, tmp_path, monkeypatch):
    """In a folder of its own, so that it leans on no working directory. Papermill raises where a cell fails."""
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures go into the notebook
    task = tasks(ROOT, tmp_path, "smoke")[name]
    done = papermill.execute_notebook(
        task.notebook, tmp_path / "done.ipynb", dict(task.parameters), cwd=tmp_path, progress_bar=False, execution_timeout=300
    )
    outputs = {cell.id: cell.outputs for cell in code(done) if "injected-parameters" not in cell.metadata.tags}
    told = [output.text for found in outputs.values() for output in found if output.output_type == "stream"]
    assert not any("missing from" in text or "Glyph" in text for text in told), "boxes in place of letters"
    assert {id for id, found in outputs.items() for output in found if "image/png" in output.get("data", {})} == DRAWN[name]
    assert [path.name for path in tmp_path.iterdir()] == ["done.ipynb"], "a lesson leaves nothing behind"


# ---- the figure of the structure -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sizes() -> dict:
    return architecture(seechat.build("smoke/seechat"), PLANS)


def test_architecture_counts_what_a_freeze_plan_trains(tmp_path, sizes):
    model = seechat.build("smoke/seechat")
    write_architecture(tmp_path / "architecture.json", model, PLANS)
    assert json.loads((tmp_path / "architecture.json").read_text(encoding="utf-8")) == sizes
    assert sum(part["parameters"] for part in sizes["parts"].values()) == sum(p.numel() for p in model.parameters())
    for stage, plan in PLANS.items():
        apply_plan(model, plan)
        assert sum(sizes["stages"][stage].values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert list(sizes["stages"]["alignment"]) == ["bridge"]
    rows = {"half": ["language.*.attention.*"]}
    assert 0 < architecture(model, rows)["stages"]["half"]["language"] < sizes["parts"]["language"]["parameters"]
    with pytest.raises(ValueError, match=r"'brige\.\*' names no parameter"):
        architecture(model, {"typo": ["brige.*"]})


def test_architecture_of_the_published_sizes():
    paper = architecture(seechat.build("paper/seechat", device="meta"), PLANS)
    vision, bridge, language = paper["parts"].values()
    assert paper["picture"] == {"size": 224, "patch": 14, "patches": 256} and paper["tokens"] == 256
    assert (vision["layers"], vision["read"], vision["width"], vision["heads"]) == (24, 23, 1024, 16)
    assert (bridge["from"], bridge["to"], bridge["merge"], bridge["parameters"]) == (1024, 4096, 1, 4_198_400)
    assert (language["layers"], language["width"], language["heads"], language["vocabulary"]) == (28, 4096, 32, 130528)
    assert number(language["parameters"]) == "6.71 B"


@pytest.mark.parametrize("trained", [(), ("bridge",), ("bridge", "language")])
def test_a_figure_has_the_same_bytes_twice(tmp_path, sizes, trained):
    for name in ("one", "two"):
        save_figure(structure_figure(sizes, trained), tmp_path / name)
    for suffix in (".svg", ".png"):
        one, two = (tmp_path / f"{name}{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes() and len(one.read_bytes()) > 5_000
    assert b"<dc:date>" not in (tmp_path / "one.svg").read_bytes()


def test_other_parts_trained_other_figure(tmp_path, sizes):
    save_figure(structure_figure(sizes, ("bridge",)), tmp_path / "one")
    save_figure(structure_figure(sizes, ("language",)), tmp_path / "two")
    assert (tmp_path / "one.svg").read_bytes() != (tmp_path / "two.svg").read_bytes()
    with pytest.raises(ValueError, match="no part is called 'brigde'; there are vision, bridge, language"):
        structure_figure(sizes, ("brigde",))


def test_figures_need_no_torch():
    assert torch.__version__  # this process has it, the other must not
    told = "import seechat.reporting.figures, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], env=None, timeout=120).returncode == 0


@pytest.mark.parametrize(("n", "text"), [(7, "7"), (24704, "24.7 k"), (4_198_400, "4.2 M"), (6_707_000_000, "6.71 B"), (999_999, "1 M")])
def test_numbers_have_three_digits(n, text):
    assert number(n) == text
