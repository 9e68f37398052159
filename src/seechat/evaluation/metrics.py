"""Answers and captions against their references, as torchmetrics: each state is a tensor, so that ranks add up or join.

Each `compute()` returns a list of `Row`, one a skill and language that was met; captions are the skill "caption".
"""

import json
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple

import jieba
import torch
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from torch import Tensor
from torchmetrics import Metric

from seechat.world.concepts import LANGUAGES
from seechat.world.questions import SKILLS

ORDERS = 4  # n-grams of one to four words


class Row(NamedTuple):
    """The last columns of metrics.csv; ``n`` answers or captions were scored."""

    skill: str
    language: str
    value: float
    n: int


def normalise(text: str) -> str:
    """NFKC, case-folded, without spaces around it and full stops (。.) behind it: what counts as the same answer."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.strip().rstrip("。.").rstrip()


def _index(value: str, known: Sequence[str], what: str) -> int:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
    return known.index(value)


class SkillAccuracy(Metric):
    """The share, 0..1, of answers that equal the right one after `normalise`, by skill and language."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    asked: Tensor

    def __init__(self, skills: Sequence[str] = SKILLS, languages: Sequence[str] = LANGUAGES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skills, self.languages = tuple(skills), tuple(languages)
        zeros = torch.zeros(len(self.skills), len(self.languages), dtype=torch.long)
        self.add_state("right", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("asked", zeros.clone(), dist_reduce_fx="sum")

    def update(
        self, predictions: Sequence[str], answers: Sequence[str], skills: Sequence[str], languages: Sequence[str]
    ) -> None:
        """One of each an item. Raises ValueError for unequal lengths, or an unknown skill or language."""
        for prediction, answer, skill, language in zip(predictions, answers, skills, languages, strict=True):
            cell = _index(skill, self.skills, "skill"), _index(language, self.languages, "language")
            self.right[cell] += normalise(prediction) == normalise(answer)
            self.asked[cell] += 1

    def compute(self) -> list[Row]:
        return [
            Row(skill, language, right / asked, asked)
            for skill, rights, askeds in zip(self.skills, self.right.tolist(), self.asked.tolist(), strict=True)
            for language, right, asked in zip(self.languages, rights, askeds, strict=True)
            if asked
        ]


def _by_language(
    predictions: Sequence[str], references: Sequence[Sequence[str]], languages: Sequence[str]
) -> dict[str, list[tuple[str, Sequence[str]]]]:
    """(prediction, its references) by language. Raises ValueError where a caption has no list of references."""
    grouped: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for i, (prediction, own, language) in enumerate(zip(predictions, references, languages, strict=True)):
        if isinstance(own, str) or not own:
            raise ValueError(f"caption {i}: references must be a list of one text or more, not {own!r}")
        _index(language, LANGUAGES, "language")
        grouped.setdefault(language, []).append((prediction, own))
    return grouped


class CaptionBLEU(Metric):
    """Corpus BLEU-4, 0..100, of each language (Papineni et al. 2002), by sacrebleu: characters for zh, `13a` for en.

    The counts of matches and lengths are kept and not the texts: BLEU of a corpus is a function of their sums.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bleu = {"zh": BLEU(tokenize="zh"), "en": BLEU(tokenize="13a")}
        # a row a language: matches of each order, n-grams of each order, length, length of the references, captions
        self.add_state("counts", torch.zeros(len(LANGUAGES), 2 * ORDERS + 3, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], languages: Sequence[str]
    ) -> None:
        """One caption and its list of references an item."""
        for language, pairs in _by_language(predictions, references, languages).items():
            streams = list(zip_longest(*(own for _, own in pairs)))  # first references, second ones, …; None to fill
            score = self._bleu[language].corpus_score([prediction for prediction, _ in pairs], streams)
            counts = [*score.counts, *score.totals, score.sys_len, score.ref_len, len(pairs)]
            self.counts[LANGUAGES.index(language)] += torch.tensor(counts, device=self.counts.device)

    def compute(self) -> list[Row]:
        rows = []
        for language, (*counts, length, reference_length, n) in zip(LANGUAGES, self.counts.tolist(), strict=True):
            if n:
                right, total = counts[:ORDERS], counts[ORDERS:]
                score = BLEU.compute_bleu(right, total, length, reference_length, smooth_method="exp")
                rows.append(Row("caption", language, score.score, n))
        return rows


@cache
def _jieba() -> jieba.Tokenizer:
    """Our own, so that nobody's added words change a score."""
    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()


def words(text: str, language: str) -> list[str]:
    """Lower-case words without punctuation, by jieba (zh) or sacrebleu's 13a (en)."""
    text = unicodedata.normalize("NFKC", text).lower()
    found = _jieba().lcut(text) if language == "zh" else Tokenizer13a()(text).split()
    return [word for word in found if re.search(r"\w", word)]


def cider_d(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], sigma: float = 6.0
) -> list[float]:
    """CIDEr-D, 0..10, of each caption in words (Vedantam et al. 2015, section 6); idf is over the references given.

    For each order of n-grams: the cosine of the tf-idf vectors, the caption's weights clipped to the reference's, times
    a Gaussian of the difference in length. The mean over orders and references, times 10. A word found with every
    picture weighs nothing, and a caption of fewer than four words has no 4-grams: its best is below 10.
    """
    pictures = [[_grams(reference) for reference in own] for own in references]
    found_with = Counter(gram for own in pictures for gram in set().union(*own))

    def vectors(grams: Counter) -> list[dict[tuple[str, ...], float]]:
        by_order: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDERS)]
        for gram, times in grams.items():
            by_order[len(gram) - 1][gram] = times * math.log(len(pictures) / max(1, found_with[gram]))
        return by_order

    def similarity(ours: dict, theirs: dict) -> float:  # in text order: a set's varies by process
        norms = math.hypot(*ours.values()) * math.hypot(*theirs.values())
        shared = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in ours.items() if gram in theirs)
        return shared / norms if norms else 0.0

    scores = []
    for prediction, texts, own in zip(predictions, references, pictures, strict=True):
        ours, total = vectors(_grams(prediction)), 0.0
        for text, grams in zip(texts, own, strict=True):
            penalty = math.exp(-((len(prediction) - len(text)) ** 2) / (2 * sigma**2))
            total += penalty * sum(map(similarity, ours, vectors(grams)))
        scores.append(10 * total / (ORDERS * len(own)))
    return scores


def _grams(text: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(text) - n + 1))


class CaptionCIDEr(Metric):
    """Mean `cider_d`, 0..10, of each language, on `words`.

    How rare a word is depends on every reference, so the texts are kept: as bytes, a JSON line a caption, which ranks
    join end to end.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    lines: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("lines", [], dist_reduce_fx="cat")

    def update(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], languages: Sequence[str]
    ) -> None:
        """One caption and its list of references an item."""
        for language, pairs in _by_language(predictions, references, languages).items():
            split = [[language, words(text, language), [words(r, language) for r in own]] for text, own in pairs]
            data = "".join(json.dumps(line) + "\n" for line in split).encode()
            self.lines.append(torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self.device))

    def compute(self) -> list[Row]:
        chunks = self.lines if isinstance(self.lines, list) else [self.lines]  # joined by torchmetrics after a sync
        data = b"".join(bytes(chunk.to("cpu", torch.uint8).numpy()) for chunk in chunks)
        captions = sorted(map(json.loads, data.splitlines()))  # no order of batches or ranks moves the last digit
        rows = []
        for language in LANGUAGES:
            own = [(text, references) for name, text, references in captions if name == language]
            if own:
                scores = cider_d([text for text, _ in own], [references for _, references in own])
                rows.append(Row("caption", language, math.fsum(scores) / len(scores), len(scores)))
        return rows
