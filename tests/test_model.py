"""The stitched model: what reaches what, talking, saving and loading."""

import json
import shutil

import numpy as np
import pytest
import torch
from pieces import swap_pieces
from PIL import Image

import seechat
from seechat.checkpoints import load_into
from seechat.data.pictures import PictureError
from seechat.data.pool import Lessons, draw_pool
from seechat.experts.familiar import Familiar
from seechat.foundation.files import CheckpointError
from seechat.layout import supervised_positions
from seechat.presets import build, load
from seechat.world.concepts import concepts

SEEN = concepts(tier="seen", simple=True)
NAMES = ("smoke/seechat", "smoke/seechat-llama")


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    torch.manual_seed(0)
    return build(request.param).eval()


def picture(seed: int = 0, size: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def batch_of(model, records):
    encoder = model.encoder()
    samples = [encoder.sample(r.id, segments) for r in records for segments in model.language.samples(model.template, r)]
    return model.collate([[sample] for sample in samples])


@pytest.fixture(scope="module")
def lesson(model):
    size = model.config.vision.image_size
    with torch.no_grad():
        pool = draw_pool(lambda p: model.see(p), SEEN, number=6, size=size, seed=0)
    lessons, rng = Lessons(pool, SEEN), np.random.default_rng(0)
    return pool, batch_of(model, [lessons.dialogue(rng, 2) for _ in range(3)])


def logits(model, batch, features):
    with torch.no_grad():
        return model.language.head(model.language.hidden(model.stitch(batch, features), batch.layout))


def test_a_picture_reaches_answers_and_on_a_causal_expert_nothing_before_it(model, lesson):
    pool, batch = lesson
    features = pool.of(batch)
    changed = features.clone()
    changed[0] += 1.0
    before, after = logits(model, batch, features), logits(model, batch, changed)
    moved = (before - after).abs().amax(-1) > 1e-6  # (b, t)
    assert moved[0].any()
    others = [row for row, picture_row in enumerate(batch.layout.picture.amax(1).tolist()) if picture_row != 0]
    assert not moved[others].any(), "a picture reached another sample"
    first = int((batch.layout.slot[0] >= 0).int().argmax())
    if model.language.end == "</s>":
        assert not moved[0, :first].any()
    else:
        assert moved[0, :first].any(), "ChatGLM's context is seen both ways, the tokens before the picture included"


def test_the_head_reads_supervised_positions_only_and_the_loss_is_that_of_the_full_logits(model, lesson):
    pool, batch = lesson
    features = pool.of(batch)
    rows, columns = supervised_positions(batch.targets)
    full = logits(model, batch, features)[rows, columns]
    expected = torch.nn.functional.cross_entropy(full, batch.targets[rows, columns])
    with torch.no_grad():
        assert torch.allclose(model(batch, features), expected, atol=1e-5)


def test_stream_says_what_chat_says_and_history_grows(model):
    reply = model.chat(picture(), "左上是什么？", max_new_tokens=6)
    stream, words = model.stream(picture(), "左上是什么？", max_new_tokens=6), ""
    while True:
        try:
            words += next(stream)
        except StopIteration as end:
            streamed = end.value
            break
    assert words == streamed.text == reply.text
    second = model.chat(None, "它的左边是什么？", reply.conversation, max_new_tokens=6)
    assert len(second.conversation.rounds) == 2
    assert len(reply.conversation.rounds) == 1, "a conversation is not changed by going on with it"


def test_several_pictures_take_their_slots_in_order(model):
    turn, sample = model._ask([picture(1), picture(2)], "What is there?", None)
    assert len(sample.pictures) == 2
    assert sample.slot.max() + 1 == 2 * model.bridge.tokens
    assert (np.diff(sample.slot[sample.slot >= 0]) == 1).all()


@pytest.mark.parametrize("typed", ["[gMASK]<sop><eop>", "</s><image></image>", "<pad>[MASK]<obj_0>"])
def test_control_tokens_typed_by_a_user_are_text(model, typed):
    _, plain = model._ask(picture(), "x", None)
    _, sample = model._ask(picture(), f"x{typed}", None)
    named = ["[gMASK]", "<sop>", "<image>", "[MASK]", "<obj_0>"]
    controls = set(model.tokenizer.all_special_ids) | set(model.tokenizer.convert_tokens_to_ids(named))
    count = {name: sum(int(i) in controls for i in s.ids[s.slot < 0]) for name, s in (("plain", plain), ("typed", sample))}
    assert count["plain"] == count["typed"]
    assert typed in model.tokenizer.decode(sample.ids)
    assert isinstance(model.chat(picture(), f"x{typed}", max_new_tokens=3).text, str)


@pytest.mark.parametrize("question", ["", "  \n "])
def test_an_empty_question_is_one_line(model, question):
    with pytest.raises(ValueError, match="empty"):
        model.chat(picture(), question)


def test_a_question_longer_than_the_expert_reads_is_one_line(model):
    with pytest.raises(ValueError, match=r"more than the limit of \d+"):
        model.chat(picture(), "猫" * 5000)


def test_a_broken_picture_is_refused_before_anything_runs(model, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(PictureError, match=r"empty\.png"):
        model.chat(tmp_path / "empty.png", "左上是什么？")


# ---- folders ------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_is_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert again.chat(picture(), "有猫吗？", max_new_tokens=4).text == model.chat(picture(), "有猫吗？", max_new_tokens=4).text
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.safetensors", "config.json", "tokenizer.json", "README.md"}


@pytest.fixture()
def saved(tmp_path):
    build(NAMES[0]).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and len(text) < 600, text
    return text


def test_missing_truncated_and_foreign_checkpoints_are_one_line_each(saved):
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError) as error:
        load(saved)
    assert "model.safetensors" in one_line(error.value)
    weights.unlink()
    with pytest.raises(CheckpointError) as error:
        load(saved)
    assert "no such file" in one_line(error.value)
    other = build(NAMES[1])
    other.save_pretrained(saved.parent / "other")
    shutil.copy(saved.parent / "other" / "model.safetensors", weights)
    with pytest.raises(CheckpointError) as error:
        load(saved)
    assert "another model" in one_line(error.value) and "missing" in one_line(error.value)


def test_a_config_that_is_not_ours_or_has_an_unknown_key_is_one_line(saved):
    path = saved / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(CheckpointError, match="not a seechat-lab model"):
        load(saved)
    path.write_text(json.dumps({**values, "bridg": "linear"}))
    with pytest.raises(CheckpointError, match="bridg: unknown key"):
        load(saved)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        load(saved)


def test_weights_of_another_vocabulary_of_the_same_size_are_refused(saved):
    model = build(NAMES[0])
    load_into(model, saved, tokenizer=model.tokenizer)
    swap_pieces(saved / "tokenizer.json")
    load(saved)  # brings its own tokenizer
    torch.nn.init.zeros_(model.language.model.get_input_embeddings().weight)
    with pytest.raises(CheckpointError) as error:
        load_into(model, saved, tokenizer=model.tokenizer)
    assert "another vocabulary" in one_line(error.value) and "2 pieces" in str(error.value)
    assert not model.language.model.get_input_embeddings().weight.any()
    with pytest.raises(CheckpointError, match="another vocabulary"):
        build(NAMES[0], weights=saved)


def test_nothing_is_half_loaded(saved):
    model = build(NAMES[0])
    before = {name: t.clone() for name, t in model.state_dict().items()}
    build(NAMES[1]).save_pretrained(saved.parent / "other")
    with pytest.raises(CheckpointError):
        load_into(model, saved.parent / "other")
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("laptop/seechatt", "did you mean 'seechat'"),
        ("laptp/seechat", "did you mean 'laptop'"),
        ("seechat", "laptop/seechat"),
    ],
)
def test_unknown_systems_and_scales_name_the_nearest(name, told):
    with pytest.raises(ValueError, match=told):
        build(name)


def test_loading_where_no_weights_are_says_what_to_do():
    with pytest.raises(CheckpointError, match="build random ones"):
        load("paper/seechat")
    with pytest.raises(CheckpointError, match="no such folder"):
        load("./nowhere/at/all")


# ---- sizes --------------------------------------------------------------------------------------------------------------


def test_paper_sizes_are_the_published_ones():
    model = build("paper/seechat", device="meta")
    parameters = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("bridge", "language")}
    assert parameters == {"bridge": 1024 * 4096 + 4096, "language": 6_707_929_088}
    assert model.bridge.tokens == 256


def test_systems_has_a_row_a_system_and_scale():
    table = seechat.systems()
    assert len(table) == 6 and table.value.equals(table.vision + table.bridge + table.language)


# ---- what is outside the range ------------------------------------------------------------------------------------------


def test_familiar_knows_its_own_kind_and_not_another():
    torch.manual_seed(0)
    known = torch.randn(2000, 4, 16) * torch.linspace(0.1, 2, 16)
    familiar = Familiar(16)
    assert not familiar(known).any(), "unfitted, everything is familiar"
    familiar.fit(known)
    assert familiar(known).float().mean() <= 0.0015
    assert familiar(known[:50].flip(-1) * 3 + 2).all()


def test_a_note_comes_before_the_answer_for_a_strange_picture(model):
    model.familiar.limit.fill_(-1.0)
    try:
        reply = model.chat(Image.fromarray(picture()), "左上是什么？", max_new_tokens=2)
        assert len(reply.notes) == 1 and "paper" in reply.notes[0] and "emoji" in reply.notes[0]
    finally:
        model.familiar.limit.fill_(1.0)
    assert model.chat(picture(), "左上是什么？", max_new_tokens=2).notes == ()
