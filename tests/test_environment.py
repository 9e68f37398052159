"""The three descriptions of the environment agree, and no file tells on the machine it was written on."""

import re
import subprocess
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]


def lock(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


LOCK = lock("requirements.lock")
PINS = dict(line.split("==") for line in LOCK)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cards.lock"])
def test_a_lock_is_exact_pins_each_once_and_in_order(name):
    exact = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*")  # no index, no path, no local build such as +cpu
    pins = lock(name)
    assert not [line for line in pins if not exact.fullmatch(line)]
    assert sorted(pins) == pins and len(pins) == len(dict(line.split("==") for line in pins))


def test_the_lock_of_the_cards_has_only_what_the_other_lacks():
    cards = dict(line.split("==") for line in lock("requirements-cards.lock"))
    assert not set(cards) & set(PINS)
    (wanted,) = map(Requirement, PROJECT["optional-dependencies"]["cards"])
    assert cards[wanted.name] in wanted.specifier


@pytest.mark.parametrize("requirement", RANGES, ids=str)
def test_every_range_of_the_project_holds_its_pin(requirement):
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_pin_of_torch():
    assert PINS["torch"] == "2.13.0"


@pytest.mark.parametrize("malicious", ["2.6.2", "2.6.3"])
def test_malicious_lightning_is_excluded_by_name(malicious):
    (lightning,) = (each for each in RANGES if each.name == "lightning")
    assert f"!={malicious}" in map(str, lightning.specifier)
    assert PINS["lightning"] != malicious and PINS["pytorch-lightning"] != malicious


def test_conda_takes_the_lock_and_a_python_the_project_allows():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (python,) = (each.removeprefix("python=") for each in conda if str(each).startswith("python="))
    assert f"{python}.0" in SpecifierSet(PROJECT["requires-python"])
    assert {"pip": ["-r requirements.lock"]} in conda


def test_the_font_draws_chinese(tmp_path):
    from matplotlib import font_manager, pyplot
    from pylopdf_fonts_zh_cn import sans_path

    font_manager.fontManager.addfont(sans_path())
    figure = pyplot.figure()
    figure.text(0, 0, "图文对齐：模型在看什么？", font=font_manager.FontProperties(fname=sans_path()).get_name())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that is missing is a warning
        figure.savefig(tmp_path / "figure.png")
    pyplot.close(figure)


TELLTALE = re.compile(
    r"(?<![\w.~/}-])/(?:work|root|home|Users)/\w"  # a folder of one machine
    r"|[A-Z]:\\+Users"
    r"|https?://[\w.-]*\b(?:pypi|pythonhosted|npmjs)\b|https?://\S+/simple\b",  # where packages were fetched from
)


@pytest.mark.parametrize(
    "text, tells",
    [
        ("see /" + "work/main/x.py", True),
        ('"/' + 'home/ann/runs"', True),
        ("https://" + "mirror.example.org/simple", True),
        ("notebooks/work/a.py and ~/work/b and https://example.org/home/c", False),
        ("a simple/home/made thing", False),
    ],
)
def test_what_tells(text, tells):
    assert bool(TELLTALE.search(text)) == tells


def test_no_committed_file_tells_where_it_was_written():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:  # text
            lines = content.decode("utf-8", errors="replace").splitlines()
            found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if TELLTALE.search(line)]
    assert not found
