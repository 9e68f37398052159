"""One alignment step beside transformers' LLaVA of the same sizes, weights, pictures and supervised tokens, paired in one run.

Letters: b batch, t sequence, i pictures, h, w pixels.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from seechat.data.batches import Batch, Sample, pack
from seechat.data.pool import Lessons, Pool, draw_pool
from seechat.foundation.seeding import rng as seeded
from seechat.layout import IGNORE, PADDING
from seechat.model import MultimodalModel
from seechat.presets import preset
from seechat.reporting.bench import Row
from seechat.training.freeze import apply_plan
from seechat.training.stitching import TEXT_ROW
from seechat.world.concepts import TIERS, concepts
from seechat.world.scenes import render
from seechat.world.tokenizer import world_tokenizer

PLAN = ("bridge.*",)
TEXT = range(8, 41)  # tokens of a caption sample beside its picture
ASKED = {"both uncached": 0.9, "both fed features": 0.8, "ours as shipped, theirs uncached": 0.6}  # at most: ours / theirs
AGREE = 1e-4  # nats a token between the two losses; relative between the two gradients of the projector
_WARM = 2  # rounds before those that count

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Work:
    """One batch of captions, `padded` to the longest and `packed` into rows: the same samples."""

    padded: Batch
    packed: Batch
    pool: Pool
    pixels: Tensor  # (i, 3, h, w), of the pictures of `padded` in order

    @staticmethod
    def draw(model: MultimodalModel, batch: int) -> "Work":
        """`batch` captions of mixed length about the world's pictures."""
        size, learned = model.config.vision.image_size, concepts(tier=TIERS[0], simple=True)

        @torch.no_grad()
        def see(pictures: np.ndarray) -> Tensor:
            return model.vision(model.vision.preprocess(pictures))

        pool = draw_pool(see, learned, number=2 * batch, size=size, seed=0)
        lessons, encoder, rng = Lessons(pool, learned), model.encoder(), seeded("bench-step")
        samples: list[Sample] = []
        while len(samples) < batch:
            record = lessons.caption(rng)
            (segments,) = model.language.samples(model.template, record)
            sample = encoder.sample(record.id, segments)
            if len(sample) - model.bridge.tokens in TEXT:
                samples.append(sample)
        padded = model.collate([[sample] for sample in samples])
        pictures = [render(pool.scenes[picture.source], size) for picture in padded.pictures]
        return Work(padded, model.collate(pack(samples, TEXT_ROW)), pool, model.vision.preprocess(pictures))


def reference(model: MultimodalModel) -> LlavaForConditionalGeneration:
    """LLaVA with the parts and weights of `model`: its tower and decoder are frozen, its projector is a copy of our bridge's layers.

    LLaVA's own projector has two layers; here both sides have what the system has (seechat-llama: one linear layer).
    """
    tower, decoder = model.vision.vision_model, model.language.model
    config = LlavaConfig(
        vision_config=copy.deepcopy(tower.config), text_config=copy.deepcopy(decoder.config),
        image_token_index=_image_token(model), image_seq_length=model.bridge.tokens,
        vision_feature_layer=model.config.vision.layer, vision_feature_select_strategy="default",
    )  # fmt: skip
    theirs = LlavaForConditionalGeneration(config)
    theirs.model.vision_tower.load_state_dict(tower.state_dict())
    theirs.model.language_model.load_state_dict(decoder.base_model.state_dict())
    theirs.lm_head.load_state_dict(decoder.get_output_embeddings().state_dict())
    theirs.requires_grad_(False)
    projector = copy.deepcopy(model.bridge.layers).requires_grad_(True)
    setattr(theirs.model, "multi_modal_projector", projector)  # noqa: B010  (its declared class is the two-layer one)
    return theirs.train()  # as a trainer leaves it; no dropout in these sizes


def _image_token(model: MultimodalModel) -> int:
    """A token of the vocabulary that no caption of this template contains."""
    assert model.tokenizer is not None
    return int(model.tokenizer.convert_tokens_to_ids("<image>"))


def our_losses(model: MultimodalModel, work: Work) -> tuple[Loss, Loss, Loss]:
    """In the order of `ASKED`: padded and seeing in the step, padded and fed, packed and fed."""

    def uncached() -> Tensor:
        with torch.no_grad():
            features = model.vision(work.pixels)
        return model(work.padded, features)

    def fed() -> Tensor:
        return model(work.padded, work.pool.of(work.padded))

    def shipped() -> Tensor:
        return model(work.packed, work.pool.of(work.packed))

    return uncached, fed, shipped


def their_losses(model: MultimodalModel, theirs: LlavaForConditionalGeneration, work: Work) -> tuple[Loss, Loss, Loss]:
    """In the order of `ASKED`: seeing in the step, fed, seeing in the step; always padded, logits at all positions."""
    batch = work.padded
    assert not (batch.ids == _image_token(model)).any(), "<image> is a word of this template"
    labels = torch.full_like(batch.targets, IGNORE)
    labels[:, 1:] = batch.targets[:, :-1]  # transformers shifts for itself
    inputs = {
        "input_ids": batch.ids.masked_fill(batch.layout.slot >= 0, _image_token(model)),
        "attention_mask": (batch.layout.segment != PADDING).long(), "labels": labels, "use_cache": False,
    }  # fmt: skip

    def uncached() -> Tensor:  # nothing of the frozen tower is kept for a backward pass, as under no_grad
        return theirs(pixel_values=work.pixels, **inputs).loss

    def fed() -> Tensor:  # transformers' own door for features that are there already
        vectors = theirs.model.multi_modal_projector(work.pool.of(batch))
        return theirs(mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=list(vectors))}, **inputs).loss

    return uncached, fed, uncached


def differences(ours: Loss, bridge: nn.Module, theirs: Loss, projector: nn.Module) -> tuple[float, float]:
    """How far one step's losses (nats a token) and projector gradients (relative, all parameters together) are apart."""
    found = []
    for loss, module in ((ours, bridge), (theirs, projector)):
        value = loss()
        gradients = torch.autograd.grad(value, list(module.parameters()))
        found.append((value.item(), torch.cat([g.flatten() for g in gradients])))
    (a, left), (b, right) = found
    return abs(a - b), float((left - right).norm() / right.norm())


def _step(loss: Loss, module: nn.Module) -> Callable[[], float]:
    """A training step that says how many milliseconds it took."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return 1000 * (time.perf_counter() - start)

    return step


def bench_step(scale: str = "laptop", batch: int = 32, rounds: int = 15) -> list[Row]:
    """One stage-1 step (plan `bridge.*`) of `scale`/seechat-llama against LLaVA of transformers, three rows, on the CPU.

    A row's value is the median of our milliseconds, its ratio the median over the rounds of ours / theirs; at most `ASKED` is asked
    (also in the row's name). Both sides have the same weights, sizes, projector (`reference`) and AdamW; batches and pixels are made
    before the clock starts, a pool's features are looked up inside. *both uncached* and *both fed features* give both sides one and the
    same padded batch, so that only the step differs; *as shipped* packs the same samples into rows of `TEXT_ROW` tokens and feeds cached
    features.
    Raises RuntimeError where the two losses or gradients differ by more than `AGREE`: then it is not the same work.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MultimodalModel(replace(preset(f"{scale}/seechat-llama"), bridge="linear"), world_tokenizer())  # a token a patch, as LLaVA
    apply_plan(model, PLAN)
    theirs, work = reference(model), Work.draw(model, batch)
    bridge, projector = model.bridge, theirs.model.multi_modal_projector
    pairs = dict(zip(ASKED, zip(our_losses(model, work), their_losses(model, theirs, work), strict=True), strict=True))
    for name, (our, their) in pairs.items():
        if max(apart := differences(our, bridge, their, projector)) > AGREE:
            raise RuntimeError(f"{name}: not the same work: losses differ by {apart[0]:.2g}, gradients by {apart[1]:.2g}")
    steps = {name: (_step(our, bridge), _step(their, projector)) for name, (our, their) in pairs.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ASKED}
    for turn in range(_WARM + rounds):
        for name, (our_step, their_step) in steps.items():
            if turn % 2:  # neither side is always first
                their_time, our_time = their_step(), our_step()
            else:
                our_time, their_time = our_step(), their_step()
            if turn >= _WARM:
                times[name].append((our_time, their_time))
    return [
        Row(f"alignment step, {scale}, {name} (≤ {ASKED[name]})", median(a for a, _ in pair), "ms", median(a / b for a, b in pair))
        for name, pair in times.items()
    ]
