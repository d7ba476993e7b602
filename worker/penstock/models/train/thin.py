"""A thinner BERT: fewer numbers in the middle of each feed-forward block, the rest fitted to do the work of all.

Layer by layer, on texts of the pairs: those stay that add most to the block's output, and the matrix behind them
becomes the least-squares solution for the output that the whole block would give. No gradient is computed.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from penstock.models.export import card
from penstock.models.export.config import CONFIG, read_json
from penstock.models.export.locate import locate
from penstock.models.tokenizer import HubTokenizer
from penstock.models.train.pairs import Pair
from penstock.models.train.plan import Thin

BATCH = 48
RIDGE = 1e-4
"""Of the mean energy, so that the equations can be solved."""


def write_thinner(base: str, stage: Thin, pairs: Sequence[Pair], folder: Path) -> None:
    """The checkpoint with all that is beside its weights, thinned on half the pairs' queries, half their documents."""
    source = locate(base, None).folder
    model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    before = card.templates("embedding", source, "")
    texts = [before["query"] + pair.query for pair in pairs[::2]]
    texts += [before["document"] + pair.document for pair in pairs[1::2]]
    ids = HubTokenizer(source / "tokenizer.json").encode(texts, stage.tokens)
    thin(model.eval(), list(batches(ids, model.config.pad_token_id)), stage.inner)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    model.save_pretrained(folder)
    written = read_json(source / CONFIG) | {"intermediate_size": stage.inner}
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n")


def batches(rows: Sequence[Sequence[int]], padding: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids [texts, longest] of texts of similar length, and which of them are text."""
    ordered = [torch.tensor(row) for row in sorted(rows, key=len)]
    for first in range(0, len(ordered), BATCH):
        part = ordered[first : first + BATCH]
        ids = nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=padding)
        shown = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in part], batch_first=True)
        yield ids, shown.bool()


def thin(model: Any, texts: Sequence[tuple[Tensor, Tensor]], inner: int) -> None:
    """Thin all layers of a BertModel in place. Each is fitted to what reaches it through those before it."""
    with torch.no_grad():
        _thin(model, texts, inner)
    model.config.intermediate_size = inner


def _thin(model: Any, texts: Sequence[tuple[Tensor, Tensor]], inner: int) -> None:
    states = [model.embeddings(ids) for ids, _ in texts]
    masks = [model.get_extended_attention_mask(shown, shown.shape) for _, shown in texts]
    for layer in model.encoder.layer:
        attended = [layer.attention(state, mask)[0] for state, mask in zip(states, masks, strict=True)]
        inputs = (layer.intermediate(state[shown]) for state, (_, shown) in zip(attended, texts, strict=True))
        gram = sum((rows.T @ rows).double() for rows in inputs)
        up, down = layer.intermediate.dense, layer.output.dense
        kept, matrix = fitted(gram, down.weight, inner)
        up.weight, up.bias, down.weight = (nn.Parameter(part) for part in (up.weight[kept], up.bias[kept], matrix))
        states = [layer.output(layer.intermediate(state), state) for state in attended]


def fitted(gram: Tensor, matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which ``count`` inputs of ``matrix`` [outputs, inputs] stay, and the matrix from these.

    ``gram`` [inputs, inputs], in 64 bits, sums the inputs' products over the texts: G. An input i adds the energy
    G[i, i] |W[:, i]|^2; with S those that stay, least squares gives W G[:, S] inverse(G[S, S]).
    """
    weights = matrix.double()
    kept = (gram.diag() * weights.square().sum(dim=0)).topk(count).indices.sort().values
    among = gram[kept][:, kept] + RIDGE * gram.diag().mean() * torch.eye(count, dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(among, gram[kept] @ weights.T).T.contiguous().to(matrix.dtype)
    return kept, solved
