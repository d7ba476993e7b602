"""Stage 0, for a new model: the token embeddings and the first attention, by the last token's look at all others.

A whole model that is trained from nothing spends most of its time on learning what the words mean. So layers that
change nothing at first (their outputs are zero, as in LLaMA Pro, arXiv 2401.02415) leave a model whose pooled state is
one attention over the token embeddings. Since only the last token asks, that costs a small part of the whole.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen3.modeling_qwen3 import rotate_half

from worker.models.train.model import ByLength, by_length


class FirstLayer(ByLength):
    """The model, computed and trained as far as its first attention."""

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """As in ByLength."""
        model, normalize = self[0].auto_model, self[-1]
        lengths = features["attention_mask"].sum(dim=1)

        def embedded(rows: Tensor, longest: int) -> Tensor:
            return last_state(model, features["input_ids"][rows, :longest], lengths[rows])

        vectors: Tensor = normalize({"sentence_embedding": by_length(lengths, embedded)})["sentence_embedding"]
        return features | {"sentence_embedding": vectors}


def prepare(model: Any, seed: int) -> None:
    """Make a Qwen3Model compute what ``last_state`` does, and only the weights of that trainable."""
    torch.manual_seed(seed)
    first = model.layers[0]
    trained = nn.ModuleList([model.embed_tokens, first.input_layernorm, first.self_attn, model.norm])
    model.requires_grad_(requires_grad=False)
    trained.requires_grad_(requires_grad=True)
    width = model.config.hidden_size**-0.5
    for matrix in (first.self_attn.v_proj, first.self_attn.o_proj):
        nn.init.normal_(matrix.weight, std=width)
    for index, layer in enumerate(model.layers):
        nn.init.zeros_(layer.mlp.down_proj.weight)
        if index:
            nn.init.zeros_(layer.self_attn.o_proj.weight)


def last_state(model: Any, ids: Tensor, lengths: Tensor) -> Tensor:
    """``[batch, hidden]``: each text's last token after the first attention and the final norm.

    ``ids`` are ``[batch, longest]``, padded on the right with anything.
    """
    first, rows, last = model.layers[0], torch.arange(len(ids), device=ids.device), lengths - 1
    attention, places = first.self_attn, torch.arange(ids.shape[1], device=ids.device)
    states = model.embed_tokens(ids)
    normed = first.input_layernorm(states)
    heads = (len(ids), -1, model.config.num_key_value_heads, attention.head_dim)
    cos, sin = (part[0] for part in model.rotary_emb(states, places[None]))
    keys = attention.k_norm(attention.k_proj(normed).view(heads)).transpose(1, 2)
    keys = keys * cos + rotate_half(keys) * sin
    values = attention.v_proj(normed).view(heads).transpose(1, 2)
    asked = attention.q_norm(attention.q_proj(normed[rows, last]).view(len(ids), -1, attention.head_dim))
    asked = asked * cos[last, None] + rotate_half(asked) * sin[last, None]
    grouped = asked.view(len(ids), model.config.num_key_value_heads, -1, attention.head_dim)
    seen = (places < lengths[:, None])[:, None, None]
    looked = nn.functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=seen)
    return model.norm(states[rows, last] + attention.o_proj(looked.reshape(len(ids), -1)))
