"""Makes the demo's corpus from a Debian machine's package lists; run by hand, never by a worker.

apt-get update -o Acquire::Languages=en
apt-cache -o Acquire::Languages=en dumpavail > available
python worker/data/debian_packages.py available /var/lib/apt/lists/*_main_i18n_Translation-en*
"""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

SECTIONS = frozenset(
    [
        "admin",
        "comm",
        "database",
        "editors",
        "education",
        "electronics",
        "games",
        "gnome",
        "graphics",
        "hamradio",
        "httpd",
        "interpreters",
        "kde",
        "mail",
        "math",
        "misc",
        "net",
        "news",
        "science",
        "shells",
        "sound",
        "tex",
        "text",
        "utils",
        "vcs",
        "video",
        "web",
        "x11",
        "xfce",
    ]
)
SKIPPED = re.compile(
    r"^lib|-(dev|dbg|doc|data|common|doc-.*|locale.*|l10n.*|examples|server-dev|plugins?)$"
    r"|^task-|transitional|dummy"
)
MOST = 3200
SHORTEST, LONGEST = 120, 1000


def stanzas(text: str) -> list[dict[str, str]]:
    """The fields of each paragraph, continuation lines joined as they stand."""
    found = []
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1].isspace():
                fields[name] += "\n" + line[1:]
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            found.append(fields)
    return found


def prose(description: str) -> str:
    """Paragraphs without hard line breaks; a line of one dot separates them, deeper indented lines stay lines."""
    text = ""
    for line in description.splitlines():
        if line.strip() == ".":
            text += "\n\n"
        elif line.startswith((" ", "*", "-")):
            text += "\n" + line.strip()
        else:
            text += ("" if not text or text.endswith("\n") else " ") + line.strip()
    return text.strip()


def main(available: str, *translations: str) -> None:
    """Write the corpus beside this file."""
    english = {}
    for path in translations:
        raw = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True)  # noqa: S603
        for fields in stanzas(raw.stdout.decode()):
            english[fields["Package"]] = fields["Description-en"]
    documents, ranks = {}, {}
    for fields in stanzas(Path(available).read_text()):
        name = fields["Package"]
        if fields.get("Section") not in SECTIONS or SKIPPED.search(name) or name not in english:
            continue
        title, _, long = english[name].partition("\n")
        text = prose(long)
        if SHORTEST <= len(text) <= LONGEST and "transitional" not in title:
            tags = {"section": fields["Section"], "homepage": fields.get("Homepage")}
            documents[name] = {"id": name, "title": f"{name}: {title}", "text": text,
                               "metadata": {k: v for k, v in tags.items() if v}}  # fmt: skip
            ranks[name] = (-fields.get("Tag", "").count("::"), name)  # well-known packages carry more tags
    chosen = [documents[name] for name in sorted(sorted(ranks, key=ranks.__getitem__)[:MOST])]
    lines = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in chosen)
    target = Path(__file__).with_name("debian-packages.jsonl.gz")
    target.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(f"{len(chosen)} of {len(documents)} documents, {len(lines)} characters, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
