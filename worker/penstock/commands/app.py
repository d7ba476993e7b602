"""The command line as a whole; each group of commands adds its own to it."""

import typer

EXIT_BUG, EXIT_MISCONFIGURED, EXIT_OWNERSHIP_LOST, EXIT_UNAVAILABLE, EXIT_FORCED = 1, 2, 3, 75, 130
EXIT_DAMAGED = 4

EPILOG = (
    "Exit codes: 0 done; 1 a bug, nothing was committed that is not stored; 2 a setting, a file or a collection "
    "does not fit, or nothing of a file could be indexed; 3 another consumer took this one's place; 4 an "
    "audit found damage; 75 a service is away or too busy, try again; 130 interrupted, or ended by a second signal."
)

WORKERS, SEARCH, MODELS, OPERATION, UPKEEP, ABOUT = "Workers", "Search", "Models", "Operation", "Upkeep", "About"
"""The groups, as the help shows them."""

app = typer.Typer(
    help="Index a stream of documents from Kafka into Qdrant, through an embedding model, and search it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    rich_markup_mode="markdown",
)
