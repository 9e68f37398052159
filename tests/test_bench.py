"""The step benchmark compares the same work. No time is asserted: machines are busy."""

import pytest
import torch

from seechat.presets import build
from seechat.reporting import bench_step as bench
from seechat.training.freeze import apply_plan


@pytest.fixture(scope="module")
def sides():
    torch.manual_seed(0)
    model = build("smoke/seechat-llama")
    apply_plan(model, bench.PLAN)
    return model, bench.reference(model), bench.Work.draw(model, 6)


def test_three_rows_of_time():
    rows = bench.bench_step("smoke", batch=4, rounds=1)
    assert len(rows) == 3
    assert all(row.value > 0 and row.ratio > 0 and row.unit == "ms" for row in rows)


def test_both_sides_have_the_same_parameters_and_train_the_same(sides):
    model, theirs, _ = sides
    ours = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())
    assert [p.shape for p in theirs.parameters() if p.requires_grad] == [p.shape for p in ours.values()]
    assert all(name.startswith("bridge.") for name in ours)


@pytest.mark.parametrize("name", bench.ASKED)
def test_losses_and_gradients_agree(sides, name):
    model, theirs, work = sides
    which = list(bench.ASKED).index(name)
    our, their = bench.our_losses(model, work)[which], bench.their_losses(model, theirs, work)[which]
    loss, gradient = bench.differences(our, model.bridge, their, theirs.model.multi_modal_projector)
    assert loss < bench.AGREE and gradient < bench.AGREE


def test_the_work_is_of_mixed_length_and_packs_the_same_tokens(sides):
    model, _, work = sides
    lengths = (work.padded.layout.segment >= 0).sum(1)
    assert lengths.min() < lengths.max()
    assert set((lengths - model.bridge.tokens).tolist()) <= set(bench.TEXT)
    assert work.packed.supervised == work.padded.supervised and work.packed.tokens == work.padded.tokens
    assert len(work.packed.ids) < len(work.padded.ids)


def test_other_pictures_are_not_the_same_work(sides):
    model, theirs, work = sides
    other = bench.Work(work.padded, work.packed, work.pool, work.pixels.flip(0))
    our, their = bench.our_losses(model, work)[0], bench.their_losses(model, theirs, other)[0]
    assert bench.differences(our, model.bridge, their, theirs.model.multi_modal_projector)[1] > bench.AGREE
