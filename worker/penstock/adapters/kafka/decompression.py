"""The codecs of record batches, with a bound on what comes out: a few kilobytes may stand for a gigabyte of zeros."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

import lz4.frame
import snappy
import zstandard

MOST_BYTES = 64 << 20
"""Of a batch when it is unpacked. Producers gather some hundred kilobytes."""

PIECE = 1 << 21
XERIAL = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16
GZIP = 16 + zlib.MAX_WBITS
MORE = 0x80
"""The bit of a byte of a length that says that another follows."""

Bytes = bytes | memoryview


class TooLarge(ValueError):
    """More would come out than is allowed."""

    def __init__(self) -> None:
        super().__init__(f"a batch of records is larger than {MOST_BYTES} bytes when it is unpacked")


def _joined(pieces: Iterator[bytes]) -> bytes:
    unpacked = bytearray()
    for piece in pieces:
        unpacked += piece
        if len(unpacked) > MOST_BYTES:
            raise TooLarge
    return bytes(unpacked)


def gzip_decode(data: Bytes) -> bytes:
    """Of one or several gzip members."""
    return _joined(_gzip(bytes(data)))


def _gzip(left: bytes) -> Iterator[bytes]:
    while left:
        member = zlib.decompressobj(GZIP)
        yield member.decompress(left, PIECE)
        while not member.eof:
            if not (piece := member.decompress(member.unconsumed_tail, PIECE)) and not member.unconsumed_tail:
                raise ValueError("the gzip stream ends too soon")
            yield piece
        left = member.unused_data


def lz4_decode(data: Bytes) -> bytes:
    """Of an LZ4 frame."""
    return _joined(_lz4(bytes(data)))


def _lz4(data: bytes) -> Iterator[bytes]:
    frame = lz4.frame.LZ4FrameDecompressor()
    yield frame.decompress(data, PIECE)
    while not frame.eof:
        if not (piece := frame.decompress(b"", PIECE)):
            raise ValueError("the LZ4 frame ends too soon")
        yield piece


def zstd_decode(data: Bytes) -> bytes:
    """Of one or several zstd frames."""
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(bytes(data)), read_across_frames=True) as reader:
        return _joined(iter(lambda: reader.read(PIECE), b""))


def snappy_decode(data: Bytes) -> bytes:
    """Of a raw block, or of blocks as the Java client frames them (xerial)."""
    data = bytes(data)
    if not data.startswith(XERIAL):
        return _snappy_block(data)
    return _joined(_xerial(data))


def _xerial(data: bytes) -> Iterator[bytes]:
    at = XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = struct.unpack_from("!i", data, at)
        at += 4
        yield _snappy_block(data[at : at + length])
        at += length


def _snappy_block(block: bytes) -> bytes:
    """A block begins with the length of what it holds, seven bits a byte."""
    at = length = shift = 0
    while block[at] & MORE:
        length |= (block[at] & ~MORE) << shift
        at, shift = at + 1, shift + 7
    length |= block[at] << shift
    if length > MOST_BYTES:
        raise TooLarge
    unpacked: bytes = snappy.decompress(block)
    return unpacked


DECODERS: Mapping[str, Callable[[Bytes], bytes]] = {
    "gzip_decode": gzip_decode,
    "snappy_decode": snappy_decode,
    "lz4_decode": lz4_decode,
    "zstd_decode": zstd_decode,
}
"""By the names that the client has for them."""
