"""Makes docs/reference from the code: settings, metrics and commands.

``python docs/generate.py``, after a change of either. With --check nothing is written, and the exit code says whether
all three are up to date.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import typer
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "worker"))

from penstock.commands import app as command_line  # noqa: E402
from penstock.commands import main as _every_command  # noqa: E402, F401
from penstock.observe.audit_metrics import AuditMetrics  # noqa: E402
from penstock.observe.backfill_metrics import BackfillMetrics  # noqa: E402
from penstock.observe.index_metrics import IndexMetrics  # noqa: E402
from penstock.observe.lag_metrics import LagMetrics  # noqa: E402
from penstock.observe.metrics import Metrics  # noqa: E402
from penstock.observe.query_metrics import QueryMetrics  # noqa: E402
from penstock.observe.watch import Watch  # noqa: E402
from penstock.settings import PREFIX, Settings, variables  # noqa: E402

NOTICE = "<!-- Made by `make docs` from the code; a test compares it. -->\n"
SOURCES = """
The first of these that has a value wins: a command's option; the environment; `.env`; a folder of files that
`PENSTOCK_SECRETS` names, each named like its variable (what Kubernetes mounts of a Secret); `penstock.toml`, or the
file that `PENSTOCK_CONFIG` names, where `topic` in the table `[kafka]` is `PENSTOCK_KAFKA__TOPIC`. A name that is no
setting is an error wherever it stands; a variable that is set to nothing counts as not set. `penstock config` shows
the settings in effect, and where each comes from.
"""


def settings_page() -> str:
    """Every variable by its group, with default and meaning."""
    rows: dict[str, list[str]] = {}
    for name, default, meaning in variables():
        group, field = name.removeprefix(PREFIX).lower().split("__", 1)
        choices = get_args(_group(group).model_fields[field].annotation)
        named = choices and all(isinstance(choice, str) for choice in choices)
        about = f"{meaning} One of: {', '.join(filter(None, choices))}." if named else meaning
        rows.setdefault(group, []).append(f"| `{name}` | {f'`{default}`' if default else ''} | {_cell(about)} |\n")
    parts = []
    for group, lines in rows.items():
        about = _group(group).__doc__ or ""
        parts.append(f"\n## {group}\n\n{about}\n\n| variable | default | meaning |\n|---|---|---|\n{''.join(lines)}")
    return f"# Settings\n\n{NOTICE}{SOURCES}{''.join(parts)}"


def _group(name: str) -> type[BaseModel]:
    model: Any = Settings.model_fields[name].annotation
    return cast("type[BaseModel]", model)


def metrics_page() -> str:
    """Every metric of all workers, each where it is told."""
    index, query, lag, every = IndexMetrics(["documents"]), QueryMetrics(), LagMetrics(), Metrics()
    for metrics in (index, query, every):
        metrics.models([])
        metrics.gpu(lambda: (0.0, 0.0, 0.0))
    index.watch(Watch(), {}, {})
    BackfillMetrics(index.registry, Watch(), dict)
    query.watch(dict)
    query.follow(Watch())
    shared = dict(_families(every.registry))
    about = (
        "The query worker answers `/metrics` on its own port, the index worker and the lag exporter on "
        "`PENSTOCK_MONITOR__PORT`: as plain text, or as OpenMetrics with exemplars for who asks for that. "
        "[Operating](../operating.md) says what to watch and which alerts there are. Beside these all tell of their "
        "process (`process_resident_memory_bytes`, `process_cpu_seconds_total`, …) and of Python's garbage collector.\n"
    )
    return "".join(
        (
            f"# Metrics\n\n{NOTICE}\n{about}",
            _metrics_table("Index worker", {n: r for n, r in _families(index.registry) if n not in shared}),
            _metrics_table("Query worker", {n: r for n, r in _families(query.registry) if n not in shared}),
            _metrics_table("Lag exporter", {n: r for n, r in _families(lag.registry) if n not in shared}),
            _metrics_table("Audit, by file or Pushgateway", dict(_families(AuditMetrics().registry))),
            _metrics_table("All", shared),
        )
    )


def _metrics_table(title: str, rows: Mapping[str, str]) -> str:
    return f"\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n{''.join(rows.values())}"


def _families(registry: CollectorRegistry) -> Iterator[tuple[str, str]]:
    """Name and row of each; a counter as its series is called."""
    collectors: list[Any] = list(registry._collector_to_names)
    for collector in collectors:
        for family in collector.collect():
            if not family.name.startswith("penstock_"):
                continue  # of the process, by the machine that it runs on
            labels = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            named = ", ".join(f"`{label}`" for label in labels)
            yield name, f"| `{name}` | {family.type} | {named} | {_cell(family.documentation)} |\n"


def commands_page() -> str:
    """What ``--help`` says of each command, by its group."""
    root: Any = typer.main.get_command(command_line.app)
    panels: dict[str, list[str]] = {}
    every = {
        f"{name} {inner}" if inner else name: (command.commands[inner] if inner else command, command)
        for name, command in root.commands.items()
        for inner in getattr(command, "commands", {"": None})
    }
    for name, (command, group) in every.items():
        panel = getattr(group, "rich_help_panel", None) or "Other"
        panels.setdefault(str(panel), []).append(_command(name, command))
    order = (command_line.WORKERS, command_line.SEARCH, command_line.MODELS, command_line.OPERATION, command_line.ABOUT)
    parts = [f"\n## {panel}\n{''.join(panels[panel])}" for panel in order]
    return f"# Commands\n\n{NOTICE}\n{command_line.EPILOG}\n{''.join(parts)}"


def _command(name: str, command: Any) -> str:
    arguments = [_name(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join(["penstock", name, "[OPTIONS]", *arguments])
    rows = "".join(map(_parameter, command.params))
    table = f"\n| option | default | meaning |\n|---|---|---|\n{rows}" if rows else ""
    about = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    return f"\n### penstock {name}\n\n`{usage}`\n\n{about}\n{table}\n{command.epilog or ''}\n"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return "/".join([*parameter.opts, *parameter.secondary_opts])
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _parameter(parameter: Any) -> str:
    default = parameter.default
    shown = (
        f"`{default}`"
        if isinstance(default, int | float | str) and not isinstance(default, bool) and default != ""
        else ""
    )
    required = " (required)" if parameter.required else ""
    return f"| `{_name(parameter)}` | {shown} | {_cell(getattr(parameter, 'help', None) or '')}{required} |\n"


def _cell(text: str) -> str:
    """On one line, with nothing that would end a table's cell or begin a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def main() -> None:
    """Write, or check."""
    pages = {"settings.md": settings_page(), "metrics.md": metrics_page(), "commands.md": commands_page()}
    if "--check" not in sys.argv:
        for name, content in pages.items():
            (HERE / "reference" / name).write_text(content)
    elif old := [name for name, content in pages.items() if (HERE / "reference" / name).read_text() != content]:
        sys.exit(f"run make docs: {', '.join(old)} is not up to date")


if __name__ == "__main__":
    main()
