"""The vision expert: pixels -> patch features, by transformers' CLIP of any size; and a cache of them.

Letters: `i` pictures, `p` patches, `v` vision width, `h`, `w` pixels.
Sources: Radford et al. 2021 (CLIP, arXiv 2103.00020); Liu et al. 2023 (LLaVA, arXiv 2304.08485), which reads the last
layer but one without CLS.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from seechat.foundation.files import atomic_write, cache_dir

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's own training pictures, red green blue, in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)
PREPROCESSING = "shortest side by PIL bicubic, centre crop, /255, CLIP mean and std; 1"  # changes with `preprocess`


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of a CLIP trunk, and which of its states are the features; the defaults are the laptop scale's.

    ``layer`` counts hidden states as transformers does: 0 is the embeddings, ``layers`` the last block, negatives count
    from the end. ``keep_cls`` puts the CLS state before the patches. ``projection`` is the width of the space shared
    with text (the contrastive objective uses it; features do not). Raises ValueError for sizes that do not divide and
    for a layer that is not there.
    """

    image_size: int = 64
    patch_size: int = 16
    width: int = 192
    layers: int = 4
    heads: int = 4
    intermediate: int = 768
    projection: int = 128
    layer: int = -2
    keep_cls: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if not -self.layers - 1 <= self.layer <= self.layers:
            raise ValueError(f"layer {self.layer}: hidden states are {-self.layers - 1}..{self.layers}")

    @property
    def patches(self) -> int:
        """Vectors a picture: p, CLS included where it is kept."""
        return (self.image_size // self.patch_size) ** 2 + self.keep_cls

    @property
    def blocks(self) -> int:
        """Blocks that features need."""
        return self.layer % (self.layers + 1)


VISION = {
    "smoke": VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2, intermediate=64, projection=32),
    "laptop": VisionConfig(),
    "paper": VisionConfig(image_size=224, patch_size=14, width=1024, layers=24, heads=16, intermediate=4096, projection=768),
}


class VisionExpert(nn.Module):
    """CLIP's vision tower; parameter names are the official ones, `vision_model.…`.

    expert = VisionExpert(VisionConfig())
    expert(expert.preprocess([picture]))    # (1, p, v)
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.vision_model = CLIPVisionModel(
            CLIPVisionConfig(
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.intermediate,
                projection_dim=config.projection,
            )
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(i, 3, h, w) float -> (i, p, v): hidden state `layer`. Blocks after it do not run."""
        return self.select(self.hidden_states(pixels, self.config.blocks)[-1])

    def hidden_states(self, pixels: Tensor, blocks: int | None = None) -> list[Tensor]:
        """(i, 3, h, w) -> the embeddings, then the output of each of the first `blocks` blocks, each (i, 1 + p, v)."""
        trunk = self.vision_model
        states = [trunk.pre_layrnorm(trunk.embeddings(pixels))]
        for block in trunk.encoder.layers[:blocks]:
            states.append(block(states[-1], None))
        return states

    def select(self, state: Tensor) -> Tensor:
        """(i, 1 + p, v) -> (i, p, v), without CLS unless it is kept."""
        return state if self.config.keep_cls else state[:, 1:]

    def pooled(self, state: Tensor) -> Tensor:
        """The last hidden state (i, 1 + p, v) -> (i, v): CLIP's own picture vector before its projection."""
        return self.vision_model.post_layernorm(state[:, 0])

    def preprocess(self, pictures: Sequence[np.ndarray | Image.Image] | np.ndarray) -> Tensor:
        """As `preprocess`, at this trunk's size and on its device: (i, 3, image_size, image_size)."""
        return preprocess(pictures, self.config.image_size).to(next(self.parameters()).device)


def preprocess(pictures: Sequence[np.ndarray | Image.Image] | np.ndarray, size: int) -> Tensor:
    """RGB pictures, PIL or (h, w, 3) uint8, -> (i, 3, size, size) float32, normalised as CLIP's.

    The shortest side is brought to `size` (bicubic, PIL), then the centre is cut out, as the official processor does.
    A picture of `size` already is not resampled. Raises ValueError for an array that is not (h, w, 3) uint8.
    """
    resized = [_resize(picture, size) for picture in pictures]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255  # (i, 3, size, size)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _resize(picture: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """-> (size, size, 3) uint8"""
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"a picture is (h, w, 3) uint8, not {picture.shape} {picture.dtype}")
        if picture.shape[:2] == (size, size):
            return picture
        picture = Image.fromarray(np.ascontiguousarray(picture))
    picture = picture.convert("RGB")
    width, height = picture.size
    if min(width, height) != size:
        scale = min(width, height)
        width, height = width * size // scale, height * size // scale
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.array(picture.crop((left, top, left + size, top + size)))


# ---- features of frozen weights, computed once -----------------------------------------------------------------------


def vision_digest(expert: VisionExpert) -> str:
    """sha256 (hexadecimal) of all that features depend on beside the picture: weights, sizes, layer, preprocessing."""
    digest = hashlib.sha256(json.dumps([PREPROCESSING, MEAN, STD, asdict(expert.config)]).encode())
    for name, value in sorted(expert.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class FeatureCache:
    """Features of pools of pictures, by content: `<folder>/<vision digest>/<pictures digest>.npy`, (n, p, v) float32.

    A file is read as a memory map, so a pool larger than memory works; writing is atomic. `folder` is
    `cache_dir()/features` unless given.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = Path(folder) if folder is not None else cache_dir() / "features"
        self._pools: dict[Path, Tensor] = {}

    def path(self, expert: VisionExpert, pictures: np.ndarray) -> Path:
        """Where the features of these pictures lie, computed or not."""
        digest = hashlib.sha256(f"{pictures.shape} {pictures.dtype}".encode())
        digest.update(np.ascontiguousarray(pictures).data)
        return self.folder / vision_digest(expert)[:32] / f"{digest.hexdigest()[:32]}.npy"

    def features(self, expert: VisionExpert, pictures: np.ndarray, batch: int = 64) -> Tensor:
        """(n, h, w, 3) uint8 -> (n, p, v) float32 on the CPU, computed once, in batches of `batch`.

        Writing to the tensor changes no file, but what this cache gives from then on.
        """
        path = self.path(expert, pictures)
        if path not in self._pools:
            if not path.exists():
                self._compute(expert, pictures, batch, path)
            self._pools[path] = torch.from_numpy(np.load(path, mmap_mode="c"))
        return self._pools[path]

    def _compute(self, expert: VisionExpert, pictures: np.ndarray, batch: int, path: Path) -> None:
        shape = (len(pictures), expert.config.patches, expert.config.width)
        was_training = expert.training
        expert.eval()
        with atomic_write(path) as aside, torch.no_grad():
            pool = np.lib.format.open_memmap(aside, "w+", np.float32, shape)
            for start in range(0, len(pictures), batch):
                chunk = expert(expert.preprocess(pictures[start : start + batch]))
                pool[start : start + batch] = chunk.float().cpu().numpy()
            pool.flush()
        expert.train(was_training)
