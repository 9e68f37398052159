"""The demo's page: every answer on it, Chinese drawn, the same bytes each time."""

import numpy as np
import pandas as pd
import pytest

from seechat.evaluation.table import results_table
from seechat.reporting.page import write_page
from seechat.world.questions import SKILLS, Exchange


@pytest.fixture()
def page(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"arm": arm, "skill": skill, "language": language, "item": f"{skill}-{language}-{n}", "correct": int(rng.integers(2)),
         "tier": "seen", "artist": "twemoji"}
        for arm in ("majority", "blind", "model", "oracle") for skill in SKILLS for language in ("zh", "en") for n in range(6)
    ]  # fmt: skip
    picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
    said = [(Exchange("what", "zh", "左上是什么？", "猫"), "猫"), (Exchange("where", "en", "Where is the <dog>?", "top left"), "nothing")]
    steps = pd.DataFrame({"stage": ["alignment"] * 5 + ["instruction"] * 5, "step": [1, 2, 3, 4, 5] * 2, "loss": np.linspace(3, 1, 10)})

    def write(name):
        (tmp_path / name).mkdir()
        return write_page(tmp_path / name, results_table(pd.DataFrame(rows)), [(picture, said)], steps)

    return write


def test_the_page_shows_answers_right_and_wrong_and_escapes_what_was_typed(page):
    text = page("one").read_text(encoding="utf-8")
    assert "左上是什么？" in text and "CC-BY-4.0" in text and "Scale: laptop" in text
    assert "&lt;dog&gt;" in text and "<dog>" not in text


def test_the_same_page_is_the_same_bytes(page):
    one, two = page("one"), page("two")
    for suffix in (".html", ".png"):
        assert one.with_suffix(suffix).read_bytes() == two.with_suffix(suffix).read_bytes()
