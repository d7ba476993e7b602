"""What bytes are that were meant to be text in UTF-8, told by how they begin."""

from collections.abc import Mapping

BOM = b"\xef\xbb\xbf"
"""Says that what follows is UTF-8; Windows puts it before what it saves."""

COMPRESSED: Mapping[bytes, str] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\0\0sNaPpY": "snappy",
    b"\x82SNAPPY\0": "snappy",
    b"\x78\x01": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
}
OTHER_FILES: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive or an office document",
    b"PAR1": "Parquet",
    b"Obj\x01": "an Avro file",
    b"%PDF": "a PDF",
    b"\xac\xed\0\x05": "a serialized Java object",
    b"SQLite format 3": "a SQLite file",
}
ENCODINGS: Mapping[bytes, str] = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
NOT_UTF8 = "not UTF-8 (byte {:#04x}); Latin-1 or Windows-1252? Save it as UTF-8"

LOOKED_AT_IN_TEXT = 512
"""Bytes at the beginning of a file that show whether it is text."""

LOOKED_AT = 8
"""Bytes at the beginning that show UTF-16 where nothing says so."""


def without_bom(value: bytes) -> bytes:
    """The text without the mark, which is harmless."""
    return value.removeprefix(BOM)


def decoded(value: bytes) -> str:
    """The text, without the mark; raises ValueError that says what it is instead, or which line, and what to do."""
    refuse_foreign(value[:LOOKED_AT_IN_TEXT])
    value = without_bom(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        line, byte = value.count(b"\n", 0, error.start) + 1, value[error.start]
        raise ValueError(f"line {line}: {NOT_UTF8.format(byte)}") from None


def refuse_foreign(begin: bytes) -> None:
    """Raises ValueError where what begins so is known for something else than text, though text may begin likewise."""
    if not _readable(begin) and (told := foreign(begin)):
        raise ValueError(f"it is {told}")


def _readable(begin: bytes) -> bool:
    """Whether it is UTF-8, but for a letter that is cut at its end, without what no text holds."""
    try:
        text = without_bom(begin).decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return False
        text = without_bom(begin)[: error.start].decode()
    return all(letter.isprintable() or letter.isspace() for letter in text if letter < "\x80")


def compression(value: bytes) -> str | None:
    """How it is compressed, if it is."""
    return _first(COMPRESSED, value)


def foreign(value: bytes) -> str | None:
    """What it is instead of text in UTF-8, where that shows, and what to do: ends a sentence that begins "it is"."""
    if name := compression(value):
        return f"compressed ({name}): unpack it first"
    if encoding := _first(ENCODINGS, value) or _wide(value[:LOOKED_AT]):
        return f"in {encoding}: write UTF-8"
    return _first(OTHER_FILES, value)


def _first(beginnings: Mapping[bytes, str], value: bytes) -> str | None:
    return next((name for begin, name in beginnings.items() if value.startswith(begin)), None)


def _wide(begin: bytes) -> str | None:
    """Latin text in UTF-16 has a zero in every other place."""
    halves = begin[::2], begin[1::2]
    for zeros, letters in (halves, halves[::-1]):
        if len(letters) > 1 and not any(zeros) and all(letters):
            return "UTF-16"
    return None
