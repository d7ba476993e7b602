"""Stage 0, for a new model: the token embeddings and the first attention, by the last token's look at all others.

A whole model that is trained from nothing spends most of its time on learning what the words mean. So layers that
change nothing at first (their outputs are zero, as in LLaMA Pro, arXiv 2401.02415) leave a model whose pooled state is
one attention over the token embeddings. Since only the last token asks, that costs a small part of the whole.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3.modeling_qwen3 import rotate_half

from penstock.models.train.model import ByLength, by_length

SHORTEST, LONG = 16, 64
"""Tokens of the shortest passage that is left of a text, and of a text that is long enough to be cut."""

PORTION = 256
"""Texts at a time: each portion's gradient is as large as the vocabulary, so few of them."""


class FirstLayer(ByLength):
    """The model, computed and trained as far as its first attention.

    While it is trained some tokens are hidden from the last one, see ``hidden``: it would learn its pairs by heart.
    """

    hidden_share, cut_share = 0.0, 0.0

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """As in ByLength."""
        model, normalize = self[0].auto_model, self[-1]
        lengths = features["attention_mask"].sum(dim=1)
        tokens, places = torch.unique(features["input_ids"], return_inverse=True)
        known, seen = of_tokens(model, tokens), features["attention_mask"].bool()
        if self.training:
            seen = seen & ~hidden(lengths, seen.shape[1], self.hidden_share, self.cut_share)

        def embedded(rows: Tensor, longest: int) -> Tensor:
            return last_state(model, known, places[rows, :longest], lengths[rows], seen[rows, :longest])

        states = by_length(lengths, embedded, PORTION)
        vectors: Tensor = normalize({"sentence_embedding": states})["sentence_embedding"]
        return features | {"sentence_embedding": vectors}


class Known(NamedTuple):
    """What depends on a token alone: its embedding and its norm [tokens, hidden], key and value [tokens, width]."""

    states: Tensor
    normed: Tensor
    keys: Tensor
    values: Tensor


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


def of_tokens(model: Any, tokens: Tensor) -> Known:
    """Of each token that a batch holds, once, however often it occurs: most of the work in a fifth of the time."""
    attention = model.layers[0].self_attn
    states = model.embed_tokens(tokens)
    normed = model.layers[0].input_layernorm(states)
    keys = attention.k_norm(attention.k_proj(normed).unflatten(1, (-1, attention.head_dim))).flatten(1)
    return Known(states, normed, keys, attention.v_proj(normed))


def hidden(lengths: Tensor, longest: int, share: float, cut: float) -> Tensor:
    """``[texts, longest]``: which tokens the last one does not see, by chance; it always sees itself.

    Of each text up to twice ``share``, evenly spread over the texts; and of a ``cut`` share of those with LONG tokens
    or more all but one passage of SHORTEST tokens or more.
    """
    texts, places = len(lengths), torch.arange(longest, device=lengths.device)
    drawn = torch.rand(4, texts, 1, device=lengths.device)
    size = (SHORTEST + drawn[0] * (lengths[:, None] - SHORTEST)).floor()
    start = (drawn[1] * (lengths[:, None] - size)).floor()
    outside = (places < start) | (places >= start + size)
    left_out = (drawn[2] < cut) & (lengths[:, None] >= LONG) & outside
    left_out |= torch.rand(texts, longest, device=lengths.device) < 2 * share * drawn[3]
    return left_out & (places != lengths[:, None] - 1)


def last_state(model: Any, known: Known, places: Tensor, lengths: Tensor, seen: Tensor) -> Tensor:
    """``[batch, hidden]``: each text's last token after the first attention and the final norm.

    ``places`` ``[batch, longest]`` say which known token stands where, padded on the right with anything; ``seen``, of
    that shape, which of them the last one sees.
    """
    attention, groups = model.layers[0].self_attn, model.config.num_key_value_heads
    last, positions = lengths - 1, torch.arange(places.shape[1], device=places.device)
    end = places[torch.arange(len(places), device=places.device), last]
    keys, values = (
        functional.embedding(places, product).unflatten(2, (groups, attention.head_dim)).transpose(1, 2)
        for product in (known.keys, known.values)
    )
    asked = attention.q_norm(attention.q_proj(known.normed[end]).unflatten(1, (-1, attention.head_dim)))
    cos, sin = (part[0] for part in model.rotary_emb(known.states, positions[None]))
    keys = keys * cos + rotate_half(keys) * sin
    asked = asked * cos[last, None] + rotate_half(asked) * sin[last, None]
    looked = functional.scaled_dot_product_attention(
        asked.unflatten(1, (groups, -1)), keys, values, attn_mask=seen[:, None, None]
    )
    return model.norm(known.states[end] + attention.o_proj(looked.flatten(1)))
