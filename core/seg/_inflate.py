"""Unpack compressed voxels within a known size, and check what the compression knows of them."""

from __future__ import annotations

import zlib

GZIP = 16 + zlib.MAX_WBITS
BLOCK = 1 << 16
MAGIC = b"\x1f\x8b"


def gunzip(packed: bytes, size: int) -> bytes:
    """The first `size` bytes of a gzip file (fewer if it has fewer); all of it is checked against its CRCs.

    Raises:
        ValueError: it is cut short or damaged.
    """
    found: list[bytes] = []
    missing = size
    while packed.startswith(MAGIC):
        stream = zlib.decompressobj(GZIP)
        blocks, packed = _member(stream, packed, missing)
        found += blocks
        missing -= sum(map(len, blocks))
    return found[0] if len(found) == 1 else b"".join(found)


def inflate(packed: bytes, size: int) -> bytes:
    """The first `size` bytes of a zlib stream; all of it is checked against its checksum.

    Raises:
        ValueError: it is cut short or damaged.
    """
    return b"".join(_member(zlib.decompressobj(), packed, size)[0])


def peek(packed: bytes, size: int) -> bytes:
    """The first bytes of a gzip file, at most `size`, unchecked.

    Raises:
        ValueError: it is no gzip file.
    """
    try:
        return zlib.decompressobj(GZIP).decompress(packed, size)
    except zlib.error as error:
        raise ValueError(f"the compressed data is damaged ({error})") from None


def _member(stream: zlib._Decompress, packed: bytes, size: int) -> tuple[list[bytes], bytes]:
    """At most `size` bytes of one stream, and what follows it. Memory stays bounded whatever it claims."""
    found: list[bytes] = []
    missing = size
    try:
        while not stream.eof:
            block = stream.decompress(packed, max(missing, BLOCK))
            packed = stream.unconsumed_tail
            if not block and not packed and not stream.eof:
                raise ValueError("the compressed data is cut short")
            if missing > 0:
                found.append(block[:missing])
                missing -= len(found[-1])
    except zlib.error as error:
        raise ValueError(f"the compressed data is damaged ({error})") from None
    return found, stream.unused_data
