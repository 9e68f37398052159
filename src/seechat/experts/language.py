"""The contract a language expert keeps, and the two that keep it: ChatGLM (two-way context) and transformers' decoder-only models.

Letters: b batch, t sequence, d language width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import LongTensor, Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from seechat.data.templates import Segment, Template
from seechat.experts.chatglm import ChatGLMConfig, ChatGLMForCausalLM
from seechat.layout import Layout, attention_mask, causal_positions, glm_positions
from seechat.records import Record, Turn

__all__ = ["CausalExpert", "GLMExpert", "LanguageExpert", "language_expert"]


class LanguageExpert(nn.Module, ABC):
    """What the rest of the house asks of a language model: embed, run, read out, generate, and how it wants its samples laid out."""

    end: str  # the control token that ends an answer

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The layers, in order: where layer bridges are inserted."""

    @property
    @abstractmethod
    def last_norm(self) -> nn.Module:
        """The normalisation before the head."""

    def embed(self, ids: LongTensor) -> Tensor:
        """(b, t) -> (b, t, d)"""
        return self.model.get_input_embeddings()(ids)

    @abstractmethod
    def hidden(self, embeds: Tensor, layout: Layout) -> Tensor:
        """(b, t, d) -> (b, t, d), after the last normalisation."""

    def head(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., vocabulary) logits"""
        return self.model.get_output_embeddings()(hidden)

    @staticmethod
    @abstractmethod
    def positions(context: Tensor, segment: Tensor) -> Tensor:
        """(b, t), (b, t) -> (b, t, 2): the positions the layout gives its tokens."""

    @abstractmethod
    def samples(self, template: Template, record: Record) -> list[list[Segment]]:
        """A record as training samples."""

    @abstractmethod
    def prompt(self, template: Template, history: Sequence[tuple[Turn, Turn | None]]) -> list[Segment]:
        """A conversation up to the answer that is wanted."""

    def generate(self, ids: LongTensor, embeds: Tensor, real: Tensor, end: int, pad: int, **options: Any) -> LongTensor:
        """Continue left-padded prompts: ids (b, t), embeds (b, t, d), real (b, t) 0 at padding -> new ids (b, n), `pad` after the end."""
        out = self.model.generate(
            input_ids=ids, inputs_embeds=embeds, attention_mask=real.long(), eos_token_id=end, pad_token_id=pad, **options
        )
        return out[:, ids.shape[1] :]


class GLMExpert(LanguageExpert):
    """ChatGLM: the context is seen both ways, a dialogue is one sample an answer."""

    end = "<eop>"
    model: ChatGLMForCausalLM

    @property
    def blocks(self) -> nn.ModuleList:
        return self.model.transformer.layers

    @property
    def last_norm(self) -> nn.Module:
        return self.model.transformer.final_layernorm

    def hidden(self, embeds: Tensor, layout: Layout) -> Tensor:
        return self.model.hidden(embeds, layout)

    positions = staticmethod(glm_positions)

    def samples(self, template: Template, record: Record) -> list[list[Segment]]:
        return template.prefix_samples(record)

    def prompt(self, template: Template, history: Sequence[tuple[Turn, Turn | None]]) -> list[Segment]:
        return template.prefix_prompt(history)


class CausalExpert(LanguageExpert):
    """A decoder-only model of transformers (LLaMA, OPT, GPT-2 …): a dialogue is one sample, every answer supervised."""

    end = "</s>"

    @property
    def blocks(self) -> nn.ModuleList:
        return self.model.base_model.layers

    @property
    def last_norm(self) -> nn.Module:
        return self.model.base_model.norm

    def hidden(self, embeds: Tensor, layout: Layout) -> Tensor:
        return self.model.base_model(
            inputs_embeds=embeds, attention_mask=attention_mask(layout), position_ids=layout.positions[..., 0], use_cache=False
        ).last_hidden_state

    @staticmethod
    def positions(context: Tensor, segment: Tensor) -> Tensor:
        return causal_positions(segment)

    def samples(self, template: Template, record: Record) -> list[list[Segment]]:
        return [template.causal_sample(record)]

    def prompt(self, template: Template, history: Sequence[tuple[Turn, Turn | None]]) -> list[Segment]:
        return template.causal_prompt(history)


def language_expert(config: dict[str, Any]) -> LanguageExpert:
    """Build one from a config dictionary with `model_type` `chatglm` or any decoder-only type of transformers. Raises ValueError else."""
    kind = config.get("model_type")
    rest = {key: value for key, value in config.items() if key != "model_type"}
    if kind == "chatglm":
        return GLMExpert(ChatGLMForCausalLM(ChatGLMConfig(**rest)))
    if kind == "llama":
        return CausalExpert(AutoModelForCausalLM.from_config(LlamaConfig(**rest), attn_implementation="sdpa"))
    raise ValueError(f"unknown language model_type {kind!r}; known: chatglm, llama")
