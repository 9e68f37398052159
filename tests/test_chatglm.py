"""chatglm.py against numbers of the published code (tests/golden), and what must hold at any weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close
from transformers import DynamicCache

from seechat.experts.chatglm import ChatGLMConfig, ChatGLMForCausalLM, rotary_tables
from seechat.layout import (
    Layout,
    attention_mask,
    causal_positions,
    fill_slots,
    from_official_mask,
    glm_positions,
    infilling_positions,
    supervised_loss,
    supervised_positions,
)

GOLDEN = Path(__file__).parent / "golden"
CASES = load_file(GOLDEN / "chatglm_tiny_cases.safetensors")
FACTS = json.loads((GOLDEN / "chatglm_tiny_cases.json").read_text())["cases"]
CONFIG = json.loads((GOLDEN / "chatglm_tiny_config.json").read_text())
PAD, MASK, GMASK, SOP = 3, 180, 181, 184
GREEDY = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}


def near(actual, golden, atol=3e-5):
    assert_close(actual, golden, rtol=0, atol=atol)


def case(name):
    """The tensors of one golden case by field."""
    return {key.split(".", 1)[1]: value for key, value in CASES.items() if key.startswith(name + ".")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint folder as the official one: config.json and key names, half precision, stored inv_freq."""
    folder = tmp_path_factory.mktemp("chatglm")
    (folder / "config.json").write_bytes((GOLDEN / "chatglm_tiny_config.json").read_bytes())
    (folder / "model.safetensors").write_bytes((GOLDEN / "chatglm_tiny_weights.safetensors").read_bytes())
    return folder


@pytest.fixture(scope="module")
def model(folder):
    """The tiny model in float32, for reading only."""
    return ChatGLMForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)


@pytest.fixture
def trainable(folder):
    return ChatGLMForCausalLM.from_pretrained(folder, dtype=torch.float32).train()


def with_pictures(model, ids, vectors, start):
    """Layout and embeddings of ids (1, t) with vectors (q, d) from `start` on."""
    slot = torch.full_like(ids, -1)
    slot[:, start : start + len(vectors)] = torch.arange(len(vectors))
    layout = replace(model.layout_from_ids(ids), slot=slot)
    return layout, fill_slots(model.get_input_embeddings()(ids), vectors, layout)


# ---------------------------------------------------------------- goldens: one pass


@torch.no_grad()
def test_single_gmask(model, monkeypatch):
    golden = case("single_gmask")
    probabilities = []

    def spy(query, key, value, mask):
        scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        probabilities.append(scores.softmax(-1)[0])
        return attend(query, key, value, mask)

    attend = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    output = model(golden["input_ids"], output_hidden_states=True, use_cache=True)
    near(output.logits, golden["logits"])
    near(output.hidden_states[0], golden["embeddings"])
    near(torch.stack(output.hidden_states[1:]), golden["layer_outputs"], 1e-4)
    near(torch.stack(probabilities), golden["attention_probs"], 1e-5)
    cached = output.past_key_values.layers[0]  # (b, h, k, e); the published code has (k, b, h, e)
    near(cached.keys.permute(2, 0, 1, 3), golden["past_key_layer0"])
    near(cached.values.permute(2, 0, 1, 3), golden["past_value_layer0"])
    layout = model.layout_from_ids(golden["input_ids"])
    near(model.hidden(output.hidden_states[0], layout), golden["final_hidden"])


@pytest.mark.parametrize("name", ["single_gmask", "mask_token", "mask_and_gmask", "image_embeds"])
def test_masks_and_positions(model, name):
    golden = case(name)
    layout = model.layout_from_ids(golden["input_ids"])
    assert layout.positions.mT.equal(golden["position_ids"])
    assert attention_mask(layout).equal(from_official_mask(golden["attention_mask"]))


@pytest.mark.parametrize("name", ["mask_token", "mask_and_gmask"])
@torch.no_grad()
def test_mask_token(model, name):
    golden = case(name)
    near(model(golden["input_ids"]).logits, golden["logits"])


@torch.no_grad()
def test_the_positions_of_the_tokenizer_differ(model):
    """With both blanks the published tokenizer freezes at [MASK]; a layout can say so."""
    golden = case("mask_and_gmask")
    layout = model.layout_from_ids(golden["input_ids"])
    layout = replace(layout, positions=golden["position_ids_tokenizer"].mT)
    near(model(golden["input_ids"], layout=layout).logits, golden["logits_tokenizer"])


@torch.no_grad()
def test_long(model):
    golden = case("long")
    logits = model(golden["input_ids"]).logits
    near(logits[:, golden["rows"]], golden["logits_rows"])
    near(logits.mean(-1), golden["logits_mean"])
    near(logits.square().mean(-1), golden["logits_sqmean"], 1e-4)


@torch.no_grad()
def test_left_padded_batch(model):
    golden = case("batch_leftpad")
    ids, lengths = golden["input_ids"], FACTS["batch_leftpad"]["lengths"]
    real = torch.arange(ids.shape[1]) >= ids.shape[1] - torch.tensor(lengths)[:, None]
    layout = model.layout_from_ids(ids, real)
    assert layout.positions.mT.equal(golden["position_ids"])
    assert attention_mask(layout).equal(from_official_mask(golden["attention_mask"]))
    logits = model(ids, attention_mask=real.long()).logits
    near(logits[real], golden["logits"][real])
    assert logits.isfinite().all()


@torch.no_grad()
def test_alpha_layers(folder):
    golden = case("alpha_by_depth")
    assert ChatGLMConfig(**CONFIG).alpha == pytest.approx(7.483314773547883)
    model = ChatGLMForCausalLM.from_pretrained(folder, dtype=torch.float32, alpha_layers=3)
    assert model.config.alpha == pytest.approx(FACTS["alpha_by_depth"]["alpha"])
    near(model(golden["input_ids"]).logits, golden["logits"])


@torch.no_grad()
def test_half_precision(folder):
    golden = case("single_gmask")
    model = ChatGLMForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float16  # as config.json says
    near(model(golden["input_ids"]).logits, golden["logits_fp16_model"], 5e-2)


@pytest.mark.parametrize("dim", [8, 64])
def test_rotary_tables(dim):
    tables = load_file(GOLDEN / "chatglm_rotary_tables.safetensors")
    for name, dtype, atol in (("fp32", torch.float32, 1e-6), ("fp16", torch.float16, 1e-3)):
        for ours, kind in zip(rotary_tables(tables["positions"], dim, dtype), ("cos", "sin"), strict=True):
            near(torch.cat((ours, ours), -1), tables[f"d{dim}.{kind}_{name}"], atol)
    wide, narrow = (rotary_tables(tables["positions"], dim, dtype)[0] for dtype in (torch.float32, torch.bfloat16))
    assert narrow.equal(wide.bfloat16())  # angles stay float32


# ---------------------------------------------------------------- goldens: training


def test_training_loss_and_gradients(trainable):
    golden, facts = case("train"), FACTS["train"]
    output = trainable(golden["input_ids"], labels=golden["labels"])
    output.loss.backward()
    near(output.logits.detach(), golden["logits"])
    assert output.loss.item() == pytest.approx(facts["loss"], abs=1e-5)
    gradients = {name: parameter.grad for name, parameter in trainable.named_parameters()}
    norms = {name: gradient.norm().item() for name, gradient in gradients.items()}
    assert norms == pytest.approx(facts["grad_norms"], rel=1e-4)
    for name, gradient in golden.items():
        if name.startswith("grad."):
            near(gradients[name.removeprefix("grad.")], gradient, 1e-5)


def test_six_adamw_steps(trainable):
    golden, losses = case("train"), []
    optimiser = torch.optim.AdamW(trainable.parameters(), lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for _ in range(6):
        loss = trainable(golden["input_ids"], labels=golden["labels"]).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses == pytest.approx(FACTS["train_steps"]["losses"], abs=1e-5)


def test_pictures_among_the_embeddings(model):
    golden, facts = case("image_embeds"), FACTS["image_embeds"]
    vectors = golden["image_embeds"][0].clone().requires_grad_()
    layout, embeds = with_pictures(model, golden["input_ids"], vectors, facts["pre_image_length"])
    output = model(golden["input_ids"], inputs_embeds=embeds, labels=golden["labels"])
    output.loss.backward()
    near(output.logits.detach(), golden["logits"])
    assert output.loss.item() == pytest.approx(facts["loss"], abs=1e-5)
    near(vectors.grad, golden["grad_image_embeds"][0], 1e-6)
    assert model(inputs_embeds=embeds, layout=layout).logits.equal(output.logits)


def test_the_head_on_supervised_positions_only_gives_the_same_loss(model):
    golden = case("train")
    ids, targets = golden["input_ids"], golden["labels"].roll(-1, 1)
    rows, columns = supervised_positions(targets)
    assert len(rows) == FACTS["train"]["n_label_tokens"]
    hidden = model.hidden(model.get_input_embeddings()(ids), model.layout_from_ids(ids))
    loss = supervised_loss(model.lm_head(hidden[rows, columns]), targets[rows, columns])
    assert loss.item() == pytest.approx(FACTS["train"]["loss"], abs=1e-5)


def test_gradient_checkpointing_changes_nothing(trainable):
    golden = case("train")
    losses, norms = [], []
    for _ in range(2):
        loss = trainable(golden["input_ids"], labels=golden["labels"]).loss
        trainable.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append([parameter.grad.norm().item() for parameter in trainable.parameters()])
        trainable.activation_checkpointing_enable()
    assert losses[0] == losses[1]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


# ---------------------------------------------------------------- goldens: generation


def test_greedy(model):
    golden = case("greedy")
    output = model.generate(golden["prompt_ids"], max_new_tokens=20, **GREEDY)
    assert output.sequences.equal(golden["sequences"])
    near(torch.cat(output.logits), golden["step_logits"])
    positions = model.layout_from_ids(golden["sequences"]).positions[0, golden["prompt_ids"].shape[1] - 1 : -1]
    assert positions.equal(golden["step_position_ids"])


def test_greedy_left_padded_batch(model):
    golden = case("greedy_batch")
    ids = golden["input_ids"]
    real = (ids != PAD).long()
    for given_mask in ({}, {"attention_mask": real}):  # transformers finds the padding by itself
        assert model.generate(ids, max_new_tokens=20, do_sample=False, **given_mask).equal(golden["sequences"])
    early = model.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=golden["early_eos_id"].item())
    assert early.equal(golden["sequences_early_eos"][:, : early.shape[1]])
    assert (golden["sequences_early_eos"][:, early.shape[1] :] == PAD).all()


def test_greedy_with_pictures(model):
    golden, facts = case("image_embeds"), FACTS["image_embeds"]
    ids = golden["greedy_prompt_ids"]
    _, embeds = with_pictures(model, ids, golden["image_embeds"][0], facts["pre_image_length"])
    output = model.generate(input_ids=ids, inputs_embeds=embeds, max_new_tokens=16, **GREEDY)
    assert output.sequences.equal(golden["greedy_sequences"])
    near(torch.cat(output.logits), golden["greedy_step_logits"])


def test_greedy_with_pictures_in_a_left_padded_batch(model):
    golden, text = case("image_embeds"), case("greedy")
    prompt, other = golden["greedy_prompt_ids"][0], text["prompt_ids"][0]
    ids = torch.stack([nn.functional.pad(row, (20 - len(row), 0), value=PAD) for row in (prompt, other)])
    slot = torch.full_like(ids, -1)
    start = 20 - len(prompt) + FACTS["image_embeds"]["pre_image_length"]
    slot[0, start : start + 6] = torch.arange(6)
    layout = replace(model.layout_from_ids(ids, ids != PAD), slot=slot)
    embeds = fill_slots(model.get_input_embeddings()(ids), golden["image_embeds"][0], layout)
    new = model.generate(input_ids=ids, inputs_embeds=embeds, attention_mask=(ids != PAD).long(), max_new_tokens=16, do_sample=False)[
        :, 20:
    ]
    assert new[0].equal(golden["greedy_sequences"][0, len(prompt) :])
    assert new[1].equal(text["sequences"][0, len(other) :][:16])


def test_generation_without_a_cache_and_with_beams(model):
    golden = case("greedy")
    plain = model.generate(golden["prompt_ids"], max_new_tokens=8, do_sample=False, use_cache=False)
    assert plain.equal(golden["sequences"][:, : plain.shape[1]])
    beams = model.generate(golden["prompt_ids"], max_new_tokens=8, do_sample=False, num_beams=3)
    again = model.generate(golden["prompt_ids"], max_new_tokens=8, do_sample=False, num_beams=3, use_cache=False)
    assert beams.equal(again)


# ---------------------------------------------------------------- what holds for all inputs

words = st.lists(st.integers(4, 179), min_size=0, max_size=6)
samples = st.builds(lambda context, answer: ([*context, GMASK], [SOP, *answer]), words, words)
few = settings(max_examples=15)


def as_pack(model, pieces):
    """Ids (1, t) and the layout of a pack of (context, continuation) pieces."""
    parts = [torch.tensor([context + answer]) for context, answer in pieces]
    layouts = [model.layout_from_ids(ids) for ids in parts]
    fields = {name: torch.cat([getattr(layout, name) for layout in layouts], 1) for name in vars(layouts[0])}
    numbers = torch.cat([torch.full_like(ids, number) for number, ids in enumerate(parts)], 1)
    return torch.cat(parts, 1), Layout(**fields | {"segment": numbers})


@few
@given(st.lists(samples, min_size=1, max_size=4))
@torch.no_grad()
def test_packed_equals_separate(model, pieces):
    ids, layout = as_pack(model, pieces)
    assert layout.positions.equal(glm_positions(layout.context, layout.segment))
    alone = [model(torch.tensor([context + answer])).logits for context, answer in pieces]
    near(model(ids, layout=layout).logits, torch.cat(alone, 1))


@few
@given(samples, st.integers(1, 5), st.booleans())
@torch.no_grad()
def test_padding_changes_nothing(model, piece, n, left):
    ids = torch.tensor([piece[0] + piece[1]])
    sides = (n, 0) if left else (0, n)
    padded, real = (nn.functional.pad(x, sides, value=v) for x, v in ((ids, PAD), (torch.ones_like(ids), 0)))
    logits = model(padded, attention_mask=real).logits
    near(logits[real.bool()], model(ids).logits[0])


@few
@given(samples, words)
@torch.no_grad()
def test_context_never_sees_the_continuation(model, piece, other):
    context, answer = piece
    first, second = (model(torch.tensor([[*context, SOP, *rest]])).logits for rest in (answer[1:], other))
    near(first[:, : len(context)], second[:, : len(context)], 1e-5)


@few
@given(samples, samples, samples)
@torch.no_grad()
def test_other_segments_are_never_seen(model, piece, before, after):
    ids, layout = as_pack(model, [before, piece, after])
    here = layout.segment == 1
    noise = torch.where(here, ids, (ids + 17) % 180)
    near(model(noise, layout=layout).logits[here], model(ids, layout=layout).logits[here], 1e-5)


@few
@given(samples)
@torch.no_grad()
def test_cached_equals_uncached(model, piece):
    context, answer = piece
    ids = torch.tensor([context + answer])
    cache, start = DynamicCache(), len(context) + 1
    steps = [model(ids[:, :start], past_key_values=cache).logits]
    for end in range(start + 1, ids.shape[1] + 1):
        layout = model.layout_from_ids(ids[:, :end])
        steps.append(model(ids[:, end - 1 : end], layout=layout, past_key_values=cache).logits)
    near(torch.cat(steps, 1), model(ids).logits)


@torch.no_grad()
def test_infilling_spans_see_the_context_and_earlier_spans(model):
    """Two blanks in one document: the first span is as if the second were not there."""
    ids = torch.tensor([[7, MASK, 9, MASK, SOP, 20, 21, SOP, 30]])
    segment = torch.zeros_like(ids)
    context = torch.arange(9)[None] < 4
    positions = infilling_positions(4, [(3, 3), (1, 2)])[None]
    layout = Layout(segment, context, positions, segment - 1, segment - 1)
    logits = model(ids, layout=layout).logits
    shorter = Layout(*(field[:, :7] for field in vars(layout).values()))
    near(logits[:, :7], model(ids[:, :7], layout=shorter).logits)
    changed = model(ids.index_fill(1, torch.tensor(5), 50), layout=layout).logits
    assert not torch.allclose(changed[:, 8], logits[:, 8], atol=1e-3)


@torch.no_grad()
def test_a_causal_layout_makes_it_a_causal_model(model):
    ids = torch.tensor([[5, 6, 7, 8]])
    segment = torch.zeros_like(ids)
    layout = Layout(segment, segment.bool(), causal_positions(segment), segment - 1, segment - 1)
    logits = model(ids, layout=layout).logits
    near(model(ids.index_fill(1, torch.tensor(3), 50), layout=layout).logits[:, :3], logits[:, :3], 1e-5)


# ---------------------------------------------------------------- the class among others


@torch.no_grad()
def test_logits_to_keep(model):
    ids = case("single_gmask")["input_ids"]
    logits = model(ids).logits
    near(model(ids, logits_to_keep=1).logits, logits[:, -1:])
    near(model(ids, logits_to_keep=torch.tensor([2, 5])).logits, logits[:, [2, 5]])


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    stored = set(load_file(GOLDEN / "chatglm_tiny_weights.safetensors"))
    assert names == {name for name in stored if "inv_freq" not in name}
    again = ChatGLMForCausalLM.from_pretrained(tmp_path)
    assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again.config.alpha_layers == 28
    assert again.generation_config.eos_token_id == CONFIG["eos_token_id"]


def test_only_the_stored_frequencies_are_not_used(folder):
    _, report = ChatGLMForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_the_full_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = ChatGLMForCausalLM(ChatGLMConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_707_929_088


def test_initial_weights():
    torch.manual_seed(0)
    model = ChatGLMForCausalLM(ChatGLMConfig(**CONFIG | {"num_layers": 1, "initializer_range": 0.1}))
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert model.lm_head.weight.std().item() == pytest.approx(0.1, rel=0.05)
    block = model.transformer.layers[0]
    assert not block.mlp.dense_h_to_4h.bias.any()
    assert (block.input_layernorm.weight == 1).all()


def test_the_vocabulary_can_grow(trainable):
    ids = case("single_gmask")["input_ids"]
    before = trainable(ids).logits
    trainable.resize_token_embeddings(210, mean_resizing=False)
    after = trainable(ids).logits
    assert after.shape[-1] == trainable.config.vocab_size == 210
    near(after[..., :200], before)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model(torch.tensor([[5, 6, SOP, 7]])), r"row 0: no \[gMASK\]"),
        (lambda model: model(torch.tensor([[5, GMASK, 7]])), "row 0: no <sop>"),
        (lambda model: model.generate(torch.tensor([[5, GMASK, 7]]), max_new_tokens=2), "row 0: no <sop>"),
        (lambda model: model(inputs_embeds=torch.zeros(1, 3, 64)), "pass input_ids beside inputs_embeds"),
        (
            lambda model: model.generate(inputs_embeds=torch.zeros(1, 3, 64), max_new_tokens=2),
            "pass input_ids beside inputs_embeds",
        ),
        (
            lambda model: model(torch.tensor([[7]]), past_key_values=model(torch.tensor([[GMASK, SOP]]), use_cache=True).past_key_values),
            "a filled cache needs layout",
        ),
        (
            lambda model: model(torch.tensor([[7]]), layout=model.layout_from_ids(torch.tensor([[GMASK, SOP]]))),
            r"layout covers 2 tokens, cache and input have 0 \+ 1",
        ),
        (lambda model: model(torch.tensor([[GMASK, SOP, 7]]), output_attentions=True), "output_attentions"),
        (
            lambda model: model(torch.tensor([[GMASK, SOP, 7]]), labels=torch.full((1, 3), -100)),
            "nothing is supervised",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(model, call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("key", "value"), [("position_encoding_2d", False), ("quantization_bit", 8), ("pre_seq_len", 128)])
def test_what_is_not_built_is_refused(key, value):
    with pytest.raises(ValueError, match=f"config.{key} = {value} is not supported"):
        ChatGLMForCausalLM(ChatGLMConfig(**CONFIG | {key: value}))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="hidden_size 40 is not a multiple of 4 x 4 heads"):
        ChatGLMConfig(**CONFIG | {"hidden_size": 40})
