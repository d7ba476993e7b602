"""Stage 0 of a new reranker: attention that finds a document's words in the query, before anything is trained.

A small model that is trained from nothing to judge pairs learns nothing for long but which answer is more frequent
(360 steps of twelve queries left it there): that a word occurs on both sides takes three layers to see, none of which
helps without the others, as with induction heads (arXiv 2209.11895). So the three are written down, with what an
embedding model knows about words:

0. every token looks back for ``<Query`` and ``<Document``, and so knows which part of the pair it is in;
1. every token looks for tokens of like meaning, itself included: its share of looks that meet the query is its match;
2. the last token averages the document's matches, each token weighted as the embedding model weighs it.

The rest of the model changes nothing yet. Rotary positions hardly turn the dimensions that are used for this.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from penstock.models.export import card
from penstock.models.train.tokenizer import ANSWERS

MARKERS = ("<Query", "<Document")
"""The parts of a pair, see ``prompts.PAIR``; each is one token of a vocabulary that was learnt with the templates."""

CONSTANT = 0.5
"""What every token's embedding of length 1 has in a direction of its own: a bias, which Qwen3's attention lacks."""

MARKED, UNMARKED = 4.0, 2.0
"""Length of a marker's key along what is looked for, and of any key across it."""

SHARP = (2.0, 2.5)
"""How sharply the tokens of the first two layers look: the factor after their query's norm."""

STRAIGHT = 0.004
"""Radians per token up to which a rotary dimension counts as not turned: over 250 tokens it keeps half its product."""

CONVINCED = 0.5
"""Length of what a full match adds to the last token."""


class Free(NamedTuple):
    """Directions in which no embedding differs much: unit vectors [hidden], made free of embeddings."""

    constant: Tensor
    asked: Tensor
    told: Tensor
    match: Tensor


class Known(NamedTuple):
    """What an embedding model knows, for embeddings of length 1 [vocabulary, hidden]."""

    embeddings: Tensor
    meaning: Tensor
    keys: Tensor
    looks: Tensor


def write(model: Any, base: Any, tokenizer: Path, seed: int) -> None:
    """Into ``model``, a Qwen3ForCausalLM, from ``base``, a Qwen3Model of that shape that has learnt its first layer.

    ``tokenizer`` is the folder of both's. Raises Misconfigured for a vocabulary without the templates' words.
    """
    torch.manual_seed(seed)
    query, document, yes, no = (card.word(tokenizer, word) for word in (*MARKERS, *ANSWERS))
    layers, heads = model.model.layers, model.config.num_attention_heads
    with torch.no_grad():
        free, known = _made_free(_known(base, model.config.eos_token_id))
        embeddings = known.embeddings
        for layer in layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                nn.init.ones_(norm.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)
            nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.ones_(model.model.norm.weight)
        straight = _straight(model)
        _part(layers[0].self_attn, embeddings, (query, document), free, straight)
        _match(layers[1].self_attn, known.meaning, free, straight, heads)
        convinced = nn.functional.normalize(embeddings[yes] - embeddings[no], dim=0)
        _average(layers[2].self_attn, base.layers[0].self_attn, known, free, convinced)
        model.model.embed_tokens.weight.copy_(embeddings + CONSTANT * free.constant)


def _known(base: Any, end: int) -> Known:
    first = base.layers[0]
    gain, attention = first.input_layernorm.weight, first.self_attn
    embeddings = nn.functional.normalize(base.embed_tokens.weight, dim=1)
    groups = attention.o_proj.weight.shape[1] // attention.v_proj.weight.shape[0]
    values = attention.v_proj.weight.unflatten(0, (-1, attention.head_dim)).repeat_interleave(groups, 0).flatten(0, 1)
    meaning = attention.o_proj.weight @ values * gain
    looks = attention.q_proj.weight @ (gain * embeddings[end])
    return Known(embeddings, meaning, attention.k_proj.weight * gain, looks)


def _made_free(known: Known) -> tuple[Free, Known]:
    """Directions, and what is known without them: of meaning, what all tokens have in common is left out, too."""
    _, directions = torch.linalg.eigh(known.embeddings.T @ known.embeddings)
    free = Free(*directions.T[: len(Free._fields)])
    others = torch.eye(len(directions)) - torch.stack(free).T @ torch.stack(free)
    embeddings, meaning = known.embeddings @ others, known.meaning @ others
    common = torch.outer(meaning @ embeddings.mean(dim=0), free.constant / CONSTANT)
    return free, Known(embeddings, meaning - common, known.keys @ others, known.looks)


def _straight(model: Any) -> Tensor:
    """Dimensions of a head that positions hardly turn, the straightest first; both of a pair."""
    speeds = model.model.rotary_emb.inv_freq
    slow = [n for n in reversed(range(len(speeds))) if speeds[n] < STRAIGHT]
    return torch.tensor([[n, n + len(speeds)] for n in slow]).flatten()


def _part(attention: Any, embeddings: Tensor, markers: tuple[int, int], free: Free, straight: Tensor) -> None:
    """Two heads, each for one marker."""
    size, spread = attention.head_dim, embeddings.T @ embeddings / len(embeddings)
    groups = attention.o_proj.weight.shape[1] // attention.v_proj.weight.shape[0]
    along, across = straight[0], straight[2]
    for group, (marker, direction) in enumerate(zip(markers, (free.asked, free.told), strict=True)):
        wanted = torch.linalg.solve(spread + 1e-6 * torch.eye(len(spread)), embeddings[marker])
        wanted = wanted / (wanted @ embeddings[marker])
        for weight in (attention.k_proj.weight, attention.v_proj.weight):
            weight[group * size : (group + 1) * size] = 0
        attention.k_proj.weight[group * size + along] = MARKED * wanted
        attention.k_proj.weight[group * size + across] = UNMARKED * free.constant / CONSTANT
        attention.v_proj.weight[group * size] = wanted
        head = group * groups
        attention.q_proj.weight[head * size : (head + 1) * size] = 0
        attention.q_proj.weight[head * size + along] = free.constant
        attention.o_proj.weight[:, head * size] = direction / len(direction) ** 0.5
    nn.init.constant_(attention.q_norm.weight, SHARP[0])
    nn.init.ones_(attention.k_norm.weight)


def _match(attention: Any, meaning: Tensor, free: Free, straight: Tensor, heads: int) -> None:
    size, groups = attention.head_dim, attention.k_proj.weight.shape[0] // attention.head_dim
    for weight in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight):
        nn.init.zeros_(weight)
    for head in range(heads):
        group = head * groups // heads
        if head * groups % heads == 0:
            mixed = torch.randn(len(straight), len(meaning)) @ meaning
            attention.k_proj.weight[group * size + straight] = mixed
            attention.v_proj.weight[group * size] = free.asked - free.told
        attention.q_proj.weight[head * size + straight] = mixed
        attention.o_proj.weight[:, head * size] = free.match / heads / len(free.match) ** 0.5
    nn.init.constant_(attention.q_norm.weight, SHARP[1])
    nn.init.ones_(attention.k_norm.weight)


def _average(attention: Any, first: Any, known: Known, free: Free, yes: Tensor) -> None:
    size = attention.head_dim
    heads, groups = (len(weight) // size for weight in (attention.q_proj.weight, attention.k_proj.weight))
    attention.k_proj.weight.copy_(known.keys)
    attention.q_proj.weight.copy_(torch.outer(known.looks, free.constant))
    attention.k_norm.weight.copy_(first.k_norm.weight)
    attention.q_norm.weight.copy_(first.q_norm.weight)
    nn.init.zeros_(attention.v_proj.weight)
    for group in range(groups):
        attention.v_proj.weight[group * size] = free.match - free.asked + free.told
    for head in range(heads):
        attention.o_proj.weight[:, head * size] = CONVINCED * yes / heads / len(yes) ** 0.5
