"""What an export is asked for, and which graphs that makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.models import prompts
from penstock.models.export.card import Task
from penstock.models.export.gate import Gate, Progress
from penstock.models.export.own_texts import OwnTexts
from penstock.models.export.weights import IN_BYTES


@dataclass(frozen=True, slots=True)
class Options:
    """What to make. ``dimension`` is the largest asked for; ``separator`` is that of a reranker's template.

    ``prompts`` go before queries and documents, by side, instead of the checkpoint's own.
    """

    dialects: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ()
    dimension: int | None = None
    task: Task | None = None
    separator: str = prompts.SEPARATORS["blank-line"]
    prompts: Mapping[str, str] = field(default_factory=dict)
    labelled_set: Path | None = None
    texts: Path | None = None

    @property
    def gated(self) -> bool:
        """Whether something decides about reduced precision."""
        return (self.labelled_set or self.texts) is not None


def plan(known: Mapping[str, Sequence[str]], options: Options) -> list[tuple[str, str]]:
    """Which graphs to make: of each dialect the precisions asked for that it knows, else its default.

    ``known`` are the precisions of each dialect, its default first. The first of a dialect is what workers prefer.
    Reduced precision on processors is the default only where the quality gate decides; then fp32 stays beside it.
    """
    choices = {precision for precisions in known.values() for precision in precisions}
    for option, given, fitting in (
        ("--dialect", options.dialects, set(known)),
        ("--precision", options.precisions, choices),
    ):
        if wrong := set(given) - fitting:
            raise Misconfigured(f"{option} {', '.join(sorted(wrong))}: choose of {', '.join(sorted(fitting))}")
    made: list[tuple[str, str]] = []
    for name in dict.fromkeys(options.dialects):
        default = ["int8", "fp32"] if options.gated and name == "cpu" else [known[name][0]]
        chosen = [precision for precision in dict.fromkeys(options.precisions) if precision in known[name]] or default
        if options.gated and IN_BYTES.keys() & chosen and "fp32" not in chosen:
            chosen.append("fp32")
        made += [(name, precision) for precision in chosen]
    if not made:
        raise Misconfigured(f"--dialect: choose of {', '.join(sorted(known))}")
    if options.gated and sum(precision in IN_BYTES for _, precision in made) != 1:
        raise Misconfigured(
            "--quality and --texts decide about int8 or int7: add --dialect cpu, and --precision with one of them"
        )
    return made


def judge(options: Options, graphs: Sequence[tuple[str, str]], progress: Progress) -> Gate | OwnTexts | None:
    """What decides about reduced precision, if anything does."""
    if options.labelled_set is not None and options.texts is not None:
        raise Misconfigured("--quality and --texts decide the same thing: leave one out")
    reduced = next((precision for _, precision in graphs if precision in IN_BYTES), "")
    if options.labelled_set is not None:
        return Gate(options.labelled_set, reduced, progress)
    return None if options.texts is None else OwnTexts(options.texts, reduced, progress)
