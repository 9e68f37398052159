"""From outcomes to intervals, and from intervals to verdicts."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Answer = TypeVar("Answer", bound=Hashable)
Expectation = Literal["greater", "less", "equivalent"]
Verdict = Literal["supported", "refuted", "equivalent", "undecided"]


class Interval(NamedTuple):
    """``n`` items or seeds are behind it."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean over seeds. One value alone has no bounds (NaN). Raises ValueError for none."""
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"one value a seed, please, not an array of shape {x.shape}")
    if x.size == 1:
        return Interval(float(x[0]), np.nan, np.nan, 1)
    half = stats.t.ppf((1 + confidence) / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size)
    mean = float(x.mean())
    return Interval(mean, float(mean - half), float(mean + half), x.size)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """How much more often `a` is right than `b` on the same items (0/1 each), with its interval.

    Student's t interval of the differences, once half an item is added to each of the four outcomes (both, only a,
    only b, neither; Agresti and Min 2005, Statistics in Medicine 24:729). So n identical outcomes give about ± 2/n and
    not the certainty that a plain t or a bootstrap interval would claim. The mean is the plain one; bounds stay within
    [-1, 1].
    Raises ValueError for unequal lengths, no items, or other values.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise ValueError(f"outcomes must pair up one to one; got shapes {a.shape} and {b.shape}")
    if not np.isin((a, b), (0, 1)).all():
        raise ValueError("outcomes must be 0 or 1")
    n, mean = a.size, float((a - b).mean())
    only_a, only_b = np.sum(a > b) + 0.5, np.sum(b > a) + 0.5
    centre = (only_a - only_b) / (n + 2)
    error = np.sqrt(((only_a + only_b) / (n + 2) - centre**2) / (n + 2))
    half = stats.t.ppf((1 + confidence) / 2, n + 1) * error
    return Interval(mean, max(-1.0, min(mean, float(centre - half))), min(1.0, max(mean, float(centre + half))), n)


def balance(answers: Iterable[Answer]) -> dict[Answer, float]:
    """The share of each answer, the most frequent first; ties in the order of their text."""
    counts = Counter(answers)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return {answer: count / counts.total() for answer, count in ranked}


def majority(answers: Iterable[Answer]) -> tuple[Answer, float]:
    """The most frequent answer and its share: what a guesser gets who never looks. Raises ValueError for none."""
    for answer, share in balance(answers).items():
        return answer, share
    raise ValueError("no answers")


def normalised(model: float, blind: float, oracle: float) -> float:
    """(model - blind) / (oracle - blind): 0 sees nothing, 1 is as good as the true caption. NaN for oracle = blind."""
    room = oracle - blind
    return (model - blind) / room if abs(room) > 1e-6 else float("nan")


def verdict(difference: Interval | Sequence[float], margin: float, expects: Expectation) -> Verdict:
    """What an interval of left - right says about a claim, where differences up to `margin` do not matter.

    greater, less: *supported* where the whole interval lies beyond the margin on that side, *equivalent* where it lies
    within ± margin, *refuted* where else none of it lies beyond. equivalent: *supported* within ± margin, *refuted*
    wholly beyond it on either side. Otherwise *undecided*, NaN included. By inclusion of the interval: two one-sided
    tests at 2.5 % each for a 95 % interval (Schuirmann 1987).
    """
    if margin < 0:
        raise ValueError(f"margin must not be negative: {margin}")
    if expects not in ("greater", "less", "equivalent"):
        raise ValueError(f"expects must be greater, less or equivalent, not {expects!r}")
    _, low, high, *_ = difference
    if expects == "less":
        low, high = -high, -low
    within = -margin < low and high < margin
    if expects == "equivalent":
        return "supported" if within else "refuted" if low > margin or high < -margin else "undecided"
    return "supported" if low > margin else "equivalent" if within else "refuted" if high < margin else "undecided"
