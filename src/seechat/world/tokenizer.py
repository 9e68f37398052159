"""One tokenizer for the world: a unigram model whose pieces are the world's own words.

Control tokens are reserved from the start, so that later systems need no new vocabulary. Anything else falls back to bytes, and text that
spells a control token stays text.
"""

import hashlib
import math
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from seechat.foundation.files import atomic_write, cache_dir
from seechat.world.concepts import LANGUAGES, census, concepts
from seechat.world.questions import CAPTION_PROMPTS, CAPTIONS, NOTHING, PLACES, SKILLS, ask, caption
from seechat.world.scenes import SPLITS, sample_scene

TOKENIZER = "tokenizer.json"
PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<s>", "</s>"
GLM_CONTROLS = ("[MASK]", "[gMASK]", "<sop>", "<eop>")
CONTROLS = (
    PAD, UNK, BOS, EOS, *GLM_CONTROLS, "<image>", "</image>", "<|endofchunk|>", "<state>",
    *(f"<obj_{i}>" for i in range(8)),
)  # fmt: skip
_MARKS = (
    "\n",
    "问：",
    "答：",
    "\n答：",
    "[Round ",
    "]\n问：",
    "###Human:",
    "###Assistant:",
    "<Img>",
    "</Img>",
    "###",
    "，",
    "。",
    "、",
    "？",
    "！",
    "：",
)
NEVER = -1000.0  # a score no segmentation chooses: typed `[gMASK]` or `<0x41>` stays text
_NONCE_ZH = "".join(a for a in "达克斯维罗卡米塔纳索比利多法加哈莫尼帕萨图乌沃泽布迪埃格")


# Words of prompts and of the table of blocks: each one piece, though nothing that is counted says them.
_RESERVED = (
    "Question:| Answer:| Short| answer:|Output:| Output:|USER:| ASSISTANT:|Human:| Robot:|Given| Q:| A:| photo| image"
    "| block| blocks| object| color| table| red| orange| yellow| green| blue| purple| white| black| left| right| center| below| above| top"
    "| possible| first| First| then| grasp| place| stack| it| on| of| to| and| or| Is| How| What| the| step| failed| done| True| False"
    "|方块|物体|颜色|桌子|桌面|红色|橙色|黄色|绿色|蓝色|紫色|白色|黑色|左边|右边|中间|下面|上面|抓起|抓到|放到|放在|叠到|首先|然后|可以"
    "|能否|怎样|才能|这一步|失败|成功|完成|任务|先|再|把|的|在|是|吗|它|上|还是|红|橙|黄|绿|蓝|紫|白|黑"
)
RESERVED = tuple(_RESERVED.split("|"))


def nonce_words(language: str) -> tuple[str, ...]:
    """96 invented words, each one token: `dax`, `wug`, … / 达克, 斯维, …"""
    if language == "en":
        onsets, codas = "bdfgklmnprstvwz", "bdfgklmnpxz"
        words = [f"{a}{v}{c}" for v in "aiou" for a in onsets for c in codas if a != c]
        taken = {c.en for c in concepts()} | {"what", "zero"}
        pool = ["dax", "wug"] + [w for i, w in enumerate(words) if i % 6 == 0 and w not in taken]
    else:
        taken = {c.zh for c in concepts()}
        pool = [a + b for a in _NONCE_ZH for b in _NONCE_ZH if a != b and a + b not in taken]
        pool = ["达克"] + [w for i, w in enumerate(pool) if i % 7 == 0 and w != "达克"]
    return tuple(dict.fromkeys(pool))[:96]


def corpus(lines: int = 4000, seed: int = 0) -> list[str]:
    """Seeded world text, to count words in."""
    rng, simple = np.random.default_rng(seed), concepts(simple=True)
    text = []
    for i in range(lines):
        scene, language = sample_scene(rng, simple, split=SPLITS[0]), LANGUAGES[i % 2]
        kind = list(CAPTIONS)[i % len(CAPTIONS)]
        text += [CAPTION_PROMPTS[kind][language], caption(scene, language, kind, rng)]
        for skill in SKILLS:
            for exchange in ask(scene, skill, language, rng, simple) or ():
                text += [exchange.question, exchange.answer]
    return text


def _words() -> Counter[str]:
    """Pieces with counts: names, places, template words (with their leading space in English), nonce words, marks; reserved words last,
    so that they change nothing of how the rest is cut."""
    names = {w for c in concepts(simple=True) for w in (c.zh, " " + c.en)}
    fixed = names | {" " + p for p in PLACES["en"]} | set(PLACES["zh"]) | set(_MARKS) | set(NOTHING.values())
    fixed |= {" " + w for w in nonce_words("en")} | set(nonce_words("zh"))
    pattern = re.compile("|".join(re.escape(w) for w in sorted(fixed, key=lambda w: (-len(w), w))))
    counts: Counter[str] = Counter({w: 1 for w in fixed})
    for line in corpus():
        spaced = " " + line if line[:1].isascii() else line
        counts.update(pattern.findall(spaced))
        for rest in pattern.split(spaced):
            counts.update(re.findall(r" ?[A-Za-z]+|[\u4e00-\u9fff]+", rest))
    for word in RESERVED:
        counts[word] = counts[word] or 1
    return counts


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Count, score by log frequency, add every character of every name and the bytes. The same on every machine."""
    counts = _words()
    total = sum(counts.values())
    characters = census().letters | {chr(i) for i in range(32, 127)} | set("".join(counts))
    pieces = {w: math.log(n / total) for w, n in counts.items()}
    for ch in characters:
        pieces.setdefault(ch, -14.0)
    pieces = {w.replace(" ", "▁"): s for w, s in pieces.items()}
    table = [(c, NEVER) for c in CONTROLS] + [(f"<0x{i:02X}>", NEVER) for i in range(256)]
    table += sorted(pieces.items(), key=lambda row: (-row[1], row[0]))
    tokenizer = Tokenizer(models.Unigram(table, unk_id=CONTROLS.index(UNK), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROLS])
    return wrap(tokenizer)


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNK, bos_token=BOS, eos_token=EOS,
        split_special_tokens=True, clean_up_tokenization_spaces=False,
    )  # fmt: skip


@cache
def world_tokenizer() -> PreTrainedTokenizerFast:
    """The world's tokenizer: trained once for these names, then read from the cache."""
    world = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    stamp = hashlib.sha256(repr([(c.key, c.zh, c.en) for c in concepts()]).encode() + world).hexdigest()[:16]
    folder = cache_dir() / "tokenizer" / stamp
    if not (folder / TOKENIZER).is_file():
        save_tokenizer(train_tokenizer(), folder)
    return load_tokenizer(folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """`tokenizer.json` into a folder, written aside, then renamed."""
    with atomic_write(Path(folder) / TOKENIZER) as aside:
        tokenizer.backend_tokenizer.save(str(aside))


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """From `tokenizer.json` in a folder. Raises FileNotFoundError naming it."""
    path = Path(folder) / TOKENIZER
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a folder that save_pretrained wrote")
    return wrap(Tokenizer.from_file(str(path)))


def moved_pieces(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> list[str]:
    """The pieces of `old` that have another number in `new`, or none; in the order of their old numbers."""
    then, now = old.get_vocab(), new.get_vocab()
    return [piece for piece in sorted(then, key=then.__getitem__) if now.get(piece) != then[piece]]
