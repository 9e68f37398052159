"""Data cards, their Croissant files and benches: what they say is what is there."""

import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seechat.foundation.files import sha256
from seechat.reporting import cards, croissant, drift
from seechat.reporting.bench import SCENES, bench_world
from seechat.world.concepts import LANGUAGES, concepts
from seechat.world.questions import closed_answers
from seechat.world.scenes import SPLITS

FOLDER = Path(__file__).parents[1] / "data_cards"
SETS = ("world", "twemoji", "openmoji", "emoji-names")
GENERATED = [f"{name}{end}" for name in SETS for end in (".md", ".croissant.json")] + ["concepts.csv", "world-sample.jsonl"]


@pytest.fixture(scope="module")
def mlcroissant():
    return pytest.importorskip("mlcroissant", reason="pip install --no-deps -r requirements-cards.lock")


@pytest.fixture(scope="module")
def derived():
    return cards.derived(FOLDER)


def table_of(text, head):
    """The rows of the table that begins so, its head and rule included."""
    return [line.strip("| ").split(" | ") for line in text[text.index(head) :].split("\n\n")[0].splitlines()]


# ---- current --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_current(name, derived):
    assert (FOLDER / name).read_text(encoding="utf-8") == derived[name], "run: python -m seechat.reporting.cards"


def test_every_file_of_the_folder_is_looked_after(derived):
    assert {path.name for path in FOLDER.iterdir()} == {*derived, "unicode-license.txt"}


def test_stale_files_are_named_with_the_reason_and_written_anew(tmp_path, derived, monkeypatch):
    monkeypatch.setattr(cards, "blocks", lambda: {name: "| a | 1 |" for name in ("world.md", "twemoji.md")})
    for name in ("world.md", "twemoji.md"):
        shutil.copy(FOLDER / name, tmp_path)
    cards.main(tmp_path)
    assert all(finding.ok for finding in drift.data_cards(tmp_path))
    (tmp_path / "concepts.csv").unlink()
    edited = (tmp_path / "twemoji.md").read_text(encoding="utf-8").replace("| a | 1 |", "| a | 2 |")
    (tmp_path / "twemoji.md").write_text(edited, encoding="utf-8")
    found = {finding.name: finding.detail for finding in drift.data_cards(tmp_path) if not finding.ok}
    assert found.keys() == {"data_cards/concepts.csv", "data_cards/twemoji.md"}
    assert "missing" in found["data_cards/concepts.csv"] and found["data_cards/twemoji.md"] == "1 numbers differ, first 2 for 1"


def test_a_card_without_markers_is_refused():
    with pytest.raises(ValueError, match="measured"):
        cards.renewed("# a card", "block")


# ---- front matter ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_the_hub_reads_the_front_matter(name):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(FOLDER / f"{name}.md")
    front = croissant.front_matter((FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    assert card.data.to_dict() == front
    for config in front.get("configs", ()):
        assert all((FOLDER / each["path"]).is_file() for each in config["data_files"])
    for title in ("What it is", "How it is made", "Licence", "Splits", "Measured"):
        assert f"\n## {title}" in card.text


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("license: [other]", "license: [unicode-3.0]", "license cannot be 'unicode-3.0'"),
        ("license_name: unicode-3.0\n", "", "license_name is missing"),
        ("license_link: https://www.unicode.org/license.txt\n", "", "license_link is missing"),
        ("size_categories: [1K<n<10K]", "size_categories: [1K-10K]", "size_categories cannot be '1K-10K'"),
        ("multilinguality: [translation]", "multilinguality: translation", "multilinguality is not a list"),
        ("language: [zh, en]", "language: [zh, chinese]", "language cannot be 'chinese'"),
        ("source_datasets: [extended]\n", "", "source_datasets is missing"),
        ("pretty_name: Emoji names in Chinese and English\n", "", "pretty_name is missing"),
    ],
)
def test_front_matter_that_the_hub_does_not_know_is_refused(old, new, message):
    card = (FOLDER / "emoji-names.md").read_text(encoding="utf-8")
    assert card.count(old) == 1
    with pytest.raises(ValueError, match=message):
        croissant.front_matter(card.replace(old, new))


# ---- measured -------------------------------------------------------------------------------------------------------


def test_nothing_collides_but_captions_without_places(derived):
    _, _, *lines = table_of(derived["world.md"], "| collisions |")
    collisions = {name: int(number) for name, number in lines}
    expected = [f"captions without places in two splits, {language}" for language in LANGUAGES] + ["names that are a group's too, en"]
    assert len(collisions) == 13
    assert [name for name, number in collisions.items() if number] == expected


def test_what_counts_as_shared_and_alike():
    sample = croissant.scenes(20)
    straddling = {"train": sample["train"], "test": [*sample["test"], sample["train"][0], sample["train"][1]]}
    assert cards.shared(sample, cards.arrangement) == 0
    assert cards.shared(straddling, cards.arrangement) == 2
    assert cards.alike(["T-shirt", "t shirt", "cat", "o’clock"]) == 2


def test_a_sample_is_the_beginning_of_a_larger_one_and_keeps_to_its_splits():
    small, large = croissant.scenes(20), croissant.scenes(50)
    assert {split: len(some) for split, some in large.items()} == {"train": 40, "val": 5, "test": 5}
    assert all(large[split][: len(small[split])] == small[split] for split in SPLITS)
    assert all(scene.split == split for split in SPLITS for scene in large[split])


def test_another_name_changes_one_row_and_the_hash(monkeypatch):
    before = croissant.concept_table()
    first, *others = concepts()
    monkeypatch.setattr(croissant, "concepts", lambda **_: (replace(first, en="another name"), *others))
    after = croissant.concept_table()
    assert sha256(before) != sha256(after)
    assert [a for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b] == [before.splitlines()[1]]


def test_the_hash_in_the_cards_is_that_of_the_file():
    digest = sha256((FOLDER / "concepts.csv").read_bytes())
    for name in ("world.md", "emoji-names.md"):
        assert ["concepts.csv", digest] in table_of((FOLDER / name).read_text(encoding="utf-8"), "| what | sha256 |")


# ---- the files ------------------------------------------------------------------------------------------------------


def test_the_table_has_every_concept():
    with open(FOLDER / "concepts.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["key"], row["zh"], row["en"]) for row in table] == [(c.key, c.zh, c.en) for c in concepts()]
    assert sum(row["simple"] == "true" for row in table) == len(concepts(simple=True))


def test_the_sample_asks_the_same_in_both_languages():
    simple, by_key = concepts(simple=True), {c.key: c for c in concepts()}
    translated = {c.zh: c.en for c in simple}
    for skill in ("where", "exist", "count", "count_of", "relation"):
        translated |= dict(zip(*(closed_answers(skill, language, simple) for language in LANGUAGES), strict=True))
    lines = [json.loads(line) for line in (FOLDER / "world-sample.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == 50
    for line in lines:
        assert all(by_key[key].zh in caption for key in line["keys"] for caption in line["captions_zh"])
        assert all(by_key[key].en in caption for key in line["keys"] for caption in line["captions_en"])
        for skill, zh, en in zip(line["skills"], line["answers_zh"], line["answers_en"], strict=True):
            assert skill in ("group", "follow_up") or translated[zh] == en


# ---- Croissant ------------------------------------------------------------------------------------------------------


def loaded(name, mlcroissant):
    return mlcroissant.Dataset(jsonld=FOLDER / f"{name}.croissant.json")


@pytest.mark.parametrize("name", SETS)
def test_croissant_is_valid_without_a_warning(name, caplog, mlcroissant):
    metadata = loaded(name, mlcroissant).metadata
    issues = metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert metadata.name == name


@pytest.mark.parametrize("key", ["citeAs", "license", "version", "datePublished"])
def test_croissant_without_a_recommended_key_warns(key, mlcroissant):
    description = json.loads((FOLDER / "world.croissant.json").read_text(encoding="utf-8"))
    del description[key]
    (warning,) = mlcroissant.Dataset(jsonld=description).metadata.ctx.issues.warnings
    assert key in warning


def test_mlcroissant_says_where_a_context_is_not_its_own(caplog, mlcroissant):
    description = json.loads((FOLDER / "world.croissant.json").read_text(encoding="utf-8"))
    del description["@context"]["citeAs"]
    mlcroissant.Dataset(jsonld=description)
    assert "not standard" in caplog.text


@pytest.mark.parametrize("name", SETS)
def test_what_croissant_describes_is_there(name):
    description = json.loads((FOLDER / f"{name}.croissant.json").read_text(encoding="utf-8"))
    for file in description["distribution"]:
        content = (FOLDER / file["contentUrl"]).read_bytes()
        assert file["sha256"] == sha256(content) and file["contentSize"] == f"{len(content)} B"
    assert (FOLDER / description["url"]).is_file()
    assert all(each.startswith("https://") for each in description["license"])


@pytest.mark.parametrize("name", SETS)
def test_croissant_loads_the_concepts(name, mlcroissant):
    records = list(loaded(name, mlcroissant).records("concepts"))
    cat = next(c for c in concepts() if c.en == "cat")
    (found,) = (record for record in records if record["concepts/key"] == cat.key.encode())
    told = {"key": cat.key, "zh": cat.zh, "en": "cat", "group": "animal", "tier": cat.tier}
    assert found == {f"concepts/{field}": value.encode() for field, value in told.items()} | {"concepts/simple": cat.simple}
    assert len(records) == len(concepts())


def test_croissant_loads_the_scenes(mlcroissant):
    records = list(loaded("world", mlcroissant).records("scenes"))
    lines = [json.loads(line) for line in (FOLDER / "world-sample.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["scenes/id"].decode() for record in records] == [line["id"] for line in lines]
    assert records[0]["scenes/cells"] == lines[0]["cells"]
    assert [answer.decode() for answer in records[0]["scenes/answers_zh"]] == lines[0]["answers_zh"]


def test_croissant_refuses_a_file_without_a_hash(mlcroissant):
    description = json.loads((FOLDER / "emoji-names.croissant.json").read_text(encoding="utf-8"))
    del description["distribution"][0]["sha256"]
    with pytest.raises(mlcroissant.ValidationError, match="sha256"):
        mlcroissant.Dataset(jsonld=description)


# ---- benches --------------------------------------------------------------------------------------------------------


def test_bench_counts_scenes():
    (row,) = bench_world(seconds=0.2, processes=1)
    assert row.value > 0 and row.unit == "scenes/s" and row.ratio == pytest.approx(row.value / SCENES)
