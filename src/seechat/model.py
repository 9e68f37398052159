"""MultimodalModel: a vision expert, a bridge and a language expert stitched into one.

Letters: b batch, i pictures, p patches, q bridge tokens, t sequence, d language width, v vision width.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from seechat.bridges import build_bridge
from seechat.data.batches import Batch, Encoder, Sample, collate
from seechat.data.pictures import read_picture
from seechat.data.templates import Segment, spaced, template
from seechat.experts.familiar import Familiar
from seechat.experts.language import language_expert
from seechat.experts.vision import VisionConfig, VisionExpert, preprocess
from seechat.layout import fill_slots, supervised_loss, supervised_positions
from seechat.records import Picture, Record, Text, Turn, assistant, user

OUTSIDE = (
    "note: picture {which} is outside the range of {name}: this scale knows emoji-like drawings in a 2 x 2 grid, so its answer is a guess. "
    'For photographs take the paper scale with released weights: seechat.build("paper/seechat", weights=FOLDER). '
    "(注意：这张图片超出了本模型的范围；照片请用 paper 规模。)"
)
PictureLike = Any  # a path, a PIL image, or an array (h, w, 3) uint8


@dataclass(frozen=True)
class ModelConfig:
    """Everything that rebuilds a model: what `config.json` holds.

    `system` is a name of `presets.SYSTEMS`, `scale` one of `presets.SCALES`; `vision` and `language` are the experts' own configs.
    """

    system: str
    scale: str
    vision: VisionConfig
    bridge: str
    language: dict[str, Any]
    template: str


@dataclass(frozen=True)
class Conversation:
    """What was said so far; each user turn holds its pictures. Immutable: `chat` returns a longer one."""

    rounds: tuple[tuple[Turn, Turn], ...] = ()


@dataclass(frozen=True)
class Reply:
    """`notes` say what the reader should know before the answer, e.g. that a picture is outside the model's range."""

    text: str
    conversation: Conversation = field(repr=False)
    notes: tuple[str, ...] = ()


class MultimodalModel(nn.Module):
    """Vision + bridge + language. Parameters are `vision.*`, `bridge.*`, `language.*`: what freeze plans speak of."""

    def __init__(self, config: ModelConfig, tokenizer: PreTrainedTokenizerBase | None = None):
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.vision = VisionExpert(config.vision)
        self.language = language_expert(config.language)
        self.bridge = build_bridge(
            config.bridge, vision_width=config.vision.width, language_width=self.language.width, patches=config.vision.patches
        )
        self.familiar = Familiar(config.vision.width)
        self.template = template(config.template)

    # ---- tensors ------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encoder(self, limit: int = 2048) -> Encoder:
        """Segments -> samples with this model's tokenizer and slots a picture."""
        if self.tokenizer is None:
            raise ValueError(f"{self.config.scale}/{self.config.system} has no tokenizer: it was built for its sizes only")
        return Encoder(self.tokenizer, self.bridge.tokens, limit)

    def collate(self, rows: Sequence[Sequence[Sample]], *, left: bool = False) -> Batch:
        assert self.tokenizer is not None
        return collate(rows, self.language.positions, self.tokenizer.pad_token_id, left=left)

    def see(self, pictures: Sequence[Image.Image | np.ndarray]) -> Tensor:
        """Pictures -> (i, p, v) patch features."""
        pixels = preprocess(pictures, self.config.vision.image_size).to(self.device, next(self.vision.parameters()).dtype)
        return self.vision(pixels)

    def stitch(self, batch: Batch, features: Tensor | None) -> Tensor:
        """Token embeddings with the bridged pictures in their slots: (b, t, d). `features` (i, p, v) are the batch's pictures in order.

        Features of integers (i, q, n) are words instead: n ids a slot, whose embeddings are added, as an ideal bridge would speak.
        """
        embeds = self.language.embed(batch.ids)
        if features is None or not len(features):
            return embeds
        if features.is_floating_point():
            vectors = self.bridge(features)
        else:
            vectors = self.language.embed(features).sum(-2) / features.shape[-1] ** 0.5  # as long as one word
        return fill_slots(embeds, vectors.flatten(0, 1), batch.layout)

    def forward(self, batch: Batch, features: Tensor | None = None) -> Tensor:
        """Mean loss, nats a supervised token. The head reads supervised positions only. Raises ValueError where there is none."""
        hidden = self.language.hidden(self.stitch(batch, features), batch.layout)
        where = supervised_positions(batch.targets)
        return supervised_loss(self.language.head(hidden[where]), batch.targets[where])

    @torch.no_grad()
    def generate(self, batch: Batch, features: Tensor | None = None, *, max_new_tokens: int = 32, **options: Any) -> list[str]:
        """Answers to left-padded prompts; greedy unless options of transformers' `generate` say otherwise."""
        assert self.tokenizer is not None
        options = {"do_sample": False, **options}
        new = self.language.generate(
            batch.ids, self.stitch(batch, features), batch.layout.segment >= 0,
            self.tokenizer.convert_tokens_to_ids(self.language.end), self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens, **options,
        )  # fmt: skip
        return [self._words(row) for row in new.tolist()]

    def _words(self, ids: list[int]) -> str:
        assert self.tokenizer is not None
        words = self.tokenizer.decode(ids, skip_special_tokens=True)
        return (words.split(self.template.stop)[0] if self.template.stop else words).strip()

    # ---- talking ------------------------------------------------------------------------------------------------------

    def chat(
        self, pictures: PictureLike | Sequence[PictureLike] | None, text: str, conversation: Conversation | None = None, **generation: Any
    ) -> Reply:
        """Ask about pictures (or, with a conversation, about those it holds). Raises PictureError, and ValueError for an empty question."""
        turn, prompt = self._ask(pictures, text, conversation)
        batch = self.collate([[prompt]], left=True).to(self.device)
        features = self._features(batch)
        words = self.generate(batch, features, **generation)[0]
        return Reply(words, self._said(conversation, turn, words), self._notes(features))

    def stream(
        self, pictures: PictureLike | Sequence[PictureLike] | None, text: str, conversation: Conversation | None = None, **generation: Any
    ) -> Generator[str, None, Reply]:
        """Like `chat`, word by word; the iterator's return value is the Reply."""
        assert self.tokenizer is not None
        turn, prompt = self._ask(pictures, text, conversation)
        batch = self.collate([[prompt]], left=True).to(self.device)
        features = self._features(batch)
        streamer = _Words(self)
        worker = Thread(target=streamer.run, args=(batch, features, generation), daemon=True)
        worker.start()
        said = ""
        while (words := streamer.next()) is not None:
            yield words[len(said) :]
            said = words
        worker.join()
        return Reply(said, self._said(conversation, turn, said), self._notes(features))

    def notes(self, pictures: Sequence[PictureLike]) -> tuple[str, ...]:
        """What to know before asking about these pictures. Raises PictureError."""
        with torch.no_grad():
            return self._notes(self.see([read_picture(picture) for picture in pictures]) if pictures else None)

    def _notes(self, features: Tensor | None) -> tuple[str, ...]:
        if features is None or self.config.scale == "paper":
            return ()
        strange = self.familiar(features).nonzero().flatten().tolist()
        which = ", ".join(str(number + 1) for number in strange)
        return (OUTSIDE.format(which=which, name=f"{self.config.scale}/{self.config.system}"),) if strange else ()

    def _ask(self, pictures: Any, text: str, conversation: Conversation | None) -> tuple[Turn, Sample]:
        if not text.strip():
            raise ValueError("the question is empty: ask something, e.g. 左上是什么？")
        several = pictures if isinstance(pictures, (list, tuple)) else [] if pictures is None else [pictures]
        turn = user(*(Picture(read_picture(picture)) for picture in several), Text(text.strip()))
        history = [*(conversation.rounds if conversation else ()), (turn, None)]
        segments: list[Segment] = self.language.prompt(self.template, history)
        return turn, self.encoder(self._limit()).sample("question", segments, supervised=False)

    def _limit(self) -> int:
        language = self.config.language
        return int(language.get("max_sequence_length", language.get("max_position_embeddings", 2048))) - 64

    @torch.no_grad()
    def _features(self, batch: Batch) -> Tensor | None:
        return self.see([picture.source for picture in batch.pictures]) if batch.pictures else None

    @staticmethod
    def _said(conversation: Conversation | None, turn: Turn, words: str) -> Conversation:
        return Conversation((*(conversation.rounds if conversation else ()), (turn, assistant(words))))

    # ---- folders ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str, dtype: torch.dtype | None = None) -> None:
        """Weights (safetensors), config.json, tokenizer.json and a card. Written aside, then renamed."""
        from seechat.checkpoints import save

        save(self, folder, dtype=dtype)

    def push_to_hub(self, repo_id: str) -> None:
        """Upload what `save_pretrained` writes. Needs a login of huggingface_hub; nothing else in the house does."""
        from seechat.checkpoints import push

        push(self, repo_id)


class _Words(BaseStreamer):
    """Hands the words of one growing answer from the generating thread to the reading one."""

    def __init__(self, model: MultimodalModel):
        from queue import Queue

        self.model, self.ids, self.skip = model, [], True  # type: ignore[var-annotated]
        self.queue: Queue[str | Exception | None] = Queue()

    def put(self, value: Tensor) -> None:
        if self.skip:  # the prompt comes first
            self.skip = False
            return
        self.ids += value.flatten().tolist()
        words = self.model._words(self.ids)
        if not words.endswith("\ufffd"):  # half a character
            self.queue.put(words)

    def end(self) -> None:
        self.queue.put(None)

    def run(self, batch: Batch, features: Tensor | None, generation: dict[str, Any]) -> None:
        try:
            self.model.generate(batch, features, streamer=self, **generation)
        except Exception as error:  # handed to the reader, who raises it
            self.queue.put(error)

    def next(self) -> str | None:
        item = self.queue.get()
        if isinstance(item, Exception):
            raise item
        return item


def conversation_record(conversation: Conversation, id: str = "conversation") -> Record:
    return Record(id, tuple(turn for pair in conversation.rounds for turn in pair))


__all__ = ["Conversation", "ModelConfig", "MultimodalModel", "Reply", "conversation_record", "spaced"]
