"""layout.py: masks as pictures, positions against a plain count, pictures into slots, losses, bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seechat.layout import (
    Layout,
    attention_mask,
    causal_positions,
    fill_slots,
    from_official_mask,
    glm_positions,
    infilling_positions,
    prefix_from_ids,
    supervised_loss,
    supervised_positions,
)

MASK, GMASK, SOP = 90, 91, 94
IDS = {"gmask_id": GMASK, "mask_id": MASK, "sop_id": SOP}

packs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any), min_size=1, max_size=4)


def make_layout(segment, context=None, positions=None, slot=None):
    """One row from lists; positions by ChatGLM's rule."""
    segment = torch.tensor([segment])
    context = torch.zeros_like(segment, dtype=torch.bool) if context is None else torch.tensor([context]).bool()
    positions = glm_positions(context, segment) if positions is None else positions
    none = torch.full_like(segment, -1)
    return Layout(segment, context, positions, none if slot is None else torch.tensor([slot]), none)


def packed(pieces, left=0, right=0):
    """Layout of a pack of (context length, continuation length) pieces with padding on both sides."""
    segment = [-1] * left + [n for n, piece in enumerate(pieces) for _ in range(sum(piece))] + [-1] * right
    context = [0] * left + [flag for c, a in pieces for flag in [1] * c + [0] * a] + [0] * right
    return make_layout(segment, context)


def picture(mask):
    return "\n".join("".join(map(str, row)) for row in mask[0, 0].int().tolist())


def drawn(text):
    return "\n".join(line.strip() for line in text.strip().splitlines())


# ---------------------------------------------------------------- masks


def test_mask_of_a_prefix():
    assert picture(attention_mask(packed([(3, 3)]))) == drawn("""
        111000
        111000
        111000
        111100
        111110
        111111""")


def test_mask_of_a_causal_expert():
    assert picture(attention_mask(packed([(0, 4)]))) == drawn("""
        1000
        1100
        1110
        1111""")


def test_mask_of_a_pack_with_padding():
    assert picture(attention_mask(packed([(2, 1), (1, 2)], left=1, right=1))) == drawn("""
        10000000
        01100000
        01100000
        01110000
        00001000
        00001100
        00001110
        00000001""")


def test_last_rows_of_the_mask():
    layout = packed([(2, 1), (1, 2)], left=1, right=1)
    for n in (1, 3, 8):
        assert attention_mask(layout, queries=n).equal(attention_mask(layout)[:, :, -n:])


def test_official_mask_is_turned_round_and_blocked_rows_opened():
    blocked = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 0, 0]]).bool()[None, None]
    assert picture(from_official_mask(blocked)) == drawn("""
        100
        010
        011""")


@given(packs, st.integers(0, 3), st.integers(0, 3))
def test_mask_says_who_sees_whom(pieces, left, right):
    layout = packed(pieces, left, right)
    mask = attention_mask(layout)[0, 0]
    segment, context = layout.segment[0].tolist(), layout.context[0].tolist()
    for i in range(len(segment)):
        for j in range(len(segment)):
            seen = segment[i] == segment[j] != -1 and (context[j] or j <= i)
            assert bool(mask[i, j]) == (seen or i == j)


# ---------------------------------------------------------------- positions


@given(packs, st.integers(0, 3), st.integers(0, 3))
def test_positions_are_a_plain_count(pieces, left, right):
    layout = packed(pieces, left, right)
    padding = [[0, 0]]
    glm = [
        place
        for context, answer in pieces
        for place in [[n, 0] for n in range(context)] + [[max(context - 1, 0), n + 1] for n in range(answer)]
    ]
    assert layout.positions[0].tolist() == padding * left + glm + padding * right
    causal = [[n, 0] for piece in pieces for n in range(sum(piece))]
    assert causal_positions(layout.segment)[0].tolist() == padding * left + causal + padding * right


def test_positions_frozen_at_a_given_blank():
    segment, context = torch.zeros(1, 6, dtype=torch.long), torch.tensor([[1, 1, 1, 1, 0, 0]]).bool()
    places = [[0, 0], [1, 0], [2, 0], [3, 0], [1, 1], [1, 2]]
    assert glm_positions(context, segment, 1)[0].tolist() == places
    assert glm_positions(context, segment, torch.tensor([[1]]))[0].tolist() == places


def test_infilling_positions_of_two_blanks():
    """x1 [M] x4 [M] | <sop> x5 x6 | <sop> x2: the two position rows of GLM's figure 2, counted from 0."""
    places = infilling_positions(4, [(3, 3), (1, 2)])
    assert places.T.tolist() == [[0, 1, 2, 3, 3, 3, 3, 1, 1], [0, 0, 0, 0, 1, 2, 3, 1, 2]]


def test_infilling_of_one_blank_is_the_prefix_rule():
    segment, context = torch.zeros(1, 7, dtype=torch.long), torch.tensor([[1, 1, 1, 1, 0, 0, 0]]).bool()
    assert infilling_positions(4, [(2, 3)]).equal(glm_positions(context, segment, 2)[0])


@pytest.mark.parametrize(("blanks", "words"), [([(4, 2)], "outside the context"), ([(0, 0)], "needs at least <sop>")])
def test_infilling_refuses(blanks, words):
    with pytest.raises(ValueError, match=words):
        infilling_positions(4, blanks)


# ---------------------------------------------------------------- from ids


def test_prefix_from_ids():
    layout = prefix_from_ids(torch.tensor([[7, 8, GMASK, SOP, 9, SOP]]), **IDS)
    assert layout.context.int().tolist() == [[1, 1, 1, 0, 0, 0]]  # the first <sop> counts
    assert layout.positions[0].T.tolist() == [[0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3]]
    assert layout.slot.unique().tolist() == layout.picture.unique().tolist() == [-1]


def test_gmask_is_preferred_and_generated_blanks_do_not_count():
    layout = prefix_from_ids(torch.tensor([[MASK, 8, GMASK, SOP, 9], [8, MASK, 7, SOP, GMASK]]), **IDS)
    assert layout.positions[:, -1, 0].tolist() == [2, 1]


def test_padding_at_either_side_moves_nothing():
    ids = [7, MASK, 8, SOP, 9]
    alone = prefix_from_ids(torch.tensor([ids]), **IDS)
    rows, real = torch.tensor([[3, 3, *ids], [*ids, 3, 3]]), torch.tensor([[0, 0] + [1] * 5, [1] * 5 + [0, 0]])
    both = prefix_from_ids(rows, real, **IDS)
    for row, part in enumerate((slice(2, 7), slice(0, 5))):
        assert both.positions[row, part].equal(alone.positions[0])
        assert both.context[row, part].equal(alone.context[0])
    assert both.segment.tolist() == [[-1, -1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -1, -1]]
    assert not both.positions[both.segment < 0].any()


@pytest.mark.parametrize(
    ("ids", "real", "words"),
    [
        ([[7, GMASK, SOP], [7, 8, SOP]], None, r"row 1: no \[gMASK\] \(id 91\) or \[MASK\] \(id 90\) before <sop>"),
        ([[7, SOP, GMASK]], None, r"row 0: no \[gMASK\]"),
        ([[7, GMASK, SOP], [7, GMASK, 8]], None, r"row 1: no <sop> \(id 94\)"),
        ([[7, GMASK, SOP]], [[1, 1, 0]], "row 0: no <sop>"),
        ([[7, 3, GMASK, SOP]], [[1, 0, 1, 1]], "row 0: attention_mask has a hole"),
        ([[7, GMASK, SOP]], [[1, 1]], r"shape \(1, 2\), the ids have \(1, 3\)"),
    ],
)
def test_bad_ids_get_one_clear_line(ids, real, words):
    with pytest.raises(ValueError, match=words) as error:
        prefix_from_ids(torch.tensor(ids), None if real is None else torch.tensor(real), **IDS)
    assert "\n" not in str(error.value)


def test_layout_moves_between_devices():
    layout = packed([(2, 1)]).to("meta")
    assert {field.device.type for field in vars(layout).values()} == {"meta"}


# ---------------------------------------------------------------- pictures


def test_fill_slots():
    layout = make_layout([0, 0, 0, 0], slot=[-1, 1, 0, -1])
    embeds = torch.zeros(1, 4, 2, requires_grad=True)
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    filled = fill_slots(embeds, vectors, layout)
    assert filled.tolist() == [[[0, 0], [3, 4], [1, 2], [0, 0]]]
    assert not embeds.any()
    filled.sum().backward()
    assert embeds.grad[0, :, 0].tolist() == [1, 0, 0, 1]
    assert vectors.grad[:, 0].tolist() == [1, 1, 0]


def test_fill_slots_keeps_the_dtype_of_the_embeddings_and_does_without_pictures():
    embeds = torch.ones(1, 2, 3, dtype=torch.bfloat16)
    assert fill_slots(embeds, torch.zeros(1, 3), make_layout([0, 0], slot=[0, -1])).dtype == torch.bfloat16
    assert fill_slots(embeds, torch.zeros(0, 3), make_layout([0, 0])).equal(embeds)
    with pytest.raises(IndexError):
        fill_slots(embeds, torch.zeros(1, 3), make_layout([0, 0], slot=[1, -1]))


# ---------------------------------------------------------------- losses


def test_supervised_positions_and_loss():
    targets = torch.tensor([[-100, 4, -100], [2, -100, 0]])
    rows, columns = supervised_positions(targets)
    assert (rows.tolist(), columns.tolist()) == ([0, 1, 1], [1, 0, 2])
    assert targets[rows, columns].tolist() == [4, 2, 0]
    flat = torch.zeros(3, 8, dtype=torch.bfloat16)
    loss = supervised_loss(flat, targets[rows, columns])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(8))
    assert supervised_loss(torch.zeros(6, 8), targets.flatten()).equal(loss)


def test_nothing_supervised_is_an_error():
    none = torch.full((2, 3), -100)
    for call in (lambda: supervised_positions(none), lambda: supervised_loss(torch.zeros(6, 8), none.flatten())):
        with pytest.raises(ValueError, match="nothing is supervised"):
            call()
    with pytest.raises(ValueError, match="nothing is supervised"):
        supervised_loss(torch.zeros(0, 8), torch.zeros(0, dtype=torch.long))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 9))
def test_loss_a_token_does_not_depend_on_the_arrangement(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    answers = [torch.randint(0, 8, (n,), generator=generator) for n in lengths]
    logits = [torch.randn(n, 8, generator=generator) for n in lengths]
    ragged = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=-100)
    padded = torch.nn.utils.rnn.pad_sequence(logits, batch_first=True)
    rows, columns = supervised_positions(ragged)
    whole = supervised_loss(torch.cat(logits), torch.cat(answers))
    assert supervised_loss(padded[rows, columns], ragged[rows, columns]).equal(whole)
