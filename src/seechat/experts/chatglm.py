"""ChatGLM-6B (v1) at any size, written from its architecture, with the official parameter names.

Letters: `b` batch, `t` new tokens, `k` all tokens with those in the cache, `d` language width, `h` heads,
`e` width of a head. Masks say `True = attend`.

Sources: Du et al. 2022 (GLM, arXiv 2103.10360), Zeng et al. 2023 (GLM-130B, arXiv 2210.02414), and the
architecture facts measured on the published code of THUDM/chatglm-6b. What is unlike other decoders:

- the prompt (everything before <sop>) is seen both ways, the answer causally;
- two positions a token, each rotates one half of every head (`layout.glm_positions`);
- the residual branch is the LayerNorm's *output*, times alpha = sqrt(2 * 28), whatever the depth.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from seechat import layout as layouts
from seechat.layout import BoolTensor, Layout, LongTensor


class ChatGLMConfig(PreTrainedConfig):
    """The keys of the official config.json; defaults are those of ChatGLM-6B.

    `alpha_layers` is ours: the depth that sets alpha = sqrt(2 * alpha_layers). The published code uses 28
    at every depth. Raises ValueError for a width that the heads do not divide into four.
    """

    model_type = "chatglm"
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {"num_hidden_layers": "num_layers", "max_position_embeddings": "max_sequence_length"}

    vocab_size: int = 130528
    hidden_size: int = 4096
    inner_hidden_size: int = 16384
    num_layers: int = 28
    num_attention_heads: int = 32
    max_sequence_length: int = 2048
    layernorm_epsilon: float = 1e-5
    position_encoding_2d: bool = True
    mask_token_id: int = 130000
    gmask_token_id: int = 130001
    bos_token_id: int | None = 130004  # <sop>
    eos_token_id: int | list[int] | None = 130005  # <eop>
    pad_token_id: int | None = 3
    use_cache: bool = True
    quantization_bit: int = 0
    pre_seq_len: int | None = None
    prefix_projection: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    alpha_layers: int = 28

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.hidden_size % (4 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of 4 x {self.num_attention_heads} heads: "
                "each head turns two halves, each made of pairs"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def alpha(self) -> float:
        return (2 * self.alpha_layers) ** 0.5


# ---------------------------------------------------------------- rotary positions


@lru_cache
def inverse_frequencies(dim: int, device: torch.device) -> Tensor:
    """(dim / 2,) float16, as the published code rounds them: 10000^(-2i / dim). Made on the CPU, once."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") / dim
    return (1.0 / 10000**exponent).half().to(device)


def rotary_tables(positions: LongTensor, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles of `positions` (...): two (..., dim / 2) tensors of `dtype`.

    Angles (radians) are float32, but float16 when the model is: the published code serves the
    released weights with angles rounded so (steps of a whole radian above position 1024).
    """
    precision = torch.float16 if dtype == torch.float16 else torch.float32
    angles = positions[..., None].to(precision) * inverse_frequencies(dim, positions.device).to(precision)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each half of the heads x (b, h, t, e) by its own position; tables are (b, 1, t, 2, e / 4)."""
    left, right = x.unflatten(-1, (2, 2, -1)).unbind(-2)  # (b, h, t, 2, e / 4) each
    return torch.stack((left * cos - right * sin, right * cos + left * sin), -2).flatten(-3)


# ---------------------------------------------------------------- modules (names as in the checkpoints)


class ChatGLMAttention(nn.Module):
    def __init__(self, config: ChatGLMConfig, layer: int):
        super().__init__()
        self.layer, self.heads = layer, config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: BoolTensor, rotary: tuple[Tensor, Tensor], cache: Cache | None) -> Tensor:
        """x (b, t, d), mask (b, 1, t, k) -> (b, t, d)."""
        heads = self.query_key_value(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, h, t, 3e)
        query, key, value = heads.chunk(3, -1)
        query, key = rotate(query, *rotary), rotate(key, *rotary)
        if cache is not None:
            key, value = cache.update(key, value, self.layer)  # (b, h, k, e) each
        mixed = F.scaled_dot_product_attention(query, key, value, mask)
        return self.dense(mixed.transpose(1, 2).flatten(2))


class ChatGLMMLP(nn.Module):
    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh"))


class ChatGLMBlock(GradientCheckpointingLayer):
    def __init__(self, config: ChatGLMConfig, layer: int):
        super().__init__()
        self.alpha = config.alpha
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.attention = ChatGLMAttention(config, layer)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = ChatGLMMLP(config)

    def forward(
        self, x: Tensor, mask: BoolTensor, rotary: tuple[Tensor, Tensor], past_key_values: Cache | None = None
    ) -> Tensor:
        """(b, t, d) -> (b, t, d). What is carried on is alpha times the norm.

        DeepNorm (Wang et al. 2022, arXiv 2203.00555) normalises the sum of alpha x and a branch. Here that norm opens the next half
        block: the embedding is normalised first, the last sum by the final norm.
        """
        x = self.input_layernorm(x)
        x = torch.add(self.attention(x, mask, rotary, past_key_values), x, alpha=self.alpha)
        x = self.post_attention_layernorm(x)
        return torch.add(self.mlp(x), x, alpha=self.alpha)


class ChatGLMTransformer(nn.Module):
    """Embeddings, blocks, final norm: everything but the head."""

    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.rotary_dim = config.head_dim // 2
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(ChatGLMBlock(config, layer) for layer in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)

    def forward(
        self,
        inputs_embeds: Tensor,
        mask: BoolTensor,
        positions: LongTensor,
        past_key_values: Cache | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """inputs_embeds (b, t, d), mask (b, 1, t, k), positions (b, t, 2) -> hidden states (b, t, d).

        A list given as `states` receives the raw output (b, t, d) of every block. The keys in the cache are
        already rotated.
        """
        cos, sin = rotary_tables(positions, self.rotary_dim, inputs_embeds.dtype)  # (b, t, 2, e / 4)
        rotary = cos[:, None], sin[:, None]
        x = inputs_embeds
        for block in self.layers:
            x = block(x, mask, rotary, past_key_values=past_key_values)
            if states is not None:
                states.append(x)
        return self.final_layernorm(x)


class ChatGLMForCausalLM(PreTrainedModel, GenerationMixin):
    """ChatGLM with its head. Ids decide mask and positions, or an explicit `Layout` does.

        model = ChatGLMForCausalLM.from_pretrained(folder)      # official config.json and key names
        model.generate(input_ids, max_new_tokens=32)            # prompt ids end with [gMASK] <sop>
        model.generate(input_ids=ids, inputs_embeds=embeds)     # the same with pictures among the embeddings

    Raises ValueError for what it does not build: one-dimensional positions, quantised weights, P-tuning.
    """

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["ChatGLMBlock"]
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]

    def __init__(self, config: ChatGLMConfig):
        super().__init__(config)
        for key, wanted in (("position_encoding_2d", True), ("quantization_bit", 0), ("pre_seq_len", None)):
            if getattr(config, key) != wanted:
                raise ValueError(f"config.{key} = {getattr(config, key)} is not supported, only {wanted}")
        self.transformer = ChatGLMTransformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.transformer.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.transformer.add_module("word_embeddings", value)

    def layout_from_ids(self, input_ids: LongTensor, attention_mask: Tensor | None = None) -> Layout:
        """The layout that ChatGLM reads from ids (b, t); see `layout.prefix_from_ids` for what it refuses."""
        config = self.config
        return layouts.prefix_from_ids(
            input_ids,
            attention_mask,
            gmask_id=config.gmask_token_id,
            mask_id=config.mask_token_id,
            sop_id=config.bos_token_id,
        )

    def hidden(
        self,
        inputs_embeds: Tensor,
        layout: Layout,
        past_key_values: Cache | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Final hidden states (b, t, d), without the head. The layout covers the cached tokens too (b, k)."""
        t = inputs_embeds.shape[1]
        mask, positions = layouts.attention_mask(layout, queries=t), layout.positions[:, -t:]
        return self.transformer(inputs_embeds, mask, positions, past_key_values, states)

    def forward(
        self,
        input_ids: LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: LongTensor | None = None,
        layout: Layout | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits (b, t, vocabulary), or of the last `logits_to_keep` (or the given) positions.

        input_ids (b, t); attention_mask (b, t), 0 = padding; inputs_embeds (b, t, d) stand in for the
        embeddings of the ids, which still decide mask and positions. `layout` decides them instead; with a
        cache it covers past and new tokens (b, k). labels (b, t) are ids, -100 = not supervised, shifted
        here: loss in nats a token. hidden_states: the embeddings, then the raw output of every block.
        The result is always a `CausalLMOutputWithPast`, whatever `return_dict` says.
        """
        if output_attentions:
            raise ValueError("output_attentions: the fused attention keeps no probabilities")
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if layout is None:
            if input_ids is None:
                raise ValueError("pass input_ids beside inputs_embeds, or a layout: they decide mask and positions")
            if past:
                raise ValueError("a filled cache needs layout=..., over past and new tokens")
            layout = self.layout_from_ids(input_ids, attention_mask)
        if inputs_embeds is None:
            inputs_embeds = self.transformer.word_embeddings(input_ids)
        if layout.segment.shape[1] != past + inputs_embeds.shape[1]:
            raise ValueError(
                f"the layout covers {layout.segment.shape[1]} tokens, cache and input have "
                f"{past} + {inputs_embeds.shape[1]}"
            )
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        states = [inputs_embeds] if output_hidden_states else None
        x = self.hidden(inputs_embeds, layout, past_key_values, states)
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(x[:, kept])
        loss = None
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=layouts.IGNORE)[:, kept]
            loss = layouts.supervised_loss(logits.flatten(0, 1), targets.flatten())
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=None if states is None else tuple(states),
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """One step of `generate`: all ids so far make the layout, only the new ones are fed."""
        if not input_ids.shape[1]:
            raise ValueError("pass input_ids beside inputs_embeds: they decide mask and positions")
        new = slice(None if next_sequence_length is None else -next_sequence_length, None)
        inputs: dict[str, Any] = {
            "layout": self.layout_from_ids(input_ids, attention_mask),
            "past_key_values": past_key_values,
        }
        if inputs_embeds is not None and is_first_iteration:
            inputs["inputs_embeds"] = inputs_embeds[:, new]
        else:
            inputs["input_ids"] = input_ids[:, new]
        passed_on = ("use_cache", "output_hidden_states", "output_attentions", "logits_to_keep")
        return inputs | {key: kwargs[key] for key in passed_on if key in kwargs}
