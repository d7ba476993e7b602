"""The oldest Qdrant that keeps what it acknowledged."""

import re

FLOOR = (1, 19, 0)
"""Earlier servers log filters, not ids: their replay after a crash may delete or bring back other points than meant."""

VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:([-.])?.*)?")


def fault(told: str) -> str:
    """What is wrong with a server that says it is of this version; empty where it will do.

    What precedes the first release that will do, like 1.19.0-dev, will not; nor will what is no version.
    """
    floor = ".".join(map(str, FLOOR))
    found = VERSION.fullmatch(told.strip())
    if found is None:
        return (
            f"tells {told!r} as its version: Penstock needs Qdrant {floor} or later, and cannot tell whether this is; "
            "use a released server"
        )
    release, early = tuple(map(int, found.groups()[:3])), found[4] == "-"
    if release > FLOOR or (release == FLOOR and not early):
        return ""
    return (
        f"is of version {told}: Penstock needs {floor} or later, since earlier ones may lose acknowledged writes, or "
        "bring back what was deleted, when they start again; upgrade it"
    )
