"""Training: freeze plans, determinism, resume, LoRA, controls."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seechat.foundation.files import load_tensors
from seechat.foundation.strict import SpecError, read
from seechat.presets import build, experiments
from seechat.spec import Spec, load_spec
from seechat.training import runs, stitching
from seechat.training.freeze import apply_plan, frozen_stay
from seechat.training.optimisation import Optimisation

STITCH = {
    "question": "?",
    "system": "smoke/seechat",
    "pool": 24,
    "validate": 1,
    "every": 4,
    "items": 2,
    "stages": [
        {"name": "alignment", "data": "captions", "train": ["bridge.*"], "optimisation": {"steps": 8, "batch": 4, "lr": 1e-2}},
        {
            "name": "instruction",
            "data": "dialogues",
            "train": ["bridge.*", "language.*"],
            "optimisation": {"steps": 8, "batch": 4, "lr": 1e-3},
        },
    ],
    "arms": {"own": {}, "blind": {"pictures": "constant"}},
}


def run_of(folder: Path, spec: Spec, arm: str = "own") -> runs.Run:
    return runs.of(spec, arm, 0, folder, experiments())


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read(Spec, STITCH)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, spec):
    """One run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, stitching.train(run_of(folder, spec)).state_dict()


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_same_spec_and_seed_give_the_same_bytes(whole, spec, tmp_path):
    folder, weights = whole
    assert same(weights, stitching.train(run_of(tmp_path, spec)).state_dict())
    for name in ("steps.parquet", "validation.csv"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_another_seed_gives_other_weights(whole, spec, tmp_path):
    other = stitching.train(runs.of(spec, "own", 1, tmp_path, experiments()))
    assert not same(whole[1], other.state_dict())


@pytest.mark.parametrize("stop", [3, 7])
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(whole, spec, tmp_path, monkeypatch, stop):
    folder, weights = whole
    monkeypatch.setattr(runs, "SAVE_EVERY", 2)
    real = stitching.picture_batches

    def cut(*args):
        data = real(*args)
        batch = data.batch
        data.batch = lambda step: batch(step) if step < stop else (_ for _ in ()).throw(KeyError("cut off"))
        return data

    monkeypatch.setattr(stitching, "picture_batches", cut)
    with pytest.raises(KeyError, match="cut off"):
        stitching.train(run_of(tmp_path, spec))
    assert (tmp_path / "stage-alignment.ckpt").is_file()
    monkeypatch.setattr(stitching, "picture_batches", real)
    assert same(weights, stitching.train(run_of(tmp_path, spec)).state_dict())
    for name in ("steps.parquet", "validation.csv"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_finished_stage_is_not_trained_again(whole, spec, tmp_path, monkeypatch):
    folder, weights = whole
    monkeypatch.setattr(stitching, "fit", lambda *args: pytest.fail("trained again"))
    assert same(weights, stitching.train(run_of(folder, spec)).state_dict())


def test_a_blind_run_sees_one_constant_picture(spec, tmp_path):
    model = stitching.prepare(run_of(tmp_path, spec, "blind"))
    pool = stitching.draw_pool(stitching.look(model), runs.known(spec), number=5, size=32, seed=0, blind=True)
    lessons = stitching.Lessons(pool, runs.known(spec))
    rng = stitching.seeded("x")
    records = [lessons.caption(rng) for _ in range(3)]
    rows = [model.encoder().sample(r.id, s) for r in records for s in model.language.samples(model.template, r)]
    features = pool.of(model.collate([[row] for row in rows]))
    assert features.shape[0] == 3 and (features == features[0]).all()


# ---- freeze plans -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "trained"),
    [
        (["bridge.*"], {"bridge.layers.0.weight", "bridge.layers.0.bias"}),
        (["language.model.lm_head.weight"], {"language.model.lm_head.weight"}),
    ],
)
def test_a_plan_trains_exactly_what_it_names(plan, trained):
    model = build("smoke/seechat")
    names = set(apply_plan(model, plan))
    assert names == {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained is None or names == trained
    assert names, plan
    assert model.bridge.training == any(n.startswith("bridge") for n in names)
    assert not model.vision.training


def test_a_glob_that_names_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'brigde\.\*' names no parameter, did you mean 'bridge\.\*'"):
        apply_plan(build("smoke/seechat"), ["brigde.*"])


def test_what_is_frozen_must_not_move():
    model = build("smoke/seechat")
    apply_plan(model, ["bridge.*"])
    with pytest.raises(RuntimeError, match="vision"), frozen_stay(model), torch.no_grad():
        next(model.vision.parameters()).add_(1.0)


def test_alignment_moves_the_bridge_alone_and_frozen_parts_get_no_gradient(whole, spec):
    folder, _ = whole
    start = stitching.prepare(run_of(folder, spec)).state_dict()
    after = load_tensors(folder / "stage-alignment.safetensors")[0]
    moved = {name.split(".")[0] for name in start if not torch.equal(start[name], after[name])}
    assert moved == {"bridge"}


def test_lora_trains_adapters_and_merges_them_into_the_weights(spec, tmp_path):
    stage = replace(spec.stages[1], train=["bridge.*", "language.*lora_*"], lora=2)
    run = run_of(tmp_path, replace(spec, stages=[stage]))
    before = stitching.prepare(run).state_dict()
    after = stitching.train(run).state_dict()
    assert before.keys() == after.keys(), "after the merge no adapter is left"
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("query_key_value.weight" in name for name in moved)
    assert not any("word_embeddings" in name or "lm_head" in name or "layernorm" in name or name.startswith("vision") for name in moved)


# ---- specs --------------------------------------------------------------------------------------------------------------


def test_an_unknown_arm_key_or_folder_is_one_line(spec, tmp_path):
    with pytest.raises(SpecError, match="did you mean 'blind'"):
        run_of(tmp_path, spec, "blnd")
    with pytest.raises(SpecError, match="did you mean 'stages'"):
        read(Spec, {"question": "?", "system": "smoke/seechat", "stagse": []})
    with pytest.raises(SpecError, match="no such experiment"):
        load_spec(tmp_path / "nothing")


@pytest.mark.parametrize("path", sorted(experiments().glob("*/*/*.yaml")), ids=lambda p: "/".join(p.parts[-2:]))
def test_every_committed_spec_reads_and_opens_with_its_command(path):
    spec = load_spec(path)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    name = "/".join(path.parent.parts[-3:])
    assert first in (f"# seechat run {name}", "# seechat demo")
    assert spec.question.endswith((".", "?"))


def test_the_rate_rises_then_falls():
    o = Optimisation(steps=100, warmup=0.1)
    rates = [o.rate(step) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10) and rates[-1] < 0.06 and min(rates) > 0
