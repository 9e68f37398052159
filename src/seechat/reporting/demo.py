"""The demo: talk to the committed model, train both stages again from the experts, measure, and write a page of it all."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from seechat.evaluation.skills import draw_items, outcomes
from seechat.evaluation.table import format_table, results_table
from seechat.foundation.seeding import rng as seeded
from seechat.model import MultimodalModel
from seechat.presets import committed_results, experiments, load
from seechat.reporting.page import write_page
from seechat.spec import load_spec
from seechat.training.runs import of
from seechat.training.stitching import look, train
from seechat.world.concepts import TIERS, concepts
from seechat.world.questions import SKILLS, Exchange, ask, describe
from seechat.world.scenes import Scene, render, sample_scene

SYSTEM = "laptop/seechat"
TALK = (("zh", "what"), ("en", "where"), ("zh", "follow_up"), ("en", "count"), ("zh", "relation"))
Say = Callable[[str], None]


def held_out(number: int, seed: int = 7) -> list[Scene]:
    """Scenes of the test split with three or four things."""
    rng, seen = seeded("demo", seed), concepts(tier=TIERS[0], simple=True)
    return [sample_scene(rng, seen, split="test", count=3 + i % 2) for i in range(number)]


def questions(scene: Scene, language: str, skill: str, seed: int) -> tuple[Exchange, ...]:
    """One question of a skill about a scene (another skill where the scene has none of it)."""
    rng, seen = seeded("demo-question", seed), concepts(tier=TIERS[0], simple=True)
    return ask(scene, skill, language, rng, seen) or ask(scene, "what", language, rng, seen) or ()


def converse(model: MultimodalModel, picture: Image.Image, exchanges: tuple[Exchange, ...], say: Say) -> list[tuple[Exchange, str]]:
    """Ask the exchanges in one conversation; returns them with the answers."""
    conversation, said = None, []
    for number, exchange in enumerate(exchanges):
        reply = model.chat(picture if number == 0 else None, exchange.question, conversation)
        conversation = reply.conversation
        say(f"    {exchange.question}  ->  {reply.text}   (true: {exchange.answer})")
        said.append((exchange, reply.text))
    return said


def talk(model: MultimodalModel, folder: Path, say: Say) -> None:
    """Three held-out pictures, written as PNG, and a short conversation about each."""
    for number, scene in enumerate(held_out(3)):
        path = folder / f"picture-{number + 1}.png"
        picture = Image.fromarray(render(scene))
        picture.resize((256, 256), Image.Resampling.NEAREST).save(path)
        say(f"  {path}")
        language, skill = TALK[number]
        converse(model, picture, (describe(scene, "zh" if number % 2 else "en", "place-first"),), say)
        converse(model, picture, questions(scene, language, skill, number), say)


def dialogues(model: MultimodalModel, say: Say) -> list[tuple[np.ndarray, list[tuple[Exchange, str]]]]:
    """Five sample dialogues with the model that was just trained: (picture, exchanges with answers)."""
    found = []
    for number, (scene, (language, skill)) in enumerate(zip(held_out(5, seed=11), TALK, strict=True)):
        pixels = render(scene)
        exchanges = (*questions(scene, language, skill, number), describe(scene, language, "place-first"))
        say(f"  dialogue {number + 1}")
        found.append((pixels, converse(model, Image.fromarray(pixels), exchanges, say)))
    return found


def measure(model: MultimodalModel, number: int) -> pd.DataFrame:
    """Outcomes of the model and its oracle on the first test questions of each skill and language; the blind rows are the committed
    blind run's answers to the same questions (it was trained longer than the demo trains)."""
    items = draw_items(concepts(tier=TIERS[0], simple=True), split="test", number=number, skills=SKILLS)
    table = outcomes(model, None, items, look(model), tier=TIERS[0], controls=("majority", "oracle"))
    results = committed_results(SYSTEM.split("/")[1])
    blind = results[(results.arm == "blind") & (results.tier == TIERS[0]) & (results.artist == "twemoji")]
    return pd.concat([table, blind[blind.item.isin(table.item)]], ignore_index=True)


def demo(folder: Path, *, number: int = 100, show: bool = True, say: Say = print) -> Path:
    """Run it all into `folder`; returns the page. Raises CheckpointError where weights are missing."""
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"1. Talking to the committed {SYSTEM} about three pictures it has never seen.")
    talk(load(SYSTEM), folder, say)
    spec = load_spec(experiments() / "systems" / "seechat" / "demo.yaml")
    say("2. Stitching it again from the two experts: alignment (the bridge alone), then instruction (bridge and language).")
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = of(spec, "own", spec.seeds[0], folder / "run", experiments(), show=show)
    model = train(run)
    say(f"3. {number} test questions a skill and language, on scenes of the test split (laptop scale; percent right).")
    table = results_table(measure(model, number))
    say(format_table(table))
    say("4. Five dialogues with the model that was just trained.")
    page = write_page(folder, table, dialogues(model, say), pd.read_parquet(run.folder / "steps.parquet"))
    say(f"A page of all this: {page} and {page.with_suffix('.png')}  ({(time.time() - started) / 60:.1f} minutes)")
    return page
