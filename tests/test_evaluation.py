"""Scores keep their promises: any order, any ranks, known values; intervals cover; tables read as they count."""

import math
import random
import unicodedata

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seechat.evaluation.metrics import CaptionBLEU, CaptionCIDEr, Row, SkillAccuracy, cider_d, normalise, words
from seechat.evaluation.statistics import (
    Interval,
    balance,
    interval,
    majority,
    normalised,
    paired_difference,
    verdict,
)
from seechat.evaluation.table import ALL, ARMS, DIFFERENCE, format_table, results_table, to_html, width

# ---- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("左上。", "左上"), ("左上.", "左上"), (" 左上 \n", "左上"), ("左上．", "左上"), ("左上｡", "左上"),
        ("二。。", "二"),
        ("Top Left.", "top left"), ("ＹＥＳ", "yes"), ("cat .", "cat"), ("STRASSE", "straße"), ("cafe\u0301", "café"),
    ],
)
def test_the_same_answer(said, meant):
    assert normalise(said) == normalise(meant)


@pytest.mark.parametrize(("said", "meant"), [("左下", "左上"), ("not a cat", "cat"), ("", "no"), ("3.5", "35")])
def test_another_answer(said, meant):
    assert normalise(said) != normalise(meant)


items = st.tuples(
    st.sampled_from(["有", "有。", "没有", "Yes", "yes."]),
    st.sampled_from(["有", "没有", "yes"]),
    st.sampled_from(["exist", "relation"]),
    st.sampled_from(["zh", "en"]),
)


@given(st.lists(items, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_accuracy_counts_in_any_order_and_batches(rows, rng):
    whole, parts = SkillAccuracy(), SkillAccuracy()
    whole.update(*zip(*rows, strict=True))
    shuffled = rng.sample(rows, len(rows))
    for row in shuffled:
        parts.update(*([x] for x in row))
    assert whole.compute() == parts.compute()
    for skill, language, value, n in whole.compute():
        own = [normalise(p) == normalise(a) for p, a, s, lang in rows if (s, lang) == (skill, language)]
        assert (value, n) == (pytest.approx(np.mean(own)), len(own))


def test_accuracy_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown skill 'colour'; known: what, where"):
        SkillAccuracy().update(["a"], ["a"], ["colour"], ["en"])
    with pytest.raises(ValueError, match="unknown language 'fr'"):
        SkillAccuracy().update(["a"], ["a"], ["what"], ["fr"])
    with pytest.raises(ValueError):
        SkillAccuracy().update(["a", "b"], ["a"], ["what"], ["en"])


# ---- captions ------------------------------------------------------------------------------------

EN = [
    ("a cat at the top left.", ["A cat at top left, dog at bottom right.", "the cat sits at the top left"]),
    ("the dog and the cat", ["the dog and the cat"]),
    ("dog dog dog dog dog", ["a dog runs in the park, a dog sleeps"]),
    ("two red apples on a big wooden table near the window",
     ["red apples on a table", "two apples on a wooden table", "some fruit near a window"]),
]
ZH = [
    ("左上有猫，右下有狗。", ["左上有猫，右下有狗。"]),
    ("苹果在桌子上。", ["红苹果在左上，桌子在右下。", "桌子上有苹果"]),
    ("猫、狗。", ["左上有狗，右上有猫。"]),
    ("一只狗", ["右下有一只大狗，左下有一只猫。"]),
]
CORPUS = [(*pair, "en") for pair in EN] + [(*pair, "zh") for pair in ZH]
# by pycocoevalcap 1.2, cider_scorer.CiderScorer(n=4, sigma=6.0), given `words` joined by spaces
REFERENCE = {
    "en": [4.329475811842382, 10.0, 0.1586591461279776, 1.8548906809485133],
    "zh": [10.0, 2.383307895900423, 0.9375346783581355, 1.0812762938895633],
}


def scored(metric, rows):
    metric.update(*zip(*rows, strict=True))
    return metric.compute()


@pytest.mark.parametrize(("language", "pairs"), [("en", EN), ("zh", ZH)])
def test_cider_equals_the_reference_implementation(language, pairs):
    split = [(words(p, language), [words(r, language) for r in own]) for p, own in pairs]
    assert cider_d(*zip(*split, strict=True)) == pytest.approx(REFERENCE[language], rel=1e-12)
    [row] = scored(CaptionCIDEr(), [(*pair, language) for pair in pairs])
    assert row == Row("caption", language, pytest.approx(np.mean(REFERENCE[language])), len(pairs))


def test_cider_by_hand():
    """Two pictures, one word each: tf-idf is log 2 in one dimension, cosine of 1-grams 1, other orders are empty."""
    assert cider_d([["cat"], ["dog"]], [[["cat"]], [["bird"]]]) == pytest.approx([10 / 4, 0])
    assert cider_d([["cat"]], [[["cat"]]]) == [0]  # a word found with every picture weighs nothing
    length = math.exp(-1 / 72)  # one word too many; min(2, 1) * 1 / (2 * 1) of 1-grams, nothing shared of 2-grams
    assert cider_d([["cat", "cat"], ["dog"]], [[["cat"]], [["dog"]]])[0] == pytest.approx(10 * length * 0.5 / 4)


def test_bleu_by_hand():
    """5 of 6 words, 3 of 5, 2 of 4, 1 of 3 n-grams match, one length."""
    [row] = scored(CaptionBLEU(), [("a cat sits at the bottom", ["a cat sits at the top"], "en")])
    assert row.value == pytest.approx(100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    [row] = scored(CaptionBLEU(), [("左上有猫", ["左上有猫，右下有狗"], "zh")])  # all match, 4 characters of 9
    assert row.value == pytest.approx(100 * math.exp(1 - 9 / 4))


@pytest.mark.parametrize("metric", [CaptionBLEU, CaptionCIDEr])
def test_captions_score_alike_in_any_order_and_batches(metric):
    whole = scored(metric(), CORPUS)
    assert [(row.skill, row.language, row.n) for row in whole] == [("caption", "zh", 4), ("caption", "en", 4)]
    for seed in range(5):
        shuffled, parts = random.Random(seed).sample(CORPUS, len(CORPUS)), metric()
        for start in range(0, len(CORPUS), 3):
            parts.update(*zip(*shuffled[start : start + 3], strict=True))
        assert parts.compute() == whole


captions = st.lists(st.sampled_from(["a", "cat", "dog", "at", "top", "left", "the"]), min_size=4, max_size=9)


@given(st.lists(captions, min_size=2, max_size=6), st.data())
@settings(max_examples=25, deadline=None)
def test_nothing_beats_the_reference_itself(references, data):
    """With one reference a picture: BLEU 100, and the most CIDEr-D that any caption can have."""
    texts = [" ".join(r) for r in references]
    [row] = scored(CaptionBLEU(), [(t, [t], "en") for t in texts])
    assert row.value == pytest.approx(100)
    own = [[r] for r in references]
    best = cider_d(references, own)
    others = [data.draw(captions) for _ in references]
    assert all(0 <= other <= top + 1e-9 <= 10 + 2e-9 for other, top in zip(cider_d(others, own), best, strict=True))


def test_four_rare_words_score_ten():
    pairs = [(text := f"{a} {b} {c} {d}", [text], "en") for a, b, c, d in ("abcd", "efgh")]
    assert scored(CaptionCIDEr(), pairs) == [Row("caption", "en", pytest.approx(10), 2)]


def test_one_string_is_no_list_of_references():
    for metric in (CaptionBLEU(), CaptionCIDEr()):
        with pytest.raises(ValueError, match="caption 0: references must be a list"):
            metric.update(["cat"], ["cat"], ["en"])
        with pytest.raises(ValueError, match="caption 0"):
            metric.update(["cat"], [[]], ["en"])


def test_chinese_words_and_quiet_punctuation():
    assert words("苹果在桌子上。", "zh") == ["苹果", "在", "桌子", "上"]
    assert words("A cat, at the top-left!", "en") == ["a", "cat", "at", "the", "top-left"]
    assert words("。", "zh") == words("", "en") == []


def answers_corpus():
    return [("有", "有", "exist", "zh"), ("no", "yes", "exist", "en"), ("左上", "左上", "where", "zh")]


@pytest.mark.parametrize(
    ("metric", "rows"), [(SkillAccuracy, answers_corpus()), (CaptionBLEU, CORPUS), (CaptionCIDEr, CORPUS)]
)
def test_two_ranks_score_as_one(metric, rows):
    """The second rank's states are handed to the first by torchmetrics' own sync, in place of the network."""
    whole = scored(metric(), rows)
    first, second = metric(), metric()
    for row in rows[:2]:
        first.update(*([x] for x in row))
    second.update(*zip(*rows[2:], strict=True))
    states = iter([torch.cat(s) if isinstance(s, list) else s for s in second.metric_state.values()])
    first.sync(dist_sync_fn=lambda mine, group: [mine, next(states)], distributed_available=lambda: True)
    assert metric.compute(first) == whole


@pytest.mark.parametrize(
    ("metric", "rows"), [(SkillAccuracy, answers_corpus()), (CaptionBLEU, CORPUS), (CaptionCIDEr, CORPUS)]
)
def test_states_reset(metric, rows):
    scorer = metric()
    once = scored(scorer, rows)
    scorer.reset()
    assert scored(scorer, rows) == once


# ---- statistics ----------------------------------------------------------------------------------

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(outcomes, st.randoms(use_true_random=False), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=40, deadline=None)
def test_a_paired_interval_holds_its_mean_in_any_order(pairs, rng, confidence):
    a, b = np.array(pairs, dtype=int).T
    found = paired_difference(a, b, confidence)
    assert found.mean == pytest.approx(a.mean() - b.mean()) and found.n == len(pairs)
    assert -1 <= found.low <= found.mean <= found.high <= 1 and found.low < found.high
    again = paired_difference(*np.array(rng.sample(pairs, len(pairs)), dtype=int).T, confidence)
    assert again == pytest.approx(found)
    mirrored = paired_difference(b, a, confidence)
    assert (mirrored.mean, mirrored.low, mirrored.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_identical_outcomes_are_no_certainty():
    a = np.arange(100) % 2
    found = paired_difference(a, a)
    assert found.mean == 0 and found.low == -found.high and 0.015 < found.high < 0.025
    assert verdict(paired_difference([1, 0, 1], [1, 0, 1]), 0.02, "equivalent") == "undecided"
    assert verdict(paired_difference(a.repeat(10), a.repeat(10)), 0.02, "equivalent") == "supported"


@pytest.mark.parametrize("cells", [(0.5, 0.2, 0.1, 0.2), (0.9, 0.02, 0.02, 0.06), (0.1, 0.7, 0.05, 0.15)])
@pytest.mark.parametrize("n", [30, 200])
def test_paired_intervals_cover(cells, n):
    """About 95 of 100 intervals hold the true difference; `cells`: both right, only a, only b, neither."""
    rng, hits, draws = np.random.default_rng(0), 0, 400
    for cell in rng.choice(4, p=cells, size=(draws, n)):
        found = paired_difference(cell <= 1, (cell == 0) | (cell == 2))
        hits += found.low <= cells[1] - cells[2] <= found.high
    assert 0.93 <= hits / draws <= 1


def test_seed_intervals_cover():
    rng = np.random.default_rng(0)
    found = [interval(x) for x in rng.normal(1, 2, size=(1000, 5))]
    assert 0.93 <= np.mean([i.low <= 1 <= i.high for i in found]) <= 0.97


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_seed_interval_holds_its_mean(values):
    found = interval(values)
    assert found.low <= found.mean <= found.high and found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))


def test_an_interval_by_hand_and_its_edges():
    assert interval([1, 2, 3]) == pytest.approx((2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3), 3))
    assert interval([0.5, 0.5]) == (0.5, 0.5, 0.5, 2)
    alone = interval([0.5])
    assert alone.mean == 0.5 and math.isnan(alone.low) and verdict(alone, 0.1, "greater") == "undecided"
    for broken in (lambda: interval([]), lambda: paired_difference([], []), lambda: paired_difference([1], [1, 0]),
                   lambda: paired_difference([0.5], [1])):
        with pytest.raises(ValueError):
            broken()


@given(st.lists(st.sampled_from("猫狗鸟鱼"), min_size=1, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_majority_is_the_head_of_the_balance(answers, rng):
    shares = balance(answers)
    assert sum(shares.values()) == pytest.approx(1) and list(shares.values()) == sorted(shares.values(), reverse=True)
    assert majority(answers) == next(iter(shares.items())) == majority(rng.sample(answers, len(answers)))


def test_majority_of_nothing():
    assert balance([]) == {} and majority(["b", "a"]) == ("a", 0.5)
    with pytest.raises(ValueError):
        majority([])


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_normalised_ends(blind, oracle):
    assume(abs(oracle - blind) > 1e-3)
    assert normalised(blind, blind, oracle) == 0 and normalised(oracle, blind, oracle) == pytest.approx(1)
    assert math.isnan(normalised(0.7, blind, blind))


@pytest.mark.parametrize(
    ("low", "high", "greater", "less", "equivalent"),
    [
        (0.03, 0.09, "supported", "refuted", "refuted"),
        (-0.01, 0.01, "equivalent", "equivalent", "supported"),
        (0.005, 0.015, "equivalent", "equivalent", "supported"),  # there, but too small to matter
        (-0.09, -0.03, "refuted", "supported", "refuted"),
        (0.01, 0.05, "undecided", "refuted", "undecided"),
        (-0.05, 0.01, "refuted", "undecided", "undecided"),
        (-0.05, 0.05, "undecided", "undecided", "undecided"),
        (math.nan, math.nan, "undecided", "undecided", "undecided"),
    ],
)
def test_verdicts(low, high, greater, less, equivalent):
    found = Interval((low + high) / 2, low, high, 10)
    assert [verdict(found, 0.02, e) for e in ("greater", "less", "equivalent")] == [greater, less, equivalent]


def test_a_claim_is_spelled_right():
    with pytest.raises(ValueError, match="expects"):
        verdict(Interval(0, 0, 0, 1), 0.02, "bigger")
    with pytest.raises(ValueError, match="margin"):
        verdict(Interval(0, 0, 0, 1), -0.02, "greater")


# ---- the table -----------------------------------------------------------------------------------

RIGHT = {"majority": 0.25, "blind": 0.25, "shuffled": 0.3, "model": 0.8, "oracle": 0.95}


@pytest.fixture
def outcome_rows():
    return pd.DataFrame(
        {"arm": arm, "skill": skill, "language": language, "item": i, "correct": int(i < RIGHT[arm] * 40),
         "tier": "seen", "artist": "twemoji"}
        for arm in ARMS for skill in ("where", "what") for language in ("en", "zh") for i in range(40)
    )


def test_the_table_counts(outcome_rows):
    table = results_table(outcome_rows)
    assert list(table.index) == ["what", "where", ALL] and list(table.columns.unique(0)) == ["zh", "en"]
    for (skill, n), language in [((s, n), lang) for s, n in (("what", 40), (ALL, 80)) for lang in ("zh", "en")]:
        row = table.loc[skill, language]
        assert row[list(ARMS)].to_dict() == pytest.approx({arm: 100 * share for arm, share in RIGHT.items()})
        assert row["n"] == n and row[DIFFERENCE] == pytest.approx(55) and row["normalised"] == pytest.approx(0.55 / 0.7)
        one = outcome_rows.query("arm in ('model', 'blind') and language == @language")
        wide = (one if skill == ALL else one[one.skill == skill]).pivot(
            index=["skill", "item"], columns="arm", values="correct")
        assert 100 * paired_difference(wide.model, wide.blind).low == pytest.approx(row["low"])
    pd.testing.assert_frame_equal(results_table(outcome_rows.sample(frac=1, random_state=0)), table)


def test_the_table_reads(outcome_rows):
    outcome_rows["skill"] = outcome_rows["skill"].replace("where", "在哪里")
    table = results_table(outcome_rows[outcome_rows["arm"] != "shuffled"])
    text = format_table(table)
    for block in text.split("\n\n"):
        assert len({width(line) for line in block.splitlines()}) == 1
        assert "80.0" in block and "–" in block and "+55.0 [+" in block and "0.79" in block and "在哪里" in block
    assert max(width(line) for line in text.splitlines()) <= 100
    html = to_html(table)
    assert "在哪里" in html and "+55.0 [+" in html and "nan" not in (html + text).lower()


def test_the_table_refuses_what_it_would_blur(outcome_rows):
    unseen = outcome_rows.assign(tier="unseen")
    both = pd.concat([outcome_rows, unseen])
    with pytest.raises(ValueError, match="one tier a table"):
        results_table(both)
    pd.testing.assert_frame_equal(results_table(both, tier="seen"), results_table(outcome_rows))
    with pytest.raises(ValueError, match="one artist a table"):
        results_table(outcome_rows, artist="openmoji")
    with pytest.raises(ValueError, match="answered twice: {'skill': 'where'"):
        results_table(pd.concat([outcome_rows, outcome_rows.head(1)]))
    with pytest.raises(ValueError, match="majority lacks 1 of the 40 items of where in en"):
        results_table(outcome_rows.iloc[1:])


def test_width_of_wide_and_combining():
    assert (width("猫a"), width("e\u0301"), width(unicodedata.normalize("NFC", "e\u0301"))) == (3, 1, 1)
