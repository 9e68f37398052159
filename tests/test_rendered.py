"""The pages that readers browse: made from the notebooks as they are, folded, linked, small; and the versions without solutions."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from small_notebooks import notebook

from seechat.foundation.strict import SpecError
from seechat.presets import experiments
from seechat.reporting import drift, rendered
from seechat.reporting.execution import execute

ROOT = experiments().parent
LESSONS = drift.lessons(ROOT)
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)

DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
SOLUTION = "### BEGIN SOLUTION\nanswer = 42\n### END SOLUTION\nprint('the answer is', answer)"


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> tuple[Path, Path]:
    """A small lesson with a picture and a solution, and its execution."""
    folder = tmp_path_factory.mktemp("lesson")
    path = notebook(folder / "00_small.ipynb", DRAW, SOLUTION)
    content = nbformat.read(path, as_version=4)
    content.cells.append(nbformat.v4.new_markdown_cell("[next](01_other.ipynb), [log](../experiments/LOG.md)", id="links"))
    nbformat.write(content, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # figures go into the notebook
        execute(path, folder / "executed.ipynb", {"times": 3}, cwd=folder)
    return path, folder / "executed.ipynb"


@each_lesson
def test_a_page_is_made_from_its_notebook_as_it_is(path):
    finding = drift.pages(path)
    assert finding.ok, str(finding)


@each_lesson
def test_a_page_is_small_and_its_links_lead_somewhere(path):
    page = path.parent / "rendered" / f"{path.stem}.md"
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert targets and all((page.parent / target).exists() for target in targets if target)
    pictures = list((page.parent / path.stem).glob("*.png"))
    assert {f"{path.stem}/{picture.name}" for picture in pictures} == {target for target in targets if target.endswith(".png")}
    assert len(text.encode()) + sum(picture.stat().st_size for picture in pictures) <= rendered.LARGEST
    assert "<style" not in text and "injected" not in text and "Traceback" not in text
    assert "laptop" in text.splitlines()[0]


@each_lesson
def test_an_exercise_version_has_no_solution(path):
    if rendered.BEGIN not in path.read_text(encoding="utf-8"):
        pytest.skip("a notebook without exercises")
    text = (path.parent / "exercises" / path.name).read_text(encoding="utf-8")
    assert "SOLUTION" not in text and "# yours" in text
    nbformat.validate(nbformat.read(path.parent / "exercises" / path.name, as_version=4))


def test_a_page_shows_what_ran(executed, tmp_path):
    path, done = executed
    rendered.publish(path, done, "laptop", tmp_path)
    text = (tmp_path / "rendered" / "00_small.md").read_text()
    assert "Executed at **laptop** scale" in text and "times = 3" not in text
    assert "[next](01_other.md), [log](../../experiments/LOG.md)" in text
    assert re.search(r"<details>.*answer = 42.*the answer is 42.*</details>", text, flags=re.S) and "SOLUTION" not in text
    assert "![cell-0](00_small/cell-0-0.png)" in text and (tmp_path / "rendered/00_small/cell-0-0.png").is_file()
    assert "answer = 42" not in (tmp_path / "exercises" / "00_small.ipynb").read_text()
    assert text.rstrip().endswith(rendered.mark(path))


def test_a_picture_that_is_no_longer_drawn_goes(executed, tmp_path):
    path, done = executed
    (tmp_path / "rendered" / "00_small").mkdir(parents=True)
    (tmp_path / "rendered" / "00_small" / "old.png").write_bytes(b"")
    rendered.publish(path, done, "laptop", tmp_path)
    assert [each.name for each in (tmp_path / "rendered" / "00_small").iterdir()] == ["cell-0-0.png"]


def test_a_page_too_large_is_refused(executed, tmp_path, monkeypatch):
    monkeypatch.setattr(rendered, "LARGEST", 1000)
    with pytest.raises(SpecError, match=r"00_small.ipynb: its page has [\d,]+ bytes with its pictures, 1,000 at most"):
        rendered.publish(*executed, "laptop", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_changed_word_makes_a_page_old(executed, tmp_path):
    path, done = executed
    here = tmp_path / path.name
    here.write_bytes(path.read_bytes())
    rendered.publish(here, done, "laptop", tmp_path)
    assert drift.pages(here).ok
    (tmp_path / "rendered" / "00_small" / "cell-0-0.png").rename(tmp_path / "away.png")
    assert "cell-0-0.png is missing" in str(drift.pages(here))
    (tmp_path / "away.png").rename(tmp_path / "rendered" / "00_small" / "cell-0-0.png")
    (tmp_path / "exercises" / path.name).write_text("{}")
    assert "without solutions is older" in str(drift.pages(here))
    content = json.loads(here.read_text())
    content["cells"][-1]["source"] = "other words"
    here.write_text(json.dumps(content))
    assert "older than its notebook" in str(drift.pages(here))
