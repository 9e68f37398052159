"""The expert reads the hidden state it says, the cache gives back what was computed, the contrastive objective learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from seechat.experts.vision import FeatureCache, VisionConfig, VisionExpert, preprocess, vision_digest
from seechat.training.contrastive import (
    COLDEST,
    HOTTEST,
    Contrastive,
    ContrastiveBatch,
    ContrastiveConfig,
    ContrastiveData,
    TextConfig,
    box_patches,
    cell_patches,
    info_nce,
)

SIZES = VisionConfig(image_size=32, patch_size=8, width=32, layers=3, heads=2, intermediate=64, projection=16)


@pytest.fixture
def expert():
    torch.manual_seed(0)
    return VisionExpert(SIZES).eval()


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(256, size=(5, 32, 32, 3), dtype=np.uint8)


# ---- the expert


def official(expert, pixels):
    return expert.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("layer", range(-4, 4))
@pytest.mark.parametrize("keep_cls", [False, True])
def test_features_are_the_hidden_state_asked_for(expert, pictures, layer, keep_cls):
    expert.config = replace(SIZES, layer=layer, keep_cls=keep_cls)
    pixels = expert.preprocess(pictures)
    with torch.no_grad():
        features, state = expert(pixels), official(expert, pixels)[layer]
    assert torch.equal(features, state if keep_cls else state[:, 1:])
    assert features.shape == (5, expert.config.patches, SIZES.width)


def test_pooled_is_transformers_pooler_output(expert, pictures):
    pixels = expert.preprocess(pictures)
    pooled = expert.pooled(expert.hidden_states(pixels)[-1])
    assert torch.equal(pooled, expert.vision_model(pixel_values=pixels).pooler_output)


def test_blocks_after_the_layer_do_not_run(expert, pictures):
    ran = []
    for block in expert.vision_model.encoder.layers:
        block.register_forward_hook(lambda block, *_: ran.append(block))
    expert(expert.preprocess(pictures))
    assert ran == list(expert.vision_model.encoder.layers[:2])


@pytest.mark.parametrize("wrong", [{"layer": 4}, {"layer": -5}, {"patch_size": 5}, {"heads": 3}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(SIZES, **wrong)


def test_pictures_of_the_size_are_not_resampled(pictures):
    pixels = preprocess(pictures, 32)
    theirs = CLIPImageProcessorPil()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (theirs.image_mean, theirs.image_std))
    back = ((pixels * std + mean) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(back, pictures)
    assert torch.equal(pixels, preprocess([Image.fromarray(p) for p in pictures], 32))


@pytest.mark.parametrize("shape", [(40, 90), (90, 41), (20, 20), (32, 57)])
def test_other_sizes_as_the_official_processor_does(shape):
    picture = Image.fromarray(np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    assert torch.allclose(preprocess([picture], 32), theirs, atol=1e-5)


@pytest.mark.parametrize(("shape", "kind"), [((32, 32), np.uint8), ((3, 32, 32), np.uint8), ((32, 32, 3), np.float64)])
def test_arrays_that_are_no_pictures_are_refused(shape, kind):
    with pytest.raises(ValueError, match=r"\(h, w, 3\) uint8"):
        preprocess([np.zeros(shape, kind)], 32)


# ---- the cache


def test_a_hit_equals_the_computation_bit_for_bit(expert, pictures, tmp_path):
    computed = expert(expert.preprocess(pictures[:4])).detach(), expert(expert.preprocess(pictures[4:])).detach()
    first = FeatureCache(tmp_path).features(expert, pictures, batch=4)
    assert first.shape == (5, 16, 32) and first.dtype == torch.float32
    assert torch.equal(first, torch.cat(computed))
    runs = []
    expert.vision_model.encoder.layers[0].register_forward_hook(lambda *_: runs.append(1))
    again = FeatureCache(tmp_path)
    assert torch.equal(again.features(expert, pictures), first)
    assert again.features(expert, pictures) is again.features(expert, pictures)
    assert not runs


def test_changing_a_cached_tensor_changes_no_file(expert, pictures, tmp_path):
    first = FeatureCache(tmp_path).features(expert, pictures)
    kept = first.clone()
    first.zero_()
    assert torch.equal(FeatureCache(tmp_path).features(expert, pictures), kept)


def test_the_key_follows_weights_layer_preprocessing_and_pictures(expert, pictures, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    keys = {cache.path(expert, pictures)}
    assert cache.path(expert, pictures.copy()) in keys
    other = pictures.copy()
    other[0, 0, 0, 0] ^= 1
    keys |= {cache.path(expert, other), cache.path(expert, pictures[:4])}
    expert.config = replace(SIZES, layer=-1)
    keys.add(cache.path(expert, pictures))
    monkeypatch.setattr("seechat.experts.vision.PREPROCESSING", "another")
    keys.add(cache.path(expert, pictures))
    with torch.no_grad():
        expert.vision_model.embeddings.class_embedding[0] += 1
    keys.add(cache.path(expert, pictures))
    assert len(keys) == 6


def test_an_interrupted_computation_leaves_nothing(expert, pictures, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    handle = expert.vision_model.encoder.layers[0].register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).features(expert, pictures)
    handle.remove()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_digest_is_of_values_not_of_objects(expert):
    torch.manual_seed(0)
    assert vision_digest(VisionExpert(SIZES)) == vision_digest(expert)


# ---- the contrastive objective


class Letters:
    """A stand-in tokenizer: one token a character."""

    pad_token_id = 0

    def __call__(self, texts, add_special_tokens):
        return {"input_ids": [[1 + ord(ch) % 199 for ch in text] for text in texts]}


@pytest.fixture
def data():
    concepts = pytest.importorskip("seechat.world.concepts").concepts(tier="seen", simple=True)[:12]
    return ContrastiveData(concepts, Letters(), SIZES, seed=3, batch=16)


def contrastive(**changes):
    torch.manual_seed(0)
    return Contrastive(ContrastiveConfig(TextConfig(200, width=32, heads=2, length=96), SIZES, **changes))


def test_info_nce_by_hand_and_equal_texts_are_no_negatives():
    seen, told, scale = torch.eye(3)[:, :2], torch.eye(2), torch.tensor(0.0)
    seen[2] = seen[0]  # two pictures of the first text
    to_text = -math.log(math.e / (math.e + 1))
    to_seen = (-math.log(math.e / (2 * math.e + 1)) - math.log(math.e / (math.e + 2))) / 2
    loss = info_nce(seen, told, torch.tensor([0, 1, 0]), scale)
    assert loss.item() == pytest.approx((to_text + to_seen) / 2, rel=1e-6)
    unseen = info_nce(seen, torch.cat([told, -told[:1]]), torch.tensor([0, 1, 0]), torch.tensor(0.0))
    assert unseen > loss and torch.isfinite(unseen)  # a text of no picture is one more negative


def test_without_duplicates_it_is_transformers_clip_loss():
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    noise = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    a, b = torch.nn.functional.normalize(noise, dim=-1)
    theirs = image_text_contrastive_loss(math.e * b @ a.T).item()
    assert info_nce(a, b, torch.arange(6), torch.tensor(1.0)).item() == pytest.approx(theirs, rel=1e-6)


def test_a_batch_is_made_by_seed_and_step(data):
    again = ContrastiveData(data.concepts, Letters(), SIZES, seed=3, batch=16)
    one, same, other = data.batch(7), again.batch(7), data.batch(8)
    assert all(torch.equal(x, vars(same)[k]) for k, x in vars(one).items())
    assert not torch.equal(one.pixels, other.pixels)


def test_texts_of_a_batch_are_distinct(data):
    batch = data.batch(0)
    for texts in (batch.captions, batch.names):
        assert len({tuple(row) for row in texts.tolist()}) == len(texts)
    assert sorted(set(batch.caption_of.tolist())) == list(range(len(batch.captions)))
    assert len(batch.names) == len(data.concepts) > batch.name_of.max()
    assert batch.regions.any(1).all() and len(batch.regions) == len(batch.picture_of) == len(batch.name_of)


def test_cells_share_out_the_patches():
    cells = cell_patches(SIZES)
    assert torch.equal(cells.sum(0), torch.ones(16)) and torch.equal(cells.sum(1), torch.full((4,), 4))
    assert torch.equal(cells[1].view(4, 4).nonzero(), torch.tensor([[0, 2], [0, 3], [1, 2], [1, 3]]))
    assert torch.equal(box_patches((0, 16, 16, 32), SIZES), cells[1])


def test_a_few_steps_lower_the_loss(data):
    module = contrastive(lr=3e-3, warmup=1)
    batch: ContrastiveBatch = data.batch(0)
    optimizer = module.configure_optimizers()["optimizer"]
    values = []
    for _ in range(12):
        losses = module.losses(batch)
        loss = losses["captions"] + losses["regions"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_padding_changes_no_text():
    module = contrastive().eval()
    ids = torch.tensor([[5, 6, 7]])
    padded = torch.nn.functional.pad(ids, (0, 4))
    assert torch.allclose(module.embed_texts(ids), module.embed_texts(padded), atol=1e-6)
    with pytest.raises(ValueError, match="96"):
        module.embed_texts(torch.ones(1, 97, dtype=torch.long))


def test_temperatures_begin_as_clips_and_are_clamped():
    module = contrastive()
    assert module.picture_scale.item() == pytest.approx(COLDEST)
    hot, hottest = (info_nce(torch.eye(2), torch.eye(2), torch.arange(2), torch.tensor(x)) for x in (9.0, HOTTEST))
    assert torch.equal(hot, hottest)


def test_the_trainer_trains_clamps_and_resumes(data, tmp_path):
    lightning = pytest.importorskip("lightning")
    silent = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    quiet = dict(accelerator="cpu", max_epochs=-1, **dict.fromkeys(silent, False))

    def trained(steps, start=None, scale=COLDEST):
        module = contrastive(steps=4)
        module.picture_scale.data.fill_(scale)
        trainer = lightning.Trainer(max_steps=steps, **quiet)
        trainer.fit(module, data, ckpt_path=start, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return module

    assert trained(1, scale=9.0).picture_scale.item() == pytest.approx(HOTTEST)
    through = trained(4).state_dict()
    trained(2)
    resumed = trained(4, start=tmp_path / "2.ckpt").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in through.items())


def test_save_and_load(data, tmp_path):
    module = contrastive().eval()
    module.save(tmp_path)
    again = Contrastive.load(tmp_path)
    assert again.config == module.config
    pixels = data.batch(0).pixels
    assert torch.equal(again.embed_pictures(pixels), module.embed_pictures(pixels))
    parts = {name.split(".")[0] for name in module.state_dict()}
    assert parts == {"vision", "text", "picture_head", "region_head", "picture_scale", "region_scale"}
