"""Data cards and benches: what they say is what is there."""

from pathlib import Path

import pytest

from seechat.reporting import cards
from seechat.reporting.bench import SCENES, bench_world

FOLDER = Path(__file__).parents[1] / "data_cards"


@pytest.mark.parametrize("name", list(cards.blocks()))
def test_the_measured_block_is_current(name):
    card = (FOLDER / name).read_text(encoding="utf-8")
    assert card == cards.renewed(card, cards.blocks()[name]), "run: python -m seechat.reporting.cards"


@pytest.mark.parametrize("name", list(cards.blocks()))
def test_a_card_says_licence_and_languages(name):
    import yaml

    _, front, body = (FOLDER / name).read_text(encoding="utf-8").split("---\n", 2)
    assert {"license", "language", "pretty_name", "size_categories"} <= set(yaml.safe_load(front))
    for title in ("What it is", "How it is made", "Licence", "Splits", "Measured"):
        assert f"\n## {title}" in body


def test_a_card_without_markers_is_refused():
    with pytest.raises(ValueError, match="measured"):
        cards.renewed("# a card", "block")


def test_bench_counts_scenes():
    (row,) = bench_world(seconds=0.2, processes=1)
    assert row.value > 0 and row.unit == "scenes/s" and row.ratio == pytest.approx(row.value / SCENES)
