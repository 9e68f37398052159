"""Pictures and their names drawn together: how the world's CLIP is pretrained.

Two losses share one text tower, each a symmetric InfoNCE with its own learned temperature:
the CLS vector of a picture with its caption (CLIP itself), and the mean patch feature of each cell, at the layer that
bridges read, with the name of what is drawn in it. The second makes patch features say what is where; it uses the places
that the world knows and real captions do not give, as region-text pretraining with boxes does.

Letters: `b` texts, `t` tokens, `i` pictures, `r` regions, `p` patches, `v` vision width, `e` width of the shared space.
Sources: Radford et al. 2021 (CLIP, arXiv 2103.00020); Zhong et al. 2022 (RegionCLIP, arXiv 2112.09106).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from torch import LongTensor, Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerBase

from seechat.experts.vision import VisionConfig, VisionExpert, preprocess
from seechat.foundation.files import load_tensors, save_tensors, write_json
from seechat.foundation.seeding import rng as stream
from seechat.foundation.strict import read
from seechat.world.concepts import LANGUAGES, Concept, drawing
from seechat.world.questions import caption
from seechat.world.scenes import CELLS, GRID, Scene, paste, render, sample_scene

COLDEST = math.log(1 / 0.07)  # where the logarithm of a temperature's inverse begins
HOTTEST = math.log(100.0)  # where it is clamped


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text tower. ``length`` is the longest text, in tokens."""

    vocabulary: int
    width: int = 128
    layers: int = 1
    heads: int = 4
    length: int = 32
    padding: int = 0


@dataclass(frozen=True)
class ContrastiveConfig:
    """The whole of a run: towers, weight of the regions' loss beside the captions', and the optimiser's numbers."""

    text: TextConfig
    vision: VisionConfig = field(default_factory=VisionConfig)
    regions: float = 2.0
    steps: int = 8000
    warmup: int = 100
    lr: float = 1e-3
    weight_decay: float = 0.05


@dataclass
class ContrastiveBatch:
    """Pictures, and the distinct texts about them: equal texts are one row, so that none is another's negative.

    pixels (i, 3, h, w); captions (b, t) ids, caption_of (i,) rows of captions; names (b', t') ids, one of each concept;
    regions (r, p) bool patches, picture_of (r,) rows of pixels, name_of (r,) rows of names.
    """

    pixels: Tensor
    captions: LongTensor
    caption_of: LongTensor
    names: LongTensor
    regions: Tensor
    picture_of: LongTensor
    name_of: LongTensor

    def to(self, device: torch.device | str, **kwargs: Any) -> "ContrastiveBatch":
        return ContrastiveBatch(**{k: v.to(device, **kwargs) for k, v in vars(self).items()})


class TextTower(nn.Module):
    """Token ids (b, t) -> text vectors (b, e): a two-way transformer, and the mean over all tokens but padding."""

    def __init__(self, config: TextConfig, projection: int):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.length, config.width)
        nn.init.normal_(self.tokens.weight, std=0.5)
        nn.init.normal_(self.positions.weight, std=0.1)
        block = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(config.width)
        self.encoder = nn.TransformerEncoder(block, config.layers, norm=norm, enable_nested_tensor=False)
        self.projection = nn.Linear(config.width, projection, bias=False)

    def forward(self, ids: LongTensor) -> Tensor:
        """Raises ValueError for a text longer than `length`."""
        if ids.shape[1] > self.config.length:
            raise ValueError(f"a text of {ids.shape[1]} tokens; this tower reads {self.config.length}")
        padding = ids == self.config.padding  # (b, t), True = not read
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        x = self.encoder(x, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).to(x.dtype)
        return self.projection((x * kept).sum(1) / kept.sum(1).clamp(min=1))


def info_nce(seen: Tensor, told: Tensor, which: LongTensor, log_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of `seen` (r, e) with distinct texts `told` (b, e), `which` (r,) the text of each; a scalar.

    A text of several pictures is pulled to the mean of their log-likelihoods; a text of none is a negative only.
    """
    scale = log_scale.clamp(max=HOTTEST).exp()
    scores = scale * F.normalize(seen, dim=-1) @ F.normalize(told, dim=-1).T  # (r, b)
    own = F.one_hot(which, len(told)).to(scores.dtype)
    used = own.sum(0) > 0
    to_seen = -((scores.log_softmax(0) * own).sum(0)[used] / own.sum(0)[used]).mean()
    return (F.cross_entropy(scores, which) + to_seen) / 2


class Contrastive(LightningModule):
    """CLIP on the world. `vision` is the expert that is kept; `text` and the two heads make it nameable."""

    def __init__(self, config: ContrastiveConfig):
        super().__init__()
        self.config = config
        width, shared = config.vision.width, config.vision.projection
        self.vision = VisionExpert(config.vision)
        self.text = TextTower(config.text, shared)
        self.picture_head = nn.Linear(width, shared, bias=False)
        self.region_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, shared, bias=False))
        self.picture_scale = nn.Parameter(torch.tensor(COLDEST))
        self.region_scale = nn.Parameter(torch.tensor(COLDEST))

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        """(i, 3, h, w) -> (i, e), unit length: comparable with `embed_texts`."""
        return F.normalize(self.picture_head(self.vision.pooled(self.vision.hidden_states(pixels)[-1])), dim=-1)

    def embed_texts(self, ids: LongTensor) -> Tensor:
        """(b, t) -> (b, e), unit length."""
        return F.normalize(self.text(ids), dim=-1)

    def embed_regions(self, features: Tensor, regions: Tensor, picture_of: LongTensor) -> Tensor:
        """Patch features (i, p, v), regions (r, p) bool of pictures (r,) -> (r, e), unit length."""
        weights = regions.to(features.dtype)
        means = torch.einsum("rp,rpv->rv", weights, features[picture_of]) / weights.sum(1, keepdim=True)
        return F.normalize(self.region_head(means), dim=-1)

    def losses(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        states = self.vision.hidden_states(batch.pixels)
        patches = states[self.config.vision.blocks][:, 1:]
        pictures = self.picture_head(self.vision.pooled(states[-1]))
        regions = self.embed_regions(patches, batch.regions, batch.picture_of)
        return {
            "captions": info_nce(pictures, self.text(batch.captions), batch.caption_of, self.picture_scale),
            "regions": info_nce(regions, self.text(batch.names), batch.name_of, self.region_scale),
        }

    def training_step(self, batch: ContrastiveBatch, index: int) -> Tensor:
        losses = self.losses(batch)
        loss = losses["captions"] + self.config.regions * losses["regions"]
        self.log_dict({"loss": loss, **losses}, prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """After the step both temperatures are brought back into bounds, where they still have a gradient."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.picture_scale.clamp_(max=HOTTEST)
            self.region_scale.clamp_(max=HOTTEST)

    def configure_optimizers(self) -> Any:
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        c = self.config
        groups = [{"params": matrices, "weight_decay": c.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=c.lr, betas=(0.9, 0.98), fused=True)

        def rise_and_fall(step: int) -> float:
            done = min(1.0, step / c.steps)
            return min(1.0, (step + 1) / c.warmup) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rise_and_fall)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def save(self, folder: str | Path) -> None:
        """model.safetensors (`vision.*`, `text.*`, heads and temperatures) and config.json."""
        save_tensors(Path(folder) / "model.safetensors", self.state_dict())
        write_json(Path(folder) / "config.json", asdict(self.config))

    @classmethod
    def load(cls, folder: str | Path) -> "Contrastive":
        """In eval mode. Raises CheckpointError for a missing or broken file."""
        module = cls(read(ContrastiveConfig, Path(folder) / "config.json"))
        module.load_state_dict(load_tensors(Path(folder) / "model.safetensors")[0])
        return module.eval()


# ---- batches ---------------------------------------------------------------------------------------------------------


class ContrastiveData(LightningDataModule):
    """Batches of the world by number: `batch(step)` depends on (seed, step) only, so a run that was cut off goes on as
    if it had not been.

    A share `singles` of the pictures shows one object at any size from half the canvas to all of it, captioned by its
    name; the others are scenes of the training split, rather full ones, captioned in one language by what is where.
    Regions are told from the names of all concepts; a concept is named in one language a batch, drawn anew for each.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        tokenizer: PreTrainedTokenizerBase,
        config: VisionConfig,
        *,
        seed: int = 0,
        batch: int = 32,
        singles: float = 0.1,
        artist: str = "twemoji",
    ):
        super().__init__()
        self.concepts, self.tokenizer, self.vision = tuple(concepts), tokenizer, config
        self.seed, self.size, self.singles, self.artist = seed, batch, singles, artist
        self._cells = cell_patches(config)
        self._rows = {concept: row for row, concept in enumerate(self.concepts)}

    def batch(self, step: int) -> ContrastiveBatch:
        rng = stream("contrastive", self.seed, step)
        languages = rng.integers(2, size=len(self.concepts))
        names = [name_text(concept, LANGUAGES[k]) for concept, k in zip(self.concepts, languages, strict=True)]
        pictures, captions, regions, picture_of, name_of = [], [], [], [], []
        for index in range(self.size):
            if index < self.singles * self.size:
                row = int(rng.integers(len(self.concepts)))
                picture, box = draw_single(rng, self.concepts[row], self.vision.image_size, self.artist)
                captions.append(names[row])
                shown = [(box_patches(box, self.vision), row)]
            else:
                count = int(rng.integers(1, CELLS + 1, size=2).max())
                scene = sample_scene(rng, self.concepts, split="train", count=count)
                picture = render(scene, self.vision.image_size, self.artist)
                captions.append(caption_text(scene, LANGUAGES[int(rng.integers(2))], rng))
                shown = [(self._cells[item.cell], self._rows[item.concept]) for item in scene.items]
            pictures.append(picture)
            for region, row in shown:
                regions.append(region)
                picture_of.append(index)
                name_of.append(row)
        texts, caption_of = _distinct(captions)
        return ContrastiveBatch(
            pixels=preprocess(pictures, self.vision.image_size),
            captions=self.encode(texts), caption_of=caption_of,
            names=self.encode(names), regions=torch.stack(regions),
            picture_of=torch.tensor(picture_of), name_of=torch.tensor(name_of),
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> LongTensor:
        """Texts -> (b, t) ids, padded at the end."""
        ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        longest = max(map(len, ids))
        return torch.tensor([row + [self.tokenizer.pad_token_id] * (longest - len(row)) for row in ids])

    def train_dataloader(self) -> DataLoader:
        """Goes on from the trainer's step."""
        start = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(_Steps(self, start), batch_size=None)


class _Steps(IterableDataset):
    """Batches from a step on, without end."""

    def __init__(self, data: ContrastiveData, start: int):
        self.data, self.start = data, start

    def __iter__(self) -> Iterator[ContrastiveBatch]:
        step = self.start
        while True:
            yield self.data.batch(step)
            step += 1


def name_text(concept: Concept, language: str) -> str:
    """A name as it stands inside a sentence: English with its leading space, one token of the world's tokenizer."""
    return concept.zh if language == "zh" else f" {concept.en}"


def caption_text(scene: Scene, language: str, rng: np.random.Generator | None = None) -> str:
    """What is where, the things in a random order when a generator is given."""
    text = caption(scene, language, "place-first", rng)
    return text if language == "zh" else f" {text}"


def _distinct(texts: Sequence[str]) -> tuple[list[str], LongTensor]:
    """-> the different texts in order of appearance, and the row of each."""
    rows: dict[str, int] = {}
    which = torch.tensor([rows.setdefault(text, len(rows)) for text in texts])
    return list(rows), which


def cell_patches(config: VisionConfig) -> Tensor:
    """(cells, p) bool: the patches, without CLS, of each cell of a scene."""
    cell = config.image_size // GRID
    corners = [(row * cell, column * cell) for row in range(GRID) for column in range(GRID)]
    return torch.stack([box_patches((top, left, top + cell, left + cell), config) for top, left in corners])


def box_patches(box: tuple[int, int, int, int], config: VisionConfig) -> Tensor:
    """(p,) bool: the patches whose centre lies in a box (top, left, bottom, right) of pixels."""
    centres = torch.arange(config.image_size // config.patch_size) * config.patch_size + config.patch_size / 2
    top, left, bottom, right = box
    rows, columns = (centres >= top) & (centres < bottom), (centres >= left) & (centres < right)
    return (rows[:, None] & columns[None, :]).flatten()


def draw_single(rng: np.random.Generator, concept: Concept, size: int, artist: str) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """One drawing near the centre of a two-colour canvas: (size, size, 3) uint8, and its box in pixels."""
    empty = Scene((), sample_background(rng))
    canvas = render(empty, size, artist)
    side = int(rng.integers(size // 2, size + 1))
    slack = size - side
    top, left = (slack // 4 + int(rng.integers(slack // 2 + 1)) for _ in range(2))
    paste(canvas, drawing(concept.key, artist, side), top, left)
    return canvas, (top, left, top + side, left + side)


def sample_background(rng: np.random.Generator) -> tuple[tuple[int, int, int], tuple[int, int, int], int]:
    """Two light colours and the gradient's axis, as scenes have."""
    colours = rng.integers(120, 256, size=6)
    red, green, blue, second_red, second_green, second_blue = map(int, colours)
    return (red, green, blue), (second_red, second_green, second_blue), int(rng.integers(2))
