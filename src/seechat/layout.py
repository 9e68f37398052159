"""Which token is what, and every mask, position and loss that follows from it, as pure functions.

Letters: `b` batch, `t` sequence, `d` language width, `q` bridge tokens a picture, `n` rows of a flat list.
Masks say `True = attend`; only `from_official_mask` reads ChatGLM's own convention (`True = blocked`).
Positions are token counts from the start of a segment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

# What a reader should know of a tensor; to a type checker all results of torch are plain Tensors.
LongTensor: TypeAlias = Tensor
BoolTensor: TypeAlias = Tensor

IGNORE = -100  # a target that nobody predicts
PADDING = -1  # the segment of padding; also "no slot" and "no picture"


@dataclass(frozen=True)
class Layout:
    """What each token of a batch is. A row may hold several segments, one after the other (a pack)."""

    segment: LongTensor  # (b, t)     -1 = padding, else number of the segment within the pack
    context: BoolTensor  # (b, t)     True = seen both ways inside its segment; all False for causal experts
    positions: LongTensor  # (b, t, 2)  [..., 0] position, [..., 1] block position (causal experts use column 0)
    slot: LongTensor  # (b, t)     -1, or the row of the (i*q, d) flat bridge output of the batch that goes there
    picture: LongTensor  # (b, t)     -1, or the index, in the batch, of the picture this token comes after

    def to(self, device: torch.device | str) -> "Layout":
        """The same layout on another device."""
        return Layout(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


# ---------------------------------------------------------------- masks


def attention_mask(layout: Layout, queries: int | None = None) -> BoolTensor:
    """Who may look at whom: (b, 1, t, t), True = attend.

    A token sees a token of its own segment that is context or not later than itself. Padding sees itself
    only (a row without any key is NaN in `scaled_dot_product_attention`) and is seen by nobody else.
    With `queries` = n only the last n rows are made: (b, 1, n, t), what a step with a cache needs.
    """
    t = layout.segment.shape[1]
    n = t if queries is None else queries
    key = torch.arange(t, device=layout.segment.device)
    query = key[t - n :]
    segment = layout.segment
    same = segment[:, t - n :, None] == segment[:, None, :]  # (b, n, t)
    visible = layout.context[:, None, :] | (key <= query[:, None])
    itself = key == query[:, None]
    real = (segment != PADDING)[:, None, :]
    return ((same & visible & real) | itself)[:, None]


def from_official_mask(mask: BoolTensor) -> BoolTensor:
    """ChatGLM's own mask (b, 1, t, t), True = blocked, turned round; rows without any key see themselves."""
    attend = ~mask.bool()
    t = mask.shape[-1]
    itself = torch.eye(t, dtype=torch.bool, device=mask.device)
    return attend | (itself & ~attend.any(-1, keepdim=True))


# ---------------------------------------------------------------- positions


def _since_start(segment: LongTensor, counted: BoolTensor | None = None) -> LongTensor:
    """How many (`counted`) tokens of its segment lie before each token: (b, t)."""
    counts = torch.ones_like(segment) if counted is None else counted.long()
    before = counts.cumsum(1) - counts  # (b, t), over the whole row
    first = torch.ones_like(segment, dtype=torch.bool)
    first[:, 1:] = segment[:, 1:] != segment[:, :-1]
    index = torch.arange(segment.shape[1], device=segment.device)
    start = torch.where(first, index, 0).cummax(1).values  # (b, t), where the segment begins
    return before - before.gather(1, start)


def causal_positions(segment: LongTensor) -> LongTensor:
    """(b, t) segments -> (b, t, 2): 0, 1, 2, … within each segment, block position 0, padding 0."""
    position = _since_start(segment).masked_fill(segment == PADDING, 0)
    return torch.stack((position, torch.zeros_like(position)), -1)


def glm_positions(context: BoolTensor, segment: LongTensor, blank: LongTensor | int | None = None) -> LongTensor:
    """ChatGLM's two positions a token, (b, t) and (b, t) -> (b, t, 2).

    Column 0 counts from the start of the segment through the context and then stays at `blank`, the place
    of [gMASK] or [MASK] within the segment (anything that broadcasts to (b, t); default: the last context
    token). Column 1 is 0 in the context, then 1, 2, 3, … with 1 at <sop>. Padding has (0, 0).
    Source: Du et al. 2022 (GLM), arXiv 2103.10360, section 2.1, as fixed by ChatGLM-6B's published code.
    """
    context = context & (segment != PADDING)
    if blank is None:
        blank = (_since_start(segment, context) - 1).clamp(min=0)
    blank = torch.as_tensor(blank, device=segment.device).expand_as(segment)
    position = torch.where(context, _since_start(segment), blank)
    block = torch.where(context, 0, _since_start(segment, ~context) + 1)
    return torch.stack((position, block), -1).masked_fill((segment == PADDING)[..., None], 0)


def infilling_positions(context_length: int, blanks: Sequence[tuple[int, int]]) -> LongTensor:
    """Positions of one document with several blanks, (t, 2) with t = context_length + all span lengths.

    The context comes first, then one span a blank, in the order of `blanks`: (index of its [MASK] in the
    context, span length with its <sop>). Column 0 stays at that [MASK] over the span, column 1 starts anew
    at 1 with each <sop>. The mask needs nothing special: the spans are continuation, one after the other.
    Raises ValueError for a [MASK] outside the context or an empty span. Source: as `glm_positions`.
    """
    rows = [torch.stack((torch.arange(context_length), torch.zeros(context_length, dtype=torch.long)), -1)]
    for mask, length in blanks:
        if not 0 <= mask < context_length:
            raise ValueError(f"a blank at {mask} is outside the context of {context_length} tokens")
        if length < 1:
            raise ValueError(f"the span of the blank at {mask} has length {length}; it needs at least <sop>")
        rows.append(torch.stack((torch.full((length,), mask), torch.arange(1, length + 1)), -1))
    return torch.cat(rows)


def prefix_from_ids(
    input_ids: LongTensor, attention_mask: Tensor | None = None, *, gmask_id: int, mask_id: int, sop_id: int
) -> Layout:
    """What ChatGLM reads from its ids (b, t): the context is everything before the first <sop>.

    The continuation is frozen at the first [gMASK] of the context, else at its first [MASK] (as ChatGLM's
    model does; its tokenizer prefers [MASK]). Tokens with `attention_mask` (b, t) = 0 are padding, at the
    left or the right; without it nothing is. Raises ValueError for a row without <sop>, without [gMASK]
    and [MASK] before it, or whose attention mask has a hole.
    """
    real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    if real.shape != input_ids.shape:
        raise ValueError(f"attention_mask has shape {tuple(real.shape)}, the ids have {tuple(input_ids.shape)}")
    runs = (real[:, 1:] & ~real[:, :-1]).sum(1) + real[:, :1].sum(1)
    _refuse(runs > 1, "attention_mask has a hole: 0 is for padding at the left or the right only")
    sop = (input_ids == sop_id) & real
    _refuse(~sop.any(1), f"no <sop> (id {sop_id}), so nothing tells context from continuation")
    context = real & (sop.cumsum(1) == 0)
    gmask, mask = (input_ids == gmask_id) & context, (input_ids == mask_id) & context
    _refuse(~(gmask | mask).any(1), f"no [gMASK] (id {gmask_id}) or [MASK] (id {mask_id}) before <sop>")
    blank = torch.where(gmask.any(1), gmask.int().argmax(1), mask.int().argmax(1)) - real.int().argmax(1)
    segment = torch.where(real, 0, PADDING)
    none = torch.full_like(segment, PADDING)
    return Layout(segment, context, glm_positions(context, segment, blank[:, None]), slot=none, picture=none)


def _refuse(bad: BoolTensor, reason: str) -> None:
    """ValueError naming the first bad row (b,)."""
    if bad.any():
        raise ValueError(f"row {int(bad.int().argmax())}: {reason}")


# ---------------------------------------------------------------- pictures


def fill_slots(embeds: Tensor, vectors: Tensor, layout: Layout) -> Tensor:
    """Put picture vectors (n, d) into their slots of the token embeddings (b, t, d): a new (b, t, d).

    Differentiable for both; the embeddings that were replaced get no gradient. The result has the dtype of
    `embeds`. Raises IndexError (on CPU) for a slot without a vector.
    """
    where = (layout.slot >= 0).nonzero(as_tuple=True)
    return embeds.index_put(where, vectors[layout.slot[where]].to(embeds.dtype))


# ---------------------------------------------------------------- losses


def supervised_positions(targets: LongTensor) -> tuple[LongTensor, LongTensor]:
    """Rows and columns, (n,) each, of the hidden states that predict a supervised token.

    `targets[b, t]` is the token that position t must predict (already shifted), -100 = none.
    Raises ValueError when nothing is supervised.
    """
    rows, columns = (targets != IGNORE).nonzero(as_tuple=True)
    if not len(rows):
        raise ValueError(f"nothing is supervised: all targets are {IGNORE}")
    return rows, columns


def supervised_loss(logits: Tensor, targets: LongTensor) -> Tensor:
    """Mean cross entropy in float32, nats a token: (n, vocabulary) logits, (n,) targets, -100 ignored.

    Raises ValueError when nothing is supervised (the mean of nothing would be NaN).
    """
    if not (targets != IGNORE).any():
        raise ValueError(f"nothing is supervised: all {targets.numel()} targets are {IGNORE}")
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORE)
