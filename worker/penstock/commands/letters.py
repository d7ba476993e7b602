"""Dead letters: ``penstock letters list | show | replay``."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, get_args

import typer
from rich.console import Console

from penstock.commands.app import UPKEEP, app
from penstock.commands.listed import choice
from penstock.commands.process import load_settings
from penstock.core.errors import Misconfigured
from penstock.observe.live import steps
from penstock.operate.letters import By, Chosen, Tallies, kind_of, moment, read_since, shortened
from penstock.operate.replay import Became, Told

MOST_GROUPS = 50
"""Shown to a person; --json has all."""

MOST_WHY = 400
"""Characters of why."""

WORDS = {
    Became.REFUSED: "refused",
    Became.SUPERSEDED: "not sent, superseded",
    Became.REPEATED: "not sent, told twice",
    Became.BEFORE: "not sent, since it was sent before",
    Became.READY: "would be sent",
    Became.SENT: "sent",
    Became.DONE: "sent and done: indexed, unchanged, deleted, or superseded by a newer version",
    Became.AGAIN: "sent, and a dead letter again",
}

COORDINATES = re.compile(r"(?:(\d{1,9}):)?(\d{1,18})")
BY: dict[str, By] = {name: name for name in get_args(By)}

letters = typer.Typer(
    help="Look at dead letters, and send them back once what was wrong is mended.", no_args_is_help=True
)
app.add_typer(letters, name="letters", rich_help_panel=UPKEEP)

Topic = Annotated[str | None, typer.Option(help="Those of one topic [default: of all that are followed].")]
Reason = Annotated[str, typer.Option(help="Whose reason holds this text.")]
Stage = Annotated[str | None, typer.Option(help="Of a stage: decode, chunk, embed, write; or retrieve, rerank, reply.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Whose record came from this partition.")]
Key = Annotated[str | None, typer.Option(help="Of a record with this key.")]
Since = Annotated[str | None, typer.Option(help="Given up then or later: 2026-11-27T12:00:00Z, or 2h ago as 2h.")]
Until = Annotated[str | None, typer.Option(help="Given up before that.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@letters.command(
    "list",
    epilog="Examples: `penstock letters list` · `penstock letters list --by hour --since 2d` · "
    "`penstock letters list --reason JSON --by key --json`",
)
def list_letters(
    by: Annotated[str, typer.Option(help="Count by reason, stage, hour, partition or key.")] = "reason",
    topic: Topic = None,
    reason: Reason = "",
    stage: Stage = None,
    partition: Partition = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters, each count with an example and the times of the first and the last.

    Reasons that differ in numbers, identifiers and quoted values only are one. Reads the topics whole, and commits
    nothing.
    """
    settings, counted = load_settings(), choice("--by", by, BY)
    chosen = _chosen(topic, reason, stage, partition, key, since, until)
    from penstock.assembly.letters import count  # noqa: PLC0415  # slow: first what can fail at once

    tallies, topics = count(settings, chosen, counted, steps(Console(stderr=True)))
    if as_json:
        typer.echo(json.dumps(_as_json(tallies, topics), ensure_ascii=False))
        return
    if not tallies.total:
        typer.echo(
            f"no dead letters in {', '.join(topics)}" if topics else "no dead letters, and no topic for them yet"
        )
        return
    typer.secho(f"{tallies.total} dead letters in {', '.join(topics)}, by {by}", bold=True)
    groups = tallies.sorted()
    for name, tally in groups[:MOST_GROUPS]:
        typer.echo(f"{tally.count:>8}  {name}")
        place = f"{tally.example.partition}:{tally.example.offset}"
        where = place if len(topics) == 1 else f"{place} of {tally.example.topic}"
        typer.secho(f"          {moment(tally.first_ms)} to {moment(tally.last_ms)}, for example {where}", dim=True)
    if left := groups[MOST_GROUPS:]:
        typer.echo(f"{sum(tally.count for _, tally in left):>8}  of {len(left)} more: --json has all")


@letters.command(
    "show", epilog="Examples: `penstock letters show 0:0` · `penstock letters show 0 --topic articles --json`"
)
def show_letter(
    place: Annotated[
        str, typer.Argument(metavar="PARTITION:OFFSET", help="As list shows it; of one partition OFFSET.")
    ],
    topic: Annotated[str | None, typer.Option(help="The topic that it came from, where there are several.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole: where it came from, why it was given up, and what would become of it now."""
    settings, (partition, offset) = load_settings(), _coordinates("PARTITION:OFFSET", place)
    from penstock.assembly.one_letter import look  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.operate import one_letter  # noqa: PLC0415

    record, letter, now = look(settings, topic, partition, offset)
    if as_json:
        typer.echo(json.dumps(one_letter.as_json(record, letter, now), ensure_ascii=False))
        return
    for line in one_letter.lines(record, letter, now):
        typer.echo(line)


@letters.command(
    "replay",
    epilog="Examples: `penstock letters replay --dry-run` · `penstock letters replay --offset 0:0 --wait` · "
    "`penstock letters replay --reason JSON --since 2d --rate 50 --json`",
)
def replay_letters(
    topic: Topic = None,
    reason: Reason = "",
    stage: Stage = None,
    partition: Partition = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    offset: Annotated[
        list[str] | None, typer.Option(metavar="PARTITION:OFFSET", help="Just these, as list shows them; repeat it.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, max=1e6, help="At most so many in a second.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow them until the index workers are done with them.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=0, help="How long --wait waits at most.")] = 300.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per letter.")] = False,
) -> None:
    """Send dead letters back to the topic and partition that they came from, in the order of their first delivery.

    So an old event beats no newer one, and no delete comes undone. Letters of which that cannot be promised are
    refused, each with its reason. What was sent back before, and has not come again, is not sent again.
    """
    settings = load_settings()
    places = frozenset(_coordinates("--offset", text) for text in offset or ())
    chosen = _chosen(topic, reason, stage, partition, key, since, until, places)
    from penstock.assembly.replay import Replay  # noqa: PLC0415  # slow: first what can fail at once

    told = _Telling(as_json=as_json)
    replay = Replay(settings, chosen, told, steps(Console(stderr=True)), rate, timeout_s if wait else None)
    try:
        replay.run(int(time.time() * 1000), dry_run=dry_run)
    finally:
        told.summary()


def _chosen(
    topic: str | None,
    reason: str,
    stage: str | None,
    partition: int | None,
    key: str | None,
    since: str | None,
    until: str | None,
    places: frozenset[tuple[int | None, int]] = frozenset(),
) -> Chosen:
    now = datetime.now(UTC)
    times = {}
    for option, text in (("--since", since), ("--until", until)):
        try:
            times[option] = None if text is None else read_since(text, now)
        except ValueError as error:
            raise Misconfigured(f"{option}: {error}") from None
    return Chosen(topic, reason, stage, partition, key, times["--since"], times["--until"], places)


def _coordinates(option: str, text: str) -> tuple[int | None, int]:
    if (found := COORDINATES.fullmatch(text)) is None:
        raise Misconfigured(f"{option} {text}: is the partition and the offset of a letter, like 0:41")
    return (None if found[1] is None else int(found[1])), int(found[2])


def _as_json(tallies: Tallies, topics: list[str]) -> dict[str, object]:
    return {
        "topics": topics,
        "letters": tallies.total,
        "by": tallies.by,
        "groups": [
            {
                tallies.by: name,
                "letters": tally.count,
                "example": tally.example._asdict(),
                "first": moment(tally.first_ms) or None,
                "last": moment(tally.last_ms) or None,
            }
            for name, tally in tallies.sorted()
        ],
    }


@dataclass(slots=True)
class _Telling:
    """What became of letters: a line of JSON for each, or sums of what became of them for the same reason."""

    as_json: bool
    counts: Counter[tuple[Became, str]] = field(default_factory=Counter)
    examples: dict[tuple[Became, str], Told] = field(default_factory=dict)

    def __call__(self, told: Told) -> None:
        if self.as_json:
            copy = None if told.copy is None else told.copy._asdict()
            line = {"letter": told.letter._asdict(), "became": told.became, "why": told.why or None, "copy": copy}
            typer.echo(json.dumps(line, ensure_ascii=False))
            return
        kind = told.became, kind_of(told.why) if told.why else ""
        self.counts[kind] += 1
        self.examples.setdefault(kind, told)

    def summary(self) -> None:
        """For a person, at the end."""
        for (became, kind), count in sorted(
            self.counts.items(), key=lambda one: (list(Became).index(one[0][0]), -one[1])
        ):
            told = self.examples[became, kind]
            typer.echo(f"{count:>8}  {WORDS[became]}{f': {shortened(told.why, MOST_WHY)}' if told.why else ''}")
            now = "" if told.copy is None else f", now {told.copy.topic}/{told.copy.partition}/{told.copy.offset}"
            typer.secho(f"          for example letter {told.letter.partition}:{told.letter.offset}{now}", dim=True)
        if not self.as_json and not self.counts:
            typer.echo("no dead letters to send back")
