"""README says what is true now: its files exist, its commands exist, its numbers are those of the committed data."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from seechat import cli
from seechat.reporting.drift import lessons
from seechat.reporting.readme import READMES, filled

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=READMES)
def text(request) -> str:
    return (ROOT / request.param).read_text(encoding="utf-8")


def test_links_and_pictures_exist(text):
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_paths_named_in_commands_exist(text):
    for path in re.findall(r"(?:experiments|notebooks)/[\w./-]+", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"^\| `([\w./]+)`", text, flags=re.M):
        assert (ROOT / path).exists() or (ROOT / "src/seechat" / path).exists(), path


def test_every_command_is_one_of_the_command_line(text):
    commands = get_command(cli.app).commands
    named = re.findall(r"\.venv/bin/seechat (\w+)", text)
    assert named and set(named) <= set(commands)
    for target in re.findall(r"^make (\w+)", text, flags=re.M):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_numbers_are_those_of_the_committed_results(text):
    assert filled(text) == text


def test_both_languages_show_the_same_commands():
    blocks = [re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.S) for name in READMES]
    plain = [[line.split("#")[0].strip() for block in each for line in block.splitlines()] for each in blocks]
    assert plain[0] == plain[1]


def test_every_room_and_every_lesson_is_named(text):
    rooms = [path.parent.name for path in (ROOT / "src/seechat").glob("*/__init__.py")]
    assert rooms and all(f"`{room}/`" in text or f"`src/seechat/{room}`" in text for room in rooms), rooms
    for notebook in lessons(ROOT):
        assert f"(notebooks/rendered/{notebook.stem}.md)" in text
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert notebook.name in text
