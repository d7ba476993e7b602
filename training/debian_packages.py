"""Makes the demo's corpus, its labelled queries and the pairs to train its models on, from a Debian machine's lists.

Run by hand, never by a worker; the lists are those of Debian 12::

    apt-get update -o Acquire::Languages=en,da,de,es,fr,it,ja,pt_BR,ru
    apt-cache dumpavail > available
    lists='/var/lib/apt/lists/*_dists_bookworm_main_i18n_Translation-*'
    python training/debian_packages.py available "$lists" pairs.jsonl
"""

import glob
import gzip
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

DATA = Path(__file__).parent.parent / "worker" / "penstock" / "data"
LANGUAGES = ("en", "da", "de", "es", "fr", "it", "ja", "pt_BR", "ru")
ASKED_IN = ("en", "de", "fr", "it")
SECTIONS = re.compile(
    r"admin|comm|database|editors|education|electronics|games|gnome|graphics|hamradio|httpd|interpreters|kde|mail|math"
    r"|misc|net|news|science|shells|sound|tex|text|utils|vcs|video|web|x11|xfce"
)
SKIPPED = re.compile(
    r"^lib|-(dev|dbg|doc|data|common|doc-.*|locale.*|l10n.*|examples|server-dev|plugins?)$"
    r"|^task-|transitional|dummy"
)
DRAWN = 24
"""Of so many families of source packages, one is held out by chance, with every package that has a text of its own."""
MOST = 3200
"""Documents of the corpus: the rest are well-known programs, held out as well."""
FOREIGN = 3
"""Of three programs that are translated, one is described in another language than English."""
GONE, REVISED, AGAIN = 60, 240, 300
"""Documents of the stream that are deleted, that come in an older version first, that come twice."""
SHORTEST, LONGEST = 120, 1000
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
SENTENCES, SENTENCE_LENGTHS = 2, range(20, 200)
NAMED, WITHIN, ACROSS = 0.15, 0.6, 0.5
"""Shares: of the packages that are asked for by name, of the descriptions that are asked for in their own language,
and of those that are asked for in English."""
DANISH = 0.4
"""Share of the Danish descriptions that are used: there are as many as of all other languages together."""
PASSAGE = 60
"""Characters from which a paragraph may not be in the corpus and in a pair."""


@dataclass(slots=True)
class Package:
    """A binary package; ``texts`` are its (short, long) descriptions by language."""

    name: str
    source: str
    section: str
    homepage: str | None
    tags: int
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The source package without its version: gcc-12 and gcc-13 describe themselves alike."""
        return re.sub(r"[\d.]+", "", self.source)


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The fields of each paragraph, continuation lines joined as they stand."""
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
            yield fields


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


def read(available: str, translations: Iterable[str]) -> list[Package]:
    """All packages that describe themselves in English, in the order of their names, but for empty ones."""
    packages = {}
    for fields in stanzas(Path(available).read_text()):
        source = fields.get("Source", fields["Package"]).split()[0]
        packages[fields["Package"]] = Package(fields["Package"], source, fields.get("Section", ""),
                                              fields.get("Homepage"), fields.get("Tag", "").count("::"))  # fmt: skip
    for path in translations:
        language = path.rpartition("Translation-")[2].partition(".")[0].replace("%5f", "_")
        if language not in LANGUAGES:
            continue
        raw = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True)  # noqa: S603
        for fields in stanzas(raw.stdout.decode()):
            short, _, long = fields.get(f"Description-{language}", "").partition("\n")
            if fields["Package"] in packages and len(short) >= 8 and len(long) >= 40:  # noqa: PLR2004
                packages[fields["Package"]].texts.setdefault(language, (short, prose(long)))
    described = (
        package
        for package in packages.values()
        if "en" in package.texts and "transitional" not in package.texts["en"][0]
    )
    return sorted(described, key=lambda package: package.name)


def key(text: str) -> str:
    """What two descriptions share that differ in digits, case and spaces only."""
    return " ".join(re.sub(r"\d+", "0", text).casefold().split())


def keys(package: Package) -> set[str]:
    """Of all its descriptions."""
    return {key(text) for both in package.texts.values() for text in both}


def passages(package: Package) -> set[str]:
    """Its descriptions and their longer paragraphs, which packages of one project repeat."""
    parts = {key(part) for _, long in package.texts.values() for part in long.split("\n\n")}
    return keys(package) | {part for part in parts if len(part) >= PASSAGE}


def chance(name: str) -> int:
    """A number that belongs to a name, the same for ever."""
    return int(sha256(name.encode()).hexdigest()[:8], 16)


def drawn(package: Package) -> bool:
    """Whether chance has chosen its family."""
    return chance(f"family {package.family}") % DRAWN == 0


def choose(packages: Iterable[Package], labelled: set[str]) -> tuple[list[Package], list[Package]]:
    """The corpus, and what the stream also holds for a while. No text is there twice.

    The corpus is what chance has drawn; then what the queries written by hand ask for, and well-known programs: those
    that carry more tags.
    """
    seen: set[str] = set()
    chosen: list[Package] = []

    def order(package: Package) -> tuple[bool, bool, int, str]:
        return package.name not in labelled, not drawn(package), -package.tags, package.name

    for package in sorted(packages, key=order):
        if (package.name in labelled or drawn(package) or _program(package)) and not keys(package) & seen:
            seen |= keys(package)
            chosen.append(package)
    return sorted(chosen[:MOST], key=lambda package: package.name), chosen[MOST : MOST + GONE]


def _program(package: Package) -> bool:
    long = package.texts["en"][1]
    return bool(
        SECTIONS.fullmatch(package.section) and not SKIPPED.search(package.name) and SHORTEST <= len(long) <= LONGEST
    )


def language_of(package: Package) -> str:
    """English, or for some of the translated ones the rarest of their languages."""
    others = [language for language in ("ja", "ru", "es", "pt_BR", "de", "fr", "it") if language in package.texts]
    return others[0] if others and chance(package.name) % FOREIGN == 0 else "en"


def event(package: Package, text: str, language: str) -> dict[str, object]:
    """The document's upsert."""
    tags = {"section": package.section, "homepage": package.homepage}
    return {"id": package.name, "language": language.partition("_")[0], "text": text,
            "metadata": {k: v for k, v in tags.items() if v}}  # fmt: skip


def stream(corpus: list[Package], gone: list[Package], labelled: set[str]) -> list[dict[str, object]]:
    """Events that leave the corpus behind: some documents revised, some sent twice, some deleted."""
    rng = random.Random(12)  # noqa: S311  # no secret
    final = {
        package.name: event(package, package.texts[(lang := spoken(package, labelled))][1], lang) for package in corpus
    }
    long = [name for name in final if "\n\n" in str(final[name]["text"])]
    revised = set(rng.sample(long, REVISED))
    first = [package | {"text": str(package["text"]).rpartition("\n\n")[0]} if name in revised else package
             for name, package in final.items()]  # fmt: skip
    first += [event(package, package.texts["en"][1], "en") for package in gone]
    later: list[dict[str, object]] = [final[name] for name in revised]
    later += [final[name] for name in rng.sample(sorted(final.keys() - revised), AGAIN)]
    later += [{"id": package.name, "op": "delete"} for package in gone]
    later.sort(key=lambda package: str(package["id"]))
    rng.shuffle(later)
    return first + later


def spoken(package: Package, labelled: set[str]) -> str:
    """The language of its document; what is drawn and what the queries written by hand ask for is in English."""
    return "en" if package.name in labelled or drawn(package) else language_of(package)


def pairs(packages: Iterable[Package], held_out: Iterable[Package]) -> Iterator[dict[str, str]]:
    """(short, long) across languages, of packages that share neither family nor passage with those held out."""
    held = list(held_out)
    families, texts = {package.family for package in held}, set[str]().union(*map(passages, held))
    seen: set[tuple[str, str]] = set()
    for package in packages:
        if package.family in families or passages(package) & texts:
            continue
        for query, document in sorted(set(asked(package))):
            if (mark := (key(query), key(document))) not in seen:
                seen.add(mark)
                yield {"query": query, "document": document, "group": package.name}


def asked(package: Package) -> Iterator[tuple[str, str]]:
    """Queries for a package, each with the description that answers it: in most the English one.

    The short description in each language; across languages and within one; a sentence; for some, the name.
    """
    rng = random.Random(package.name)  # noqa: S311  # no secret
    brief, english = package.texts["en"]
    if sentences := [
        sentence for sentence in SENTENCE.split(english) if len(sentence) in SENTENCE_LENGTHS and sentence != english
    ]:
        for sentence in rng.sample(sentences, min(SENTENCES, len(sentences))):
            yield sentence, english
    if rng.random() < NAMED:
        yield package.name, english
    for language, (short, long) in package.texts.items():
        if language == "da" and rng.random() > DANISH:
            continue
        yield short, english
        if rng.random() < WITHIN:
            yield short, long
        if rng.random() < ACROSS:
            yield brief, long


def lines(rows: Iterable[object]) -> str:
    """One JSON value per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(available: str, translations: str, target: str) -> None:
    """Write corpus and queries into the package, the pairs to ``target``."""
    packages = read(available, sorted(glob.glob(translations)))  # noqa: PTH207  # as the shell does
    labelled = {name for line in (DATA / "debian-queries.jsonl").read_text().splitlines()
                for name in json.loads(line)["relevant"]}  # fmt: skip
    corpus, gone = choose(packages, labelled)
    if missing := labelled - {package.name for package in corpus}:
        sys.exit(f"labelled and not in the corpus: {sorted(missing)}")
    events = stream(corpus, gone, labelled)
    (DATA / "debian-packages.jsonl.gz").write_bytes(gzip.compress(lines(events).encode(), 9, mtime=0))
    (DATA / "held-out").mkdir(exist_ok=True)
    by_chance = [package for package in corpus if drawn(package)]
    programs = [package for package in corpus if not drawn(package) and spoken(package, labelled) == "en"]
    others = [package for package in corpus if spoken(package, labelled) != "en"]
    asking = {language: (by_chance, language) for language in ASKED_IN}
    asking |= {"programs": (programs, "en"), "other": (others, "en")}
    for name, (about, language) in asking.items():
        rows = [{"id": f"{name}/{package.name}", "query": package.texts[language][0], "relevant": [package.name]}
                for package in about if language in package.texts]  # fmt: skip
        (DATA / "held-out" / f"{name}.jsonl").write_text(lines(rows))
        print(f"{name}: {len(rows)} queries")
    taught = list(pairs(packages, [*corpus, *gone]))
    Path(target).write_text(lines(taught))
    print(f"{len(events)} events, {len(corpus)} documents, {len(taught)} pairs")


if __name__ == "__main__":
    main(*sys.argv[1:])
