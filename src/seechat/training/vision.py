"""The run of a vision expert: CLIP by contrast, from nothing, in one stage of `pairs`; what it can name after it."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch

from seechat.experts.vision import VISION
from seechat.foundation.files import atomic_write, write_csv
from seechat.foundation.seeding import rng as seeded
from seechat.foundation.seeding import seed_everything
from seechat.training.contrastive import Contrastive, ContrastiveConfig, ContrastiveData, TextConfig, cell_patches, name_text
from seechat.training.runs import Run, finished, fit, known, signed, trained
from seechat.training.watching import Progress, Steps
from seechat.world.concepts import ARTISTS, LANGUAGES, TIERS, Concept, concepts
from seechat.world.scenes import render, sample_scene
from seechat.world.tokenizer import save_tokenizer, world_tokenizer


def train(run: Run) -> tuple[Contrastive, ContrastiveData]:
    """CLIP by contrast, from nothing: a run of one stage of `pairs`."""
    stage, tokenizer = run.spec.stages[0], world_tokenizer()
    run.folder.mkdir(parents=True, exist_ok=True)
    o, vision = stage.optimisation, VISION[run.spec.system.split("/")[0]]
    seed_everything(run.seed)
    text = TextConfig(len(tokenizer), padding=tokenizer.pad_token_id)
    module = Contrastive(
        ContrastiveConfig(text, vision, steps=o.steps, warmup=max(1, round(o.warmup * o.steps)), lr=o.lr, weight_decay=o.weight_decay)
    )
    data = ContrastiveData(known(run.spec), tokenizer, vision, seed=run.seed, batch=o.batch)
    if weights := trained(run.folder, stage):
        module.load_state_dict(weights)
        return module.eval(), data
    steps = Steps(stage.name)
    fit(stage, module, data, [steps, Progress(stage.name, run.show)], run.folder)
    with atomic_write(run.folder / "steps.parquet") as aside:
        run.labelled(steps.table()).to_parquet(aside, index=False)
    finished(run.folder, stage, module.state_dict())
    return module.eval(), data


def finish(run: Run) -> None:
    """CLIP: how well each cell's object is named among all simple names, by tier and artist."""
    module, data = train(run)
    signed(run)
    module.save(run.folder / "model")
    save_tokenizer(data.tokenizer, run.folder / "model")
    everything, tables = concepts(simple=True), []
    for artist in ARTISTS:
        for tier in TIERS:
            table = name_objects(module, data.encode, concepts(tier=tier, simple=True), everything, artist=artist)
            tables.append(table.assign(arm=run.arm_name, seed=run.seed, split="test", skill=f"naming/{tier}/{artist}"))
    table = pd.concat(tables)[["arm", "seed", "split", "metric", "skill", "language", "value", "n"]]
    write_csv(run.folder / "metrics.csv", table)


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
