"""world/: answers against a second solver, splits and tiers that never meet, same seed same bytes, names, tokens."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seechat.data.batches import Encoder
from seechat.data.pretraining import Reader
from seechat.data.templates import TEMPLATES
from seechat.records import Picture, Text
from seechat.world import concepts as names
from seechat.world import tokenizer as tokenizing
from seechat.world.concepts import ARTISTS, LANGUAGES, TIERS, census, concepts, group_name
from seechat.world.documents import (
    caption_record,
    dialogue_record,
    interleaved_record,
    language_of,
    nonce_record,
    nonce_split,
    question_record,
    text_twin,
)
from seechat.world.questions import CAPTIONS, NOTHING, PLACES, SKILLS, YES_NO, ask, balanced_question, caption, closed_answers
from seechat.world.scenes import CELLS, SPLITS, Item, Scene, render, sample_scene
from seechat.world.tokenizer import CONTROLS, RESERVED, nonce_words, world_tokenizer

GOLDEN = Path(__file__).parent / "golden"
SEEN = concepts(tier="seen", simple=True)
seeds = st.integers(0, 2**32 - 1)
languages = st.sampled_from(LANGUAGES)
quick = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="session")
def tokenizer():
    return world_tokenizer()


def scene_of(seed, split="train", count=None):
    rng = np.random.default_rng(seed)
    return sample_scene(rng, SEEN, split=split, count=count), rng


# ---------------------------------------------------------------- concepts and names


def test_tiers_are_disjoint_and_cover():
    keys = [{c.key for c in concepts(tier=tier)} for tier in TIERS]
    assert all(not a & b for a, b in combinations(keys, 2))
    assert set().union(*keys) == {c.key for c in concepts()} and sum(map(len, keys)) == census().kept
    assert all(keys)


def test_names_are_short_plain_and_their_own():
    for language in LANGUAGES:
        said = [c.name(language) for c in concepts()]
        assert len({re.sub(r"[\s\-.'’]", "", name).casefold() for name in said}) == len(said)
        assert all(name == name.strip() and not re.search(r"[_:()（）]", name) for name in said)
    assert max(len(c.zh) for c in concepts()) <= 8 and max(len(c.en) for c in concepts()) <= 32


@pytest.mark.parametrize(
    ("raw", "zh"),
    [(":女人_秃顶:", "秃顶女人"), (":按键_1:", "按键1"), (":A型血（血型）:", "A型血"), (":猫:", "猫"), ("", "")],
)
def test_chinese_name_rule(raw, zh):
    assert names._chinese(raw) == zh


@pytest.mark.parametrize(
    ("raw", "en"),
    [
        (":red_apple:", "red apple"),
        (":A_button_(blood_type):", "A button"),
        (":woman_red_hair:", "red-haired woman"),
        (":UP!_button:", "UP button"),
    ],
)
def test_english_name_rule(raw, en):
    assert names._english(raw) == en


def test_names_that_read_alike_collide():
    assert names._same("Mind-Blown") == names._same("mind blown") != names._same("mind blow")


def test_trainings_rest_on_these_simple_concepts():
    """Changing one of them makes the committed experts unreadable."""
    simple = [(c.key, c.zh, c.en, c.group, c.tier) for c in concepts(simple=True)]
    assert (len(simple), len(SEEN)) == (349, 258)
    assert hashlib.sha256(repr(simple).encode()).hexdigest()[:16] == "7e810c85fe34f7d4"


# ---------------------------------------------------------------- scenes and pictures

_BYTES = """
import hashlib, numpy as np
from seechat.world.concepts import concepts
from seechat.world.documents import dialogue_record, interleaved_record, nonce_record
from seechat.world.scenes import render, sample_scene
seen, digest = concepts(tier="seen", simple=True), hashlib.sha256()
for seed in range(6):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, seen, split="train")
    digest.update(render(scene).tobytes())
    for language in ("zh", "en"):
        digest.update(dialogue_record(scene, rng, language, seen, 3).id.encode())
        digest.update(interleaved_record(rng, language, seen, split="val").id.encode())
        digest.update(nonce_record(rng, language, seen, ways=2, shots=2, split="test").record.id.encode())
print(digest.hexdigest())
"""


def test_same_seed_same_bytes_in_any_process():
    def digest(hash_seed):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", _BYTES], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert digest("1") == digest("2")


@quick
@given(seeds, st.sampled_from(SPLITS))
def test_split_is_of_the_arrangement_alone(seed, split):
    scene, rng = scene_of(seed, split)
    assert scene.split == split
    assert 1 <= len(scene.items) <= CELLS and [i.cell for i in scene.items] == sorted({i.cell for i in scene.items})
    looks = rng.integers(256, size=(len(scene.items), 3)).tolist()
    other = Scene(
        tuple(Item(i.concept, i.cell, *look) for i, look in zip(scene.items, looks, strict=True)),
        ((1, 2, 3), (4, 5, 6), 1),
    )
    assert other.split == split  # another picture of one arrangement never straddles


def test_splits_have_their_shares():
    rng = np.random.default_rng(0)
    found = Counter()
    for _ in range(2000):
        cells = np.sort(rng.permutation(CELLS)[:2])
        found[
            Scene(
                tuple(
                    Item(SEEN[i], int(c), 0, 0, 0) for i, c in zip(rng.integers(len(SEEN), size=2), cells, strict=True)
                ),
                ((0,) * 3,) * 2 + (0,),
            ).split
        ] += 1
    assert [found[s] / 2000 for s in SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.04)


@quick
@given(seeds, st.sampled_from((33, 64, 96)), st.sampled_from(ARTISTS))
def test_pixels_outside_the_cells_of_items_are_background(seed, size, artist):
    scene, _ = scene_of(seed)
    picture, bare = render(scene, size, artist), render(Scene((), scene.background), size, artist)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    cell, free = size // 2, np.ones((size, size), bool)
    for item in scene.items:
        box = np.s_[item.row * cell : (item.row + 1) * cell, item.column * cell : (item.column + 1) * cell]
        free[box] = False
        assert (picture[box] != bare[box]).any()
    assert (picture[free] == bare[free]).all()


def test_held_out_artist_draws_otherwise():
    scenes = [scene_of(seed)[0] for seed in range(20)]
    assert all((render(s, 64, "twemoji") != render(s, 64, "openmoji")).any() for s in scenes)


def golden_scene():
    """Fixed by names, not by a generator."""
    by_name = {c.en: c for c in concepts()}
    things = ("cat", "banana", "airplane", "dog")
    items = tuple(Item(by_name[n], cell, 60 * cell + 10, 200 - 50 * cell, 255) for cell, n in enumerate(things))
    return Scene(items, ((130, 200, 250), (250, 140, 160), 1))


@pytest.mark.parametrize("artist", ARTISTS)
def test_rendering_golden(artist):
    """Mean colour of each 8 x 8 block of a 64-pixel picture, within 1/255 of what is stored."""
    blocks = render(golden_scene(), 64, artist).reshape(8, 8, 8, 8, 3).mean((1, 3))
    stored = np.array(json.loads((GOLDEN / "world.json").read_text())["blocks"][artist])
    assert np.abs(blocks - stored).max() <= 1


# ---------------------------------------------------------------- captions and questions, against a solver of its own


def grid_of(scene):
    """{(row, column): concept}"""
    return {(item.cell // 2, item.cell % 2): item.concept for item in scene.items}


WHERE = {
    "左上": (0, 0),
    "右上": (0, 1),
    "左下": (1, 0),
    "右下": (1, 1),
    "top left": (0, 0),
    "top right": (0, 1),
    "bottom left": (1, 0),
    "bottom right": (1, 1),
}
COUNT = {"零": 0, "一": 1, "二": 2, "三": 3, "四": 4, "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4}
STEP = {
    "左边": (0, -1),
    "右边": (0, 1),
    "上面": (-1, 0),
    "下面": (1, 0),
    "left of": (0, -1),
    "right of": (0, 1),
    "above": (-1, 0),
    "below": (1, 0),
}
FORMS = {  # (skill, language) -> the whole question
    ("what", "zh"): r"(?P<spot>..)是什么？",
    ("what", "en"): r"What is at the (?P<spot>.+)\?",
    ("where", "zh"): r"(?P<a>.+)在哪里？",
    ("where", "en"): r"Where is the (?P<a>.+)\?",
    ("exist", "zh"): r"有(?P<a>.+)吗？",
    ("exist", "en"): r"Is there a (?P<a>.+)\?",
    ("count", "zh"): r"有几个东西？",
    ("count", "en"): r"How many things are there\?",
    ("count_of", "zh"): r"有几个(?P<a>.+)？",
    ("count_of", "en"): r"How many (?P<a>.+)\?",
    ("relation", "zh"): r"(?P<a>.+)在(?P<b>.+)的(?P<side>..)吗？",
    ("relation", "en"): r"Is the (?P<a>.+) (?P<side>left of|above) the (?P<b>.+)\?",
    ("group", "zh"): r"(?P<spot>..)的东西属于哪一类？",
    ("group", "en"): r"Which group is the thing at the (?P<spot>.+) in\?",
    ("follow_up", "zh"): r"它的(?P<side>..)是什么？",
    ("follow_up", "en"): r"What is (?P<side>left of|right of|above|below) it\?",
}


def solve(scene, skill, language, question, before=None):
    """The answer, from the question's words and the grid alone; `before` is the question a follow-up leans on."""
    grid = grid_of(scene)
    said = {key: concept.name(language) for key, concept in grid.items()}
    found = re.fullmatch(FORMS[skill, language], question)
    assert found, f"{question!r} has not the form of {skill}"
    part = found.groupdict()
    cells = {word: [k for k, name in said.items() if name == part.get(word)] for word in ("a", "b")}
    number = {v: k for k, v in COUNT.items() if k.isascii() == (language == "en")}
    yes = (
        {"exist": ("没有", "有"), "relation": ("不是", "是")}
        if language == "zh"
        else {"exist": ("no", "yes"), "relation": ("no", "yes")}
    )
    if skill == "what":
        return said[WHERE[part["spot"]]]
    if skill == "where":
        (cell,) = cells["a"]
        return next(word for word, at in WHERE.items() if at == cell and word.isascii() == (language == "en"))
    if skill == "exist":
        return yes[skill][bool(cells["a"])]
    if skill == "count":
        return number[len(grid)]
    if skill == "count_of":
        return number[len(cells["a"])]
    if skill == "relation":
        ((ra, ca),), ((rb, cb),) = cells["a"], cells["b"]
        return yes[skill][ca < cb if STEP[part["side"]] == (0, -1) else ra < rb]
    if skill == "group":
        return group_name(grid[WHERE[part["spot"]]].group, language)
    row, column = WHERE[re.fullmatch(FORMS["what", language], before)["spot"]]
    down, across = STEP[part["side"]]
    assert row + down in (0, 1) and column + across in (0, 1), "the follow-up asks about a place outside the picture"
    return said.get((row + down, column + across), NOTHING[language])


@settings(max_examples=40, deadline=None)
@given(seeds)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("skill", SKILLS)
def test_every_answer_is_what_the_solver_finds(skill, language, seed):
    scene, rng = scene_of(seed)
    exchanges = ask(scene, skill, language, rng, SEEN)
    before = None
    for exchange in exchanges or ():
        assert exchange.answer == solve(scene, exchange.skill, language, exchange.question, before)
        before = exchange.question
    if skill == "follow_up":
        assert [e.skill for e in exchanges] == ["what", "follow_up"]
        present = {item.concept.name(language) for item in scene.items}
        assert not any(name in exchanges[1].question for name in present - set("左右上下"))  # the pronoun names nothing


@quick
@given(seeds, languages, st.sampled_from(list(CAPTIONS)), st.booleans())
def test_captions_name_every_object_and_only_those(seed, language, kind, shuffled):
    scene, rng = scene_of(seed)
    said = caption(scene, language, kind, rng if shuffled else None)
    if kind == "names":
        spoken = [(name, None) for name in re.split("、|, ", said[:-1])]
        wanted = [(item.concept.name(language), None) for item in scene.items]
    else:
        clause = {
            "place-first": {"zh": "(?P<p>..)有(?P<n>.+)", "en": "(?P<p>.+) is (?P<n>.+)"},
            "name-first": {"zh": "(?P<n>.+)在(?P<p>..)", "en": "(?P<n>.+) at (?P<p>.+)"},
        }
        found = [re.fullmatch(clause[kind][language], each) for each in re.split("，|, ", said[:-1])]
        spoken = [(match["n"], WHERE[match["p"]]) for match in found]
        wanted = [(concept.name(language), at) for at, concept in grid_of(scene).items()]
    assert Counter(spoken) == Counter(wanted)
    if not shuffled:
        assert spoken == wanted


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("skill", SKILLS)
def test_balanced_questions(skill, language):
    rng = np.random.default_rng(5)
    closed = closed_answers(skill, language, SEEN)
    rounds = 2 * len(closed) if closed else 20
    answers = Counter()
    for turn in range(rounds):
        scene, exchanges = balanced_question(rng, skill, language, SEEN, split="val", turn=turn)
        assert scene.split == "val"
        assert exchanges[-1].skill == skill
        answers[exchanges[-1].answer] += 1
    if closed:
        assert answers == Counter(dict.fromkeys(closed, 2))
    else:
        assert set(answers) <= {c.name(language) for c in SEEN}


# ---------------------------------------------------------------- documents


def every_kind(seed, language):
    scene, rng = scene_of(seed)
    exchanges = None
    while exchanges is None:
        exchanges = ask(scene, SKILLS[seed % len(SKILLS)], language, rng, SEEN)
        scene = scene if exchanges else sample_scene(rng, SEEN, split="train")
    return [
        caption_record(scene, language, list(CAPTIONS)[seed % 3], rng),
        question_record(scene, exchanges),
        dialogue_record(scene, rng, language, SEEN, 2 + seed % 4),
        interleaved_record(rng, language, SEEN, split="train"),
        nonce_record(rng, language, SEEN, ways=2, shots=1, split="train").record,
    ]


@quick
@given(seeds, languages)
def test_text_twins_tell_the_pictures_and_change_nothing_else(seed, language):
    for record in every_kind(seed, language):
        twin = text_twin(record)
        assert not twin.pictures and record.pictures
        assert language_of(record) == language and twin.id.startswith(record.id)
        for turn, told in zip(record.turns, twin.turns, strict=True):
            assert turn.role == told.role
            for part, other in zip(turn.parts, told.parts, strict=True):
                expected = Text(caption(part.source, language)) if isinstance(part, Picture) else part
                assert other == expected


def test_a_photograph_has_no_text_twin():
    record = question_record(*_asked(0))
    stranger = type(record)("r7", (type(record.turns[0])("user", (Picture("dog.png"), Text("狗"))), record.turns[1]))
    with pytest.raises(ValueError, match="r7"):
        text_twin(stranger)


def _asked(seed):
    scene, rng = scene_of(seed)
    return scene, ask(scene, "what", "zh", rng, SEEN)


@quick
@given(seeds, languages, st.integers(1, 6))
def test_dialogues_have_so_many_right_answers(seed, language, turns):
    scene, rng = scene_of(seed)
    pairs = list(dialogue_record(scene, rng, language, SEEN, turns).exchanges())
    questions = [turn.text for turn, _ in pairs]
    assert len(pairs) == len(set(questions)) == turns
    assert [len([p for p in turn.parts if isinstance(p, Picture)]) for turn, _ in pairs] == [1] + [0] * (turns - 1)
    leaning = 0
    for number, (turn, reply) in enumerate(pairs):
        fits = [s for s in SKILLS if re.fullmatch(FORMS[s, language], turn.text)]
        skill = (
            "follow_up"
            if "follow_up" in fits
            else "count"
            if "count" in fits
            else "group"
            if "group" in fits
            else fits[0]
        )
        leaning += skill == "follow_up"
        assert reply.text == solve(scene, skill, language, turn.text, questions[number - 1] if number else None)
    assert leaning >= (turns > 1)


def test_a_dialogue_longer_than_the_scene_has_questions_is_refused():
    scene, rng = scene_of(0, count=1)
    with pytest.raises(ValueError, match="different questions"):
        dialogue_record(scene, rng, "zh", SEEN[:3], 60)


@quick
@given(seeds, languages, st.sampled_from(SPLITS))
def test_pages_alternate_pictures_and_their_captions(seed, language, split):
    (turn,) = interleaved_record(np.random.default_rng(seed), language, SEEN, split=split).turns
    parts = list(turn.parts)
    opening = parts.pop(0) if isinstance(parts[0], Text) else None
    assert turn.role == "document" and 2 <= len(parts) / 2 <= 5
    assert opening is None or ("二两三四五".find(opening.text[1]) > 0 or opening.text.startswith("There are"))
    for picture, words in zip(parts[::2], parts[1::2], strict=True):
        assert picture.source.split == split
        assert Counter(words.text) in [Counter(caption(picture.source, language, kind)) for kind in CAPTIONS]


def test_a_page_of_one_picture_is_refused():
    with pytest.raises(ValueError, match="2 to 5"):
        interleaved_record(np.random.default_rng(0), "zh", SEEN, split="train", pictures=1)


def test_invented_names_are_split_and_no_ones_names():
    for language in LANGUAGES:
        words = nonce_words(language)
        parts = [{w for w in words if nonce_split(w) == split} for split in SPLITS]
        assert len(words) == len(set(words)) == 96 and min(map(len, parts)) >= 8
        assert all(not a & b for a, b in combinations(parts, 2)) and set().union(*parts) == set(words)
        assert not set(words) & {c.name(language) for c in concepts()}


@quick
@given(seeds, languages, st.sampled_from(SPLITS), st.integers(2, 5), st.integers(1, 3))
def test_only_the_pictures_tell_what_a_dax_is(seed, language, split, ways, shots):
    binding = nonce_record(np.random.default_rng(seed), language, SEEN, ways=ways, shots=shots, split=split)
    assert len(set(binding.names)) == len(set(binding.concepts)) == ways
    assert all(nonce_split(name) == split for name in binding.names)
    (turn,), (prompt,) = binding.record.turns, binding.prompt.turns
    assert turn.parts[: len(prompt.parts)] == prompt.parts
    assert turn.parts[len(prompt.parts)].text.strip() == binding.answer and binding.query in prompt.parts
    meaning = dict(zip(binding.concepts, binding.names, strict=True))
    assert not any(c.name(language) in turn.text.split() for c in binding.concepts)
    examples: Counter = Counter()
    for at, part in enumerate(turn.parts):
        if isinstance(part, Picture):
            (concept,) = {item.concept for item in part.source.items}
            assert part.source.split == split
            assert turn.parts[at + 2].text.strip() == meaning[concept]
            if part is not binding.query:
                examples[concept] += 1
                if meaning[concept] == binding.answer:
                    assert [i.cell for i in part.source.items] != [i.cell for i in binding.query.source.items]
    assert examples == Counter(dict.fromkeys(binding.concepts, shots))


def test_too_many_ways_are_refused():
    with pytest.raises(ValueError, match="ways"):
        nonce_record(np.random.default_rng(0), "zh", SEEN, ways=70, shots=1, split="test")


def test_ids_are_of_the_content():
    ids = [record.id for seed in range(8) for language in LANGUAGES for record in every_kind(seed, language)]
    again = [record.id for seed in range(8) for language in LANGUAGES for record in every_kind(seed, language)]
    assert ids == again and len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"(caption|question-[a-z_]+|dialogue|page|nonce)-(zh|en)-[0-9a-f]{12}", id) for id in ids)


# ---------------------------------------------------------------- tokenizer


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text.replace("▁", " ")  # U+2581 is the tokenizer's own space


@given(st.lists(st.sampled_from([*CONTROLS, "<0x41>", "猫", " cat", "x"]), max_size=6).map("".join))
@settings(max_examples=100, deadline=None)
def test_typed_control_tokens_stay_text(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert not set(ids) & set(range(len(CONTROLS)))
    assert tokenizer.decode(ids) == text


def test_reserved_words_are_single_tokens_and_change_nothing_of_how_the_world_is_cut(tokenizer, monkeypatch):
    assert [w for w in RESERVED if len(tokenizer.tokenize(w)) != 1] == []
    monkeypatch.setattr(tokenizing, "RESERVED", [])
    without = tokenizing.train_tokenizer()
    assert len(without) < len(tokenizer)
    for line in tokenizing.corpus(200):
        assert without.tokenize(line) == tokenizer.tokenize(line)


def test_names_are_single_tokens(tokenizer):
    words = [w for c in concepts(simple=True) for w in (c.zh, " " + c.en)]
    words += [*nonce_words("zh"), *(" " + w for w in nonce_words("en"))]
    assert [w for w in words if len(tokenizer.encode(w, add_special_tokens=False)) != 1] == []
    assert [tokenizer.convert_tokens_to_ids(c) for c in CONTROLS] == list(range(len(CONTROLS)))


def test_every_kept_name_has_no_bytes_in_it(tokenizer):
    """A name outside the simple ones is spelled in characters, never in bytes."""
    pieces = {p for c in concepts() for w in (c.zh, " " + c.en) for p in tokenizer.tokenize(w)}
    assert not [p for p in pieces if p.startswith("<0x")]


# ---------------------------------------------------------------- what the language experts read


@quick
@given(seeds, languages)
def test_worded_dialogues_are_the_twins_of_picture_dialogues(tokenizer, seed, language):
    encoder = Encoder(tokenizer, slots=4)
    scene, rng = scene_of(seed)
    exchanges = ask(scene, SKILLS[seed % len(SKILLS)], language, rng, SEEN)
    if exchanges is None:
        return
    read = Reader(encoder, SEEN).answer("x", caption(scene, language), exchanges)
    twin = encoder.sample("x", TEMPLATES["chatglm"].prefix_samples(text_twin(question_record(scene, exchanges)))[-1])
    for name in ("ids", "targets", "context", "slot", "picture"):
        assert (getattr(read, name) == getattr(twin, name)).all()


@quick
@given(seeds, st.booleans())
def test_roll_calls_call_each_name_and_place_and_answer_truly(tokenizer, seed, prefix):
    reader = Reader(Encoder(tokenizer, slots=4), SEEN)
    sample = reader.roll_call(np.random.default_rng(seed), TEMPLATES["chatglm"], prefix)
    scene = sample.pictures[0].source
    words = [piece.replace("\u2581", " ") for piece in tokenizer.convert_ids_to_tokens(sample.ids.tolist())]
    calls: list[tuple[str, str]] = []
    for i in range(words.index("<sop>" if prefix else "</image>") + 1, len(words)):
        if sample.targets[i - 1] >= 0:  # this word answers
            calls[-1] = (calls[-1][0], (calls[-1][1] + words[i]).strip())
        else:
            calls.append((words[i].strip(), ""))
    language = "zh" if any(call in PLACES["zh"] or answer in PLACES["zh"] for call, answer in calls) else "en"
    places, told = PLACES[language], {}
    for call, answer in calls:
        if call in places:
            told[places.index(call)] = answer
        elif answer in places:
            assert call == scene.at(places.index(answer)).concept.name(language)
        else:
            assert answer == YES_NO[language]["exist"][0] and call not in {i.concept.name(language) for i in scene.items}
    names = [NOTHING[language] if (item := scene.at(cell)) is None else item.concept.name(language) for cell in range(4)]
    assert [told[cell] for cell in range(4)] == names
    singles = [item for item in scene.items if len(scene.having(item.concept)) == 1]
    assert len(calls) == 4 + 4 + len(singles)


@pytest.mark.parametrize("slots", [4, 16])
def test_slots_hold_the_words_of_their_cell(tokenizer, slots):
    reader = Reader(Encoder(tokenizer, slots), SEEN)
    scene = next(s for s in (reader.scene(np.random.default_rng(n)) for n in range(99)) if len(s.items) == 3)
    words = tokenizer.convert_ids_to_tokens(reader.slot_words(scene).ravel().tolist())
    side, found = int(slots**0.5), np.array(words).reshape(slots, 4)
    for slot, (zh, en, *spots) in enumerate(found):
        row, column = divmod(slot, side)
        cell = row * 2 // side * 2 + column * 2 // side
        item = scene.at(cell)
        assert (zh, en.strip("\u2581")) == (("<unk>", "<unk>") if item is None else (item.concept.zh, item.concept.en))
        assert [spot.replace("\u2581", " ").strip() for spot in spots] == [PLACES["zh"][cell], PLACES["en"][cell]]


def test_slots_that_are_no_square_are_refused(tokenizer):
    reader = Reader(Encoder(tokenizer, slots=8), SEEN)
    with pytest.raises(ValueError, match="square number of picture tokens, not 8"):
        reader.slot_words(reader.scene(np.random.default_rng(0)))


def reading(tokenizer):
    """The first samples of each kind that the language experts are trained on."""
    reader = Reader(Encoder(tokenizer, slots=4), SEEN)
    found = {}
    for kind in ("dialogue", "sheet", "infilling", "continuation", "causal"):
        rng = np.random.default_rng(7)
        found[kind] = [getattr(reader, kind)(rng).ids.tolist() for _ in range(2 if kind != "dialogue" else 6)]
    return found


def test_what_the_experts_read_golden(tokenizer):
    """Ids of a few samples: what the committed experts were trained on."""
    assert reading(tokenizer) == json.loads((GOLDEN / "world.json").read_text())["reading"]
