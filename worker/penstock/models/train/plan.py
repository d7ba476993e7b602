"""What is trained, on what, and how long: a TOML file, checked before the first step."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.models import prompts

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the file; a name it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """The pairs: JSON lines, see ``pairs.py``."""

    pairs: Path
    instruction: str = prompts.INSTRUCTION
    """The task of a pair that names none."""


class NewModel(Section):
    """A small Qwen3, trained from nothing; empty where the file names a ``base``."""

    vocabulary: Annotated[int, Field(ge=300)] = 16_384
    hidden: Count = 256
    layers: Count = 4
    heads: Count = 4
    key_heads: Count = 2
    head_dim: Count = 64
    inner: Count = 768
    longest: Count = 1024
    """Tokens of the longest text that it will ever see."""


class Stage(Section):
    """A training loop: AdamW, linear warm-up, cosine decay. ``batch`` queries make a step."""

    steps: Count
    batch: Count
    rate: Rate
    warmup: Share = 0.04
    tokens: Count = 256
    """Longer texts are cut."""
    save_every: Count = 100
    memory_batch: Annotated[int, Field(ge=0)] = 0
    """Texts in one pass through the model, for batches that memory does not hold (GradCache); 0: all at once."""


class Contrast(Stage):
    """A stage of the embedding model: InfoNCE over the other documents of the batch."""

    temperature: Rate = 0.05
    dimensions: tuple[Count, ...] = ()
    """Truncations that are trained beside the whole vector (Matryoshka), half its weight each."""
    instructed: Share = 1.0
    """Share of the queries with their instruction before them."""


class Pretrain(Contrast):
    """Stage 1: weakly supervised, on as many pairs as there are."""


class Thin(Section):
    """Before all stages, of a BERT: its feed-forward blocks made thinner, see ``thin.py``."""

    inner: Count
    """Numbers in the middle of each."""
    texts: Annotated[int, Field(ge=2)] = 2400
    """That the rest is fitted on; they should be several times as many as there are numbers, in tokens."""
    tokens: Count = 64
    """Longer texts are cut."""


class Mined(Section):
    """Hard negatives: documents that an embedding model ranks high for a query that they do not answer."""

    negatives: Annotated[int, Field(ge=0)] = 7
    """Of each query; those that the pairs bring along come first."""
    pairs: Count = 20_000
    """Pairs to use, drawn from all; their documents are those that are ranked."""
    pool: Count = 60
    """How far down the ranking a negative may stand."""
    ceiling: Rate = 0.95
    """A document that scores above this share of the positive's score is too likely right (NV-Retriever)."""


class Finetune(Contrast, Mined):
    """Stage 2: supervised, with negatives mined by the model of the stage before."""


class Merge(Section):
    """Stage 3: the last checkpoints of stage 2, or what stage 1 made; between models the sphere is followed (slerp)."""

    checkpoints: Count = 3
    base: Share = 0.0
    """How much of the model before training is mixed back in: what it knew about other texts is kept."""


class Rerank(Stage, Mined):
    """The reranker: yes or no on the templated pair, or the classifier of an encoder."""

    base: str = ""
    """A checkpoint to begin with, a folder or a hub id; empty: the embedding model of this plan."""
    miner: str = ""
    """The embedding model that finds the negatives; empty: that of this plan."""
    layers: Annotated[int, Field(ge=0)] = 0
    """For an encoder: how many of the base's layers it has, the first ones; 0: all."""
    listwise: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss that compares a query's documents with each other, beside yes and no of each alone."""


class Plan(Section):
    """The whole recipe. Stages that are not named are not run."""

    output: Path
    seed: int = 0
    base: str = ""
    """A checkpoint to fine-tune, a folder or a hub id; empty: a new model."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: products in 16 bits, weights and sums in 32; on processors without instructions for it very slow."""
    data: Data
    model: NewModel = NewModel()
    thin: Thin | None = None
    pretrain: Pretrain | None = None
    finetune: Finetune | None = None
    merge: Merge = Merge()
    rerank: Rerank | None = None

    @property
    def embeds(self) -> bool:
        """Whether an embedding model is made."""
        return bool(self.pretrain or self.finetune)

    @model_validator(mode="after")
    def _consistent(self) -> "Plan":
        if self.base and self.model != NewModel():
            raise ValueError("base and model: a checkpoint has its shape already, name one of the two")
        if self.thin and not self.base:
            raise ValueError("thin: is for a checkpoint, name it as base")
        if self.finetune and not self.base and self.pretrain is None:
            raise ValueError("without base a new model is trained from nothing: add a table [pretrain]")
        if self.rerank and not self.embeds and not (self.rerank.base and self.rerank.miner):
            raise ValueError("rerank: without [pretrain] or [finetune], name its base and its miner")
        if not (self.embeds or self.rerank):
            raise ValueError("nothing to do: add [pretrain], [finetune] or [rerank]")
        return self


def load(path: Path) -> Plan:
    """Read a plan; paths in it are relative to it. Raises Misconfigured, with every mistake in the file."""
    try:
        plan = Plan.model_validate(tomllib.loads(texts.read(path)))
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'plan'}: {fault['msg']}" for fault in error.errors())
        raise Misconfigured(f"{path}: {wrong}") from None
    here = path.parent
    data = plan.data.model_copy(update={"pairs": here / plan.data.pairs})
    return plan.model_copy(update={"output": here / plan.output, "data": data})
