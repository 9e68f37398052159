"""What a contrastively trained CLIP can name: a cell's object among all names, by cosine."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch

from seechat.foundation.seeding import rng as seeded
from seechat.training.contrastive import Contrastive, cell_patches, name_text
from seechat.world.concepts import LANGUAGES, Concept
from seechat.world.scenes import render, sample_scene


@torch.no_grad()
def name_objects(
    module: Contrastive, encode: Callable[[Sequence[str]], torch.LongTensor], asked: Sequence[Concept], among: Sequence[Concept],
    *, artist: str, number: int = 500,
) -> pd.DataFrame:  # fmt: skip
    """Each object of `number` test scenes of the `asked` concepts, from the mean of its cell's patch features, among the names of `among`.

    Rows: metric (top-1, top-5), language, value (share), n.
    """
    rng, size = seeded("naming", artist), module.config.vision.image_size
    scenes = [sample_scene(rng, asked, split="test") for _ in range(number)]
    pixels = module.vision.preprocess([render(scene, size, artist) for scene in scenes])
    patches = torch.cat([module.vision(part) for part in pixels.split(100)])
    cells = cell_patches(module.config.vision)
    places = [(row, item) for row, scene in enumerate(scenes) for item in scene.items]
    regions = torch.stack([cells[item.cell] for _, item in places])
    seen = module.embed_regions(patches, regions, torch.tensor([row for row, _ in places]))
    true = torch.tensor([among.index(item.concept) for _, item in places])
    rows = []
    for language in LANGUAGES:
        names = module.embed_texts(encode([name_text(concept, language) for concept in among]))
        ranks = (seen @ names.T).argsort(dim=1, descending=True)
        for k in (1, 5):
            hit = (ranks[:, :k] == true[:, None]).any(1).float().mean()
            rows.append({"metric": f"top-{k}", "language": language, "value": float(hit), "n": len(places)})
    return pd.DataFrame(rows)
