"""Training pairs: JSON lines with a query and the document that answers it.

``{"query": "…", "document": "…", "group"?: "…", "instruction"?: "…", "negatives"?: ["…"]}``. Documents of the same
``group`` are never each other's mined negatives: parts of one page, packages of one source.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.models import prompts


@dataclass(frozen=True, slots=True)
class Pair:
    """A query with the document that answers it, and documents known not to."""

    query: str
    document: str
    group: str
    instruction: str
    negatives: tuple[str, ...] = ()

    def asked(self, template: str = prompts.QUERY) -> str:
        """The query as a model reads it, with what goes before it; a template may have a place for the task."""
        return prompts.fill(template, {"instruction": self.instruction}) + self.query


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    query: str = Field(min_length=1)
    document: str = Field(min_length=1)
    group: str = ""
    instruction: str = ""
    negatives: tuple[str, ...] = Field(default=(), strict=False)


def read(path: Path, instruction: str) -> list[Pair]:
    """All pairs of a file; ``instruction`` is for those without one. Raises Misconfigured, naming the line."""
    pairs = [_parse(line, instruction, f"{path}, line {number}") for number, line in texts.lines(path)]
    if not pairs:
        raise Misconfigured(f"{path} holds no pairs")
    return pairs


def _parse(line: str, instruction: str, where: str) -> Pair:
    try:
        parsed = _Line.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        raise Misconfigured(f"{where}: {'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}") from None
    except ValueError:
        raise Misconfigured(f"{where} is no JSON") from None
    return Pair(
        parsed.query,
        parsed.document,
        parsed.group or parsed.document,
        parsed.instruction or instruction,
        parsed.negatives,
    )


def draw(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """``count`` of the pairs in random order, each at most once; all of them if there are fewer."""
    return random.Random(seed).sample(pairs, min(count, len(pairs)))  # noqa: S311  # no secret


def shown(pair: Pair, share: float, rng: random.Random, template: str = prompts.QUERY) -> str:
    """The query, with what goes before it in a ``share`` of the draws: a model should find without its task, too."""
    return pair.asked(template) if rng.random() < share else pair.query
