"""data/: prompt formats as written, what is supervised, packs against padding, pictures in their slots."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from seechat.data.batches import Encoder, collate, pack
from seechat.data.templates import TEMPLATES, control, template, text
from seechat.experts.chatglm import ChatGLMConfig, ChatGLMForCausalLM
from seechat.layout import IGNORE, PADDING, attention_mask, causal_positions, fill_slots, glm_positions
from seechat.records import Picture, Record, assistant, document, user

CONTROLS = ("<pad>", "<s>", "</s>", "[MASK]", "[gMASK]", "<sop>", "<eop>", "<image>", "</image>", "<state>")
SLOTS = 3


class Letters:
    """A tokenizer whose tokens are letters, so that a test reads what a model reads."""

    pad_token_id = 0

    def encode(self, words, *, add_special_tokens=False):
        return [len(CONTROLS) + ord(letter) % 200 for letter in words]

    def convert_tokens_to_ids(self, token):
        return CONTROLS.index(token)


ENCODER = Encoder(Letters(), SLOTS)
VOCABULARY = len(CONTROLS) + 200
ONE = Record("one", (user(Picture("a"), "猫吗？"), assistant("是")))
THREE = Record(
    "three",
    (
        user(Picture("a"), "what?"),
        assistant("cat"),
        user("它呢？"),
        assistant("狗"),
        user(Picture("b"), "where?"),
        assistant("top left"),
    ),
)
PAGE = Record("page", (document("两张。", Picture("a"), "cat.", Picture("b"), "狗。"),))


def shown(segments):
    """`text|`, `<control>`, `{picture}`; `^` before context, `*` before what is supervised."""
    out = []
    for s in segments:
        value = {"picture": lambda v: "{" + v.source + "}", "text": repr}.get(s.kind, str)(s.value)
        out.append("^" * s.context + "*" * s.supervised + value)
    return out


# ---------------------------------------------------------------- prompt formats


def test_chatglm_without_history():
    (sample,) = TEMPLATES["chatglm"].prefix_samples(ONE)
    assert shown(sample) == ["^<image>", "^{a}", "^</image>", "^'猫吗？'", "^[gMASK]", "<sop>", "*'是'", "*<eop>"]


def test_chatglm_with_two_rounds_of_history():
    samples = TEMPLATES["chatglm"].prefix_samples(THREE)
    assert len(samples) == 3
    assert shown(samples[0]) == ["^<image>", "^{a}", "^</image>", "^' what?'", "^[gMASK]", "<sop>", "*' cat'", "*<eop>"]
    assert shown(samples[2]) == [
        "^'[Round 0]\\n问：'", "^<image>", "^{a}", "^</image>", "^' what?'", "^'\\n答：'", "^' cat'", "^'\\n'",
        "^'[Round 1]\\n问：'", "^'它呢？'", "^'\\n答：'", "^'狗'", "^'\\n'",
        "^'[Round 2]\\n问：'", "^<image>", "^{b}", "^</image>", "^' where?'", "^'\\n答：'",
        "^[gMASK]", "<sop>", "*' top left'", "*<eop>",
    ]  # fmt: skip


def test_seechat_is_one_sample_a_dialogue():
    assert shown(TEMPLATES["seechat"].causal_sample(ONE)) == [
        "<s>", "'###Human:'", "'<Img>'", "{a}", "'</Img>'", "'猫吗？'", "'###Assistant:'", "*'是'", "*</s>",
    ]  # fmt: skip
    assert shown(TEMPLATES["seechat"].causal_sample(THREE)) == [
        "<s>", "'###Human:'", "'<Img>'", "{a}", "'</Img>'", "' what?'", "'###Assistant:'", "*' cat'", "*</s>",
        "'###Human:'", "'它呢？'", "'###Assistant:'", "*'狗'", "*</s>",
        "'###Human:'", "'<Img>'", "{b}", "'</Img>'", "' where?'", "'###Assistant:'", "*' top left'", "*</s>",
    ]  # fmt: skip


@pytest.mark.parametrize("record", [ONE, THREE], ids=lambda r: r.id)
@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_prompt_is_its_sample_up_to_the_answer(name, record):
    form, pairs = TEMPLATES[name], list(record.exchanges())
    sample = form.prefix_samples(record)[-1]
    prompt = form.prefix_prompt([*pairs[:-1], (pairs[-1][0], None)])
    assert sample[: len(prompt)] == prompt and sample[len(prompt)].supervised
    if form.stop is None:
        return  # a format that only prefix experts are trained on
    whole = form.causal_sample(record)
    causal = form.causal_prompt([*pairs[:-1], (pairs[-1][0], None)])
    assert [(s.kind, s.value) for s in whole[: len(causal)]] == [(s.kind, s.value) for s in causal]
    assert whole[len(causal)].supervised


def test_an_unknown_template_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'chatglm'"):
        template("chatgml")


def test_turns_that_do_not_alternate_are_refused_by_name():
    with pytest.raises(ValueError, match="'odd'"):
        TEMPLATES["chatglm"].prefix_samples(Record("odd", (user("a"), user("b"))))


# ---------------------------------------------------------------- samples


def samples_of(kind, *records):
    """One or more samples a record, for ChatGLM (`glm`) or a causal expert."""
    if kind == "glm":
        return [ENCODER.sample(r.id, s) for r in records for s in TEMPLATES["chatglm"].prefix_samples(r)]
    return [ENCODER.sample(r.id, TEMPLATES["seechat"].causal_sample(r)) for r in records]


def letters(words):
    return Letters().encode(words)


def test_supervised_is_exactly_answer_and_end():
    glm, causal = samples_of("glm", THREE), samples_of("causal", THREE)
    eop, end = CONTROLS.index("<eop>"), CONTROLS.index("</s>")
    answers = [letters(" cat"), letters("狗"), letters(" top left")]
    for sample, answer in zip(glm, answers, strict=True):
        assert sample.targets[sample.targets != IGNORE].tolist() == [*answer, eop]
        assert sample.ids[-len(answer) - 1 :].tolist() == [*answer, eop]
        assert sample.targets[-1] == IGNORE  # nothing follows the end
        assert sample.context.sum() == len(sample) - len(answer) - 2  # all but <sop>, answer and <eop>
    assert causal[0].targets[causal[0].targets != IGNORE].tolist() == [i for a in answers for i in [*a, end]]
    for sample in (*glm, *causal):
        known = sample.targets[:-1] != IGNORE
        assert (sample.targets[:-1][known] == sample.ids[1:][known]).all()


def test_of_a_page_every_word_is_supervised_and_no_picture():
    for sample in samples_of("glm", PAGE) + samples_of("causal", PAGE):
        predicted = np.append(False, sample.targets[:-1] != IGNORE)
        assert not predicted[sample.slot >= 0].any()
        words = letters("两张。") + letters(" cat.") + letters("狗。")
        assert [
            i for i in sample.ids[predicted].tolist() if i >= len(CONTROLS) and i not in letters("<Img></Img>")
        ] == [i for i in words if i not in letters("<Img></Img>")]


def test_nothing_supervised_and_too_long_are_errors_with_the_records_id():
    with pytest.raises(ValueError, match="'mute'.*no supervised"):
        ENCODER.sample("mute", [text("猫")])
    with pytest.raises(ValueError, match="'long'.*limit of 5"):
        Encoder(Letters(), SLOTS, limit=5).sample("long", [text("abcde"), text("f", supervised=True)])
    assert len(ENCODER.sample("prompt", [text("猫"), control("<sop>")], supervised=False)) == 2


def test_each_slot_row_is_the_right_pictures_vector():
    glm = samples_of("glm", THREE, ONE) + samples_of("causal", PAGE)
    rule = lambda context, segment: glm_positions(context, segment)  # noqa: E731
    for rows in ([[s] for s in glm], [glm], pack(glm, 90)):
        batch = collate(rows, rule, 0)
        assert len(batch.pictures) == sum(len(s.pictures) for s in glm)
        vectors = torch.tensor([[ord(p.source), q] for p in batch.pictures for q in range(SLOTS)], dtype=torch.float)
        filled = fill_slots(torch.zeros(*batch.ids.shape, 2), vectors, batch.layout)
        for i, row in enumerate(rows):
            start = 0
            for sample in row:
                inside = filled[i, start : start + len(sample)][torch.from_numpy(sample.slot >= 0)]
                assert inside.tolist() == [[ord(p.source), q] for p in sample.pictures for q in range(SLOTS)]
                after = batch.layout.picture[i, start : start + len(sample)].tolist()
                seen = [batch.pictures[k].source if k >= 0 else None for k in after]
                assert seen == [sample.pictures[k].source if k >= 0 else None for k in sample.picture.tolist()]
                start += len(sample)
        assert batch.tokens == sum(map(len, glm))
        assert batch.supervised == sum(int((s.targets != IGNORE).sum()) for s in glm)


def test_packs_lose_nothing_and_leave_as_few_positions_empty_as_first_fit_can():
    some = [ENCODER.sample(f"r{n}", [text("a" * n), text("b", supervised=True)]) for n in (1, 9, 4, 5, 30, 2)]
    rows = pack(some, 12)
    assert sorted(s.id for row in rows for s in row) == sorted(s.id for s in some)
    assert [sum(map(len, row)) for row in rows] == [31, 26]  # 62 positions; at a width of 12, 124
    short = [sample for sample in some if len(sample) < 12]
    assert max(sum(map(len, row)) for row in pack(short, 12)) <= 12
    assert pack(some[::-1], 12) == rows  # whatever the order they come in


def test_left_padding():
    rule = lambda context, segment: glm_positions(context, segment)  # noqa: E731
    some = samples_of("glm", ONE, THREE)
    left, right = (collate([[s] for s in some], rule, 0, left=flag) for flag in (True, False))
    t = left.ids.shape[1]
    for i, sample in enumerate(some):
        n = len(sample)
        assert left.ids[i, t - n :].tolist() == right.ids[i, :n].tolist() == sample.ids.tolist()
        assert (left.layout.segment[i, : t - n] == PADDING).all() and (left.targets[i, : t - n] == IGNORE).all()
        assert_close(left.layout.positions[i, t - n :], right.layout.positions[i, :n])
        assert_close(left.layout.slot[i, t - n :], right.layout.slot[i, :n])


# ---------------------------------------------------------------- packed = padded


def token_losses(kind, batch):
    """{(sample, place in it): nats} of the supervised tokens, pictures as fixed vectors."""
    torch.manual_seed(0)
    if kind == "glm":
        shape = {"hidden_size": 32, "inner_hidden_size": 64, "num_layers": 2, "num_attention_heads": 2}
        model = ChatGLMForCausalLM(ChatGLMConfig(vocab_size=VOCABULARY, **shape)).eval()
    else:
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape)).eval()
    vectors = torch.stack(
        [torch.sin(torch.arange(32.0) * (ord(p.source) + q)) for p in batch.pictures for q in range(SLOTS)]
    )
    embeds = fill_slots(model.get_input_embeddings()(batch.ids), vectors, batch.layout)
    with torch.no_grad():
        if kind == "glm":
            logits = model(inputs_embeds=embeds, layout=batch.layout).logits
        else:
            mask, positions = attention_mask(batch.layout), batch.layout.positions[..., 0]
            logits = model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions).logits
    losses = torch.nn.functional.cross_entropy(logits.mT, batch.targets, ignore_index=IGNORE, reduction="none")
    found, names = {}, iter(range(len(batch.names)))
    for i, row in enumerate(batch.layout.segment.tolist()):
        for number in range(max(row) + 1):
            name, start = next(names), row.index(number)
            for at, segment in enumerate(row):
                if segment == number and batch.targets[i, at] != IGNORE:
                    found[name, at - start] = float(losses[i, at])
    return found


@pytest.mark.parametrize("kind", ["glm", "causal"])
def test_packed_and_padded_give_the_same_loss_a_token(kind):
    rule = glm_positions if kind == "glm" else lambda context, segment: causal_positions(segment)
    some = samples_of(kind, ONE, THREE, PAGE)
    padded, packed = collate([[s] for s in some], rule, 0), collate([some[:2], some[2:]], rule, 0)
    left = collate([[s] for s in some], rule, 0, left=True)
    one = token_losses(kind, padded)
    assert len(one) == padded.supervised > 20
    for other in (token_losses(kind, packed), token_losses(kind, left)):
        assert other.keys() == one.keys()
        assert max(abs(other[key] - one[key]) for key in one) < 1e-5
