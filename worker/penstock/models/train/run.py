"""``penstock train``: the stages in their order, each done once, whatever interrupts it."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.models.export.gate import Progress
from penstock.models.train import pairs as reading
from penstock.models.train import tokenizer
from penstock.models.train.pairs import Pair
from penstock.models.train.plan import Finetune, Mined, Plan, Pretrain, Rerank, Thin

PLAN = "plan.json"
MINED = "pairs.jsonl"
SEEN_BY_TOKENIZER = 120_000
"""Pairs that the vocabulary of a new model is learnt from."""


def run(plan: Plan, progress: Progress) -> list[Path]:
    """Train what the plan names; the folders of the finished models. Raises Misconfigured."""
    _claim(plan)
    pairs = reading.read(plan.data.pairs, plan.data.instruction)
    made = []
    if plan.embeds:
        made.append(_embedding(plan, pairs, progress))
    if plan.rerank:
        made.append(_reranker(plan, plan.rerank, made, pairs, progress))
    return made


def _claim(plan: Plan) -> None:
    """A folder belongs to one plan, of which stages may be added; raises Misconfigured."""
    plan.output.mkdir(parents=True, exist_ok=True)
    path = plan.output / PLAN
    wanted = plan.model_dump(mode="json", exclude={"output"})
    known = json.loads(path.read_bytes()) if path.is_file() else {}
    differ = sorted(name for name in known if known[name] is not None and known[name] != wanted.get(name))
    if differ:
        raise Misconfigured(
            f"{plan.output} was begun with other values in {', '.join(differ)} (see {path}): name another output"
        )
    path.write_text(json.dumps(wanted, indent=2) + "\n")


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder, unless it is there; one that is half made has another name."""
    if not folder.is_dir():
        half = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        make(half)
        half.rename(folder)
    return folder


def _embedding(plan: Plan, pairs: Sequence[Pair], progress: Progress) -> Path:
    start = plan.base or str(_once(plan.output / "start", lambda folder: _new(plan, pairs, folder, progress)))
    if plan.thin:
        thinned = plan.thin
        start = str(_once(plan.output / "thin", lambda folder: _thin(plan, thinned, pairs, folder, progress)))
    known = start
    if plan.pretrain:
        stage = plan.pretrain
        known = str(
            _once(plan.output / "pretrained", lambda folder: _pretrain(plan, stage, start, pairs, folder, progress))
        )
    if plan.finetune is None and plan.merge.base:
        return _once(plan.output / "embedding", lambda folder: _mix(plan, start, known, folder))
    if plan.finetune is None:
        return Path(known)
    last = plan.finetune
    return _once(plan.output / "embedding", lambda folder: _finish(plan, last, start, known, pairs, folder, progress))


def _new(plan: Plan, pairs: Sequence[Pair], folder: Path, progress: Progress) -> None:
    from penstock.models.train import model  # noqa: PLC0415  # slow to load

    with progress("learning the vocabulary", 0):
        sample = reading.draw(pairs, SEEN_BY_TOKENIZER, plan.seed)
        texts = dict.fromkeys(text for pair in sample for text in (pair.query, pair.document))
        instructions = dict.fromkeys([plan.data.instruction, *(pair.instruction for pair in pairs)])
        learnt = tokenizer.learn(texts, plan.model.vocabulary, instructions)
    tokenizer.save(learnt, folder, ends=True)
    model.create(plan.model, folder, plan.seed)


def _thin(plan: Plan, stage: Thin, pairs: Sequence[Pair], folder: Path, progress: Progress) -> None:
    from penstock.models.train import thin  # noqa: PLC0415  # slow to load

    with progress("thinning", 0):
        thin.write_thinner(plan.base, stage, reading.draw(pairs, stage.texts, plan.seed), folder)


def _pretrain(plan: Plan, stage: Pretrain, start: str, pairs: Sequence[Pair], folder: Path, progress: Progress) -> None:
    from penstock.models.train import contrast, model  # noqa: PLC0415  # slow to load

    trained = model.embedding(start, stage.tokens, plan.data.instruction)
    seen = reading.draw(pairs, stage.steps * stage.batch, plan.seed)
    with progress("pretraining", stage.steps) as advance:
        contrast.train_embedding(plan, "pretrain", stage, trained, seen, 2, advance)
    model.save(trained, folder)


def _mix(plan: Plan, start: str, known: str, folder: Path) -> None:
    """What was pretrained, with a share of what it was before."""
    from penstock.models.train import merge, model  # noqa: PLC0415  # slow to load

    trained = model.embedding(known, model.LONGEST, plan.data.instruction)
    merge.back(trained, start, plan.merge.base)
    model.save(trained, folder)


def _finish(
    plan: Plan, stage: Finetune, start: str, known: str, pairs: Sequence[Pair], folder: Path, progress: Progress
) -> None:
    """Stages 2 and 3."""
    from penstock.models.train import contrast, merge, model  # noqa: PLC0415  # slow to load

    trained = model.embedding(known, stage.tokens, plan.data.instruction)
    mined = _mined(plan, "finetune", stage, known, pairs, progress)
    with progress("fine-tuning", stage.steps) as advance:
        contrast.train_embedding(plan, "finetune", stage, trained, mined, plan.merge.checkpoints, advance)
    merge.into(trained, plan, start)
    model.save(trained, folder)


def _reranker(plan: Plan, stage: Rerank, made: Sequence[Path], pairs: Sequence[Pair], progress: Progress) -> Path:
    from penstock.models.train import cross_encoder, model, reranker  # noqa: PLC0415  # slow to load

    base, miner = (named or str(made[0]) for named in (stage.base, stage.miner))
    train = cross_encoder.train_cross_encoder if model.is_encoder(base) else reranker.train_reranker

    def make(folder: Path) -> None:
        mined = _mined(plan, "rerank", stage, miner, pairs, progress)
        with progress("training the reranker", stage.steps) as advance:
            train(plan, stage, base, mined, folder, advance)

    return _once(plan.output / "reranker", make)


def _mined(plan: Plan, name: str, stage: Mined, miner: str, pairs: Sequence[Pair], progress: Progress) -> list[Pair]:
    """The pairs of a stage with their negatives, kept in a file: an interrupted stage goes on with the same."""
    from penstock.models.train import model, negatives  # noqa: PLC0415  # slow to load

    def make(folder: Path) -> None:
        sample = reading.draw(pairs, stage.pairs, plan.seed + 1)
        mined = [replace(pair, negatives=pair.negatives[: stage.negatives]) for pair in sample]
        if any(len(pair.negatives) < stage.negatives for pair in sample):
            teacher = model.embedding(miner, model.LONGEST, plan.data.instruction)
            with progress(f"mining negatives to {name}", 0):
                mined = negatives.mine(teacher, sample, stage.pool, stage.ceiling, stage.negatives, plan.seed)
        if not mined:
            raise Misconfigured(
                f"{plan.data.pairs}: no pair has {stage.negatives} documents that do not answer it; "
                f"set fewer negatives, or a larger {name}.ceiling"
            )
        lines = (json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in mined)
        (folder / MINED).write_text("".join(lines))

    folder = _once(plan.output / f"{name}-pairs", make)
    return reading.read(folder / MINED, plan.data.instruction)
