"""Stage 3: models merged along the sphere, tensor by tensor."""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import torch
import transformers
from sentence_transformers import SentenceTransformer
from torch import Tensor

from penstock.models.export.locate import locate
from penstock.models.train import loop
from penstock.models.train.plan import Plan

PARALLEL = 0.9995
"""Cosine from which the arc is too short to divide by its sine: a straight line does the same."""

OPPOSITE = 1e-6
"""Sine from which two directions count as opposite: the sine of pi itself is no zero in floating point."""


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at share ``t`` of the way from a to b: the direction along the arc, the length in proportion.

    Spherical linear interpolation (Shoemake 1985), as Qwen3-Embedding merges its checkpoints.
    """
    x, y = a.flatten().double(), b.flatten().double()
    long, wide = x.norm(), y.norm()
    if not long or not wide or (cosine := torch.dot(x, y) / (long * wide)) > PARALLEL:
        return torch.lerp(a.double(), b.double(), t).to(a.dtype)
    angle = torch.arccos(cosine.clamp(-1, 1))
    if angle.sin() < OPPOSITE:  # there is no one shortest way
        return torch.lerp(a.double(), b.double(), t).to(a.dtype)
    direction = (torch.sin((1 - t) * angle) * x / long + torch.sin(t * angle) * y / wide) / torch.sin(angle)
    return (direction * ((1 - t) * long + t * wide)).view(a.shape).to(a.dtype)


def merged(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """All states in equal parts: the n-th is mixed into the result so far with weight 1/n."""

    def into(result: dict[str, Tensor], numbered: tuple[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        n, state = numbered
        return between(result, state, 1 / n)

    return reduce(into, enumerate(states[1:], 2), dict(states[0]))


def between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """Two states of the same model, at share ``t`` of the way from a to b."""
    return {name: slerp(a[name], b[name], t) if a[name].is_floating_point() else a[name] for name in a}


def into(model: SentenceTransformer, plan: Plan, start: str) -> None:
    """Give the model the mean of stage 2's last checkpoints, with a share of what it was before any training."""
    last = loop.checkpoints(plan.output / "finetune")[-plan.merge.checkpoints :]
    model[0].auto_model.load_state_dict(merged([_weights(path) for path in last]))
    if plan.merge.base:
        back(model, start, plan.merge.base)


def back(model: SentenceTransformer, start: str, share: float) -> None:
    """Give the model a share of another one's weights: what it knew about other texts is kept (arXiv 2109.01903)."""
    body, known = model[0].auto_model, _weights(locate(start, None).folder)
    state = body.state_dict()
    body.load_state_dict(state | between({name: state[name] for name in known}, known, share))


def _weights(folder: Path) -> dict[str, Tensor]:
    """Without a pooler, which an encoder's checkpoint may lack, and which is then made by chance."""
    state = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    return {name: values for name, values in state.items() if not name.startswith("pooler.")}
