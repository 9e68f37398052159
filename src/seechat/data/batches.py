"""Segments + tokenizer -> ids, targets and layout; padded or packed.

Letters: b batch, t sequence, q bridge tokens a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch

from seechat.data.templates import Segment
from seechat.layout import IGNORE, PADDING, Layout
from seechat.records import Picture


class Tokenizer(Protocol):
    """What is asked of a tokenizer: text to ids without special tokens, and the id of a control token."""

    pad_token_id: int

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]: ...
    def convert_tokens_to_ids(self, token: str) -> int: ...


@dataclass(frozen=True)
class Sample:
    """One sequence. `slot` counts the sample's own picture vectors from 0, `picture` its pictures; -1 is none."""

    id: str
    ids: np.ndarray  # (t,)
    targets: np.ndarray  # (t,) what each position must predict, -100 = nothing
    context: np.ndarray  # (t,) bool
    positions: np.ndarray | None  # (t, 2) where they differ from what the layout derives (several blanks)
    slot: np.ndarray  # (t,)
    picture: np.ndarray  # (t,)
    pictures: tuple[Picture, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Turns segments into samples with one tokenizer and one number of slots a picture."""

    def __init__(self, tokenizer: Tokenizer, slots: int, limit: int = 2048):
        self.tokenizer, self.slots, self.limit = tokenizer, slots, limit
        self.words: Callable[[str], list[int]] = lru_cache(200_000)(lambda value: tokenizer.encode(value, add_special_tokens=False))
        self.control = lru_cache(None)(tokenizer.convert_tokens_to_ids)

    def sample(self, id: str, segments: Sequence[Segment], *, supervised: bool = True) -> Sample:
        """Raises ValueError with the record's id where nothing is supervised or the sample is longer than the limit."""
        ids: list[int] = []
        flags: list[tuple[bool, bool]] = []
        slot: list[int] = []
        after: list[int] = []
        pictures: list[Picture] = []
        for segment in segments:
            if segment.kind == "picture":
                assert isinstance(segment.value, Picture)
                first = len(pictures) * self.slots
                pictures.append(segment.value)
                new, places = [self.tokenizer.pad_token_id] * self.slots, list(range(first, first + self.slots))
            else:
                assert isinstance(segment.value, str)
                new = [self.control(segment.value)] if segment.kind == "control" else self.words(segment.value)
                places = [-1] * len(new)
            ids += new
            slot += places
            flags += [(segment.supervised, segment.context)] * len(new)
            after += [len(pictures) - 1] * len(new)
        if len(ids) > self.limit:
            raise ValueError(f"record {id!r}: {len(ids)} tokens, more than the limit of {self.limit}: shorten it or raise the limit")
        row, marks = np.array(ids), np.array(flags, bool).reshape(-1, 2)
        targets = np.full(len(row), IGNORE)
        targets[:-1] = np.where(marks[1:, 0], row[1:], IGNORE)
        if supervised and not (targets != IGNORE).any():
            raise ValueError(f"record {id!r}: no supervised token")
        return Sample(id, row, targets, marks[:, 1], None, np.array(slot), np.array(after), tuple(pictures))


@dataclass(frozen=True)
class Batch:
    """`ids`, `targets` (b, t); `pictures`: what the batch's pictures are, in the order in which slots count them."""

    ids: torch.Tensor
    targets: torch.Tensor
    layout: Layout
    pictures: tuple[Picture, ...]
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(self.ids.to(device), self.targets.to(device), self.layout.to(device), self.pictures, self.names)

    @property
    def supervised(self) -> int:
        return int((self.targets != IGNORE).sum())

    @property
    def tokens(self) -> int:
        return int((self.layout.segment != PADDING).sum())


PositionRule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # context, segment -> positions


def collate(rows: Sequence[Sequence[Sample]], positions: PositionRule, pad: int, *, left: bool = False) -> Batch:
    """Rows of samples (a row of one is a padded batch, of several a pack) -> one batch.

    `positions` is the language expert's rule. With `left`, padding stands before the tokens, as generation wants it.
    """
    b, t = len(rows), max(sum(map(len, row)) for row in rows)
    ids = np.full((b, t), pad)
    targets = np.full((b, t), IGNORE)
    segment, slot, after = (np.full((b, t), PADDING) for _ in range(3))
    context = np.zeros((b, t), bool)
    pictures: list[Picture] = []
    own: list[tuple[int, slice, np.ndarray]] = []
    for i, row in enumerate(rows):
        start = t - sum(map(len, row)) if left else 0
        for number, sample in enumerate(row):
            span = slice(start, start + len(sample))
            slots = int(sample.slot.max(initial=-1) + 1) // max(1, len(sample.pictures))
            ids[i, span], targets[i, span], context[i, span] = sample.ids, sample.targets, sample.context
            segment[i, span] = number
            slot[i, span] = np.where(sample.slot >= 0, sample.slot + len(pictures) * slots, -1)
            after[i, span] = np.where(sample.picture >= 0, sample.picture + len(pictures), -1)
            if sample.positions is not None:
                own.append((i, span, sample.positions))
            pictures += sample.pictures
            start += len(sample)
    segments, contexts = torch.from_numpy(segment), torch.from_numpy(context)
    where = positions(contexts, segments)
    for i, span, values in own:
        where[i, span] = torch.from_numpy(values)
    layout = Layout(segments, contexts, where, torch.from_numpy(slot), torch.from_numpy(after))
    names = tuple(sample.id for row in rows for sample in row)
    return Batch(torch.from_numpy(ids), torch.from_numpy(targets), layout, tuple(pictures), names)


def pack(samples: Sequence[Sample], length: int) -> list[list[Sample]]:
    """Rows of at most `length` tokens (a longer sample has a row of its own), of the width that leaves the fewest positions empty."""
    longest = max(map(len, samples))
    packs = [_first_fit(samples, width) for width in range(longest, max(length, longest) + 1, 4)]
    return min(packs, key=lambda rows: len(rows) * max(sum(map(len, row)) for row in rows))


def _first_fit(samples: Sequence[Sample], width: int) -> list[list[Sample]]:
    """First fit, longest first."""
    rows: list[list[Sample]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda s: (-len(s), s.id)):
        fit = next((i for i, left in enumerate(room) if left >= len(sample)), None)
        if fit is None:
            rows.append([sample])
            room.append(width - len(sample))
        else:
            rows[fit].append(sample)
            room[fit] -= len(sample)
    return rows
