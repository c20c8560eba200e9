"""Numbered objects as bytes of one stream. Pure.

The reader says one START: the number to begin with. The serving side says OPENED with the same number at
once, then objects with consecutive numbers, and IDLE now and then while there is none. Each frame is a kind
(1 byte), a number (8), a length (4), big endian, and so many bytes.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from mesh.errors import WireError

OBJECT_BYTES_MAX = 32 << 20  # ten seconds of the best picture that goes over the internet live
TEXT_BYTES_MAX = 400
NUMBER_MAX = (1 << 63) - 1
_HEADER = struct.Struct("!BQI")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """What a frame says; its number means:"""

    START = 1  # the object to begin with
    OPENED = 2  # the same
    OBJECT = 3  # the object that follows
    GONE = 4  # the oldest object that there still is
    END = 5  # the one that would be next: there is none
    REFUSED = 6  # nothing; the reason follows
    IDLE = 7  # the object that will be next


_LONGEST = {Kind.OBJECT: OBJECT_BYTES_MAX, Kind.REFUSED: TEXT_BYTES_MAX}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. Nobody else holds `data`."""

    kind: Kind
    number: int
    data: bytearray


def pack_frame(kind: Kind, number: int, length: int = 0) -> bytes:
    """The first bytes of a frame."""
    return _HEADER.pack(kind, number, length)


def pack_refusal(reason: str) -> bytes:
    """A whole REFUSED frame."""
    text = reason.encode("utf-8", "replace")[:TEXT_BYTES_MAX]
    return pack_frame(Kind.REFUSED, 0, len(text)) + text


def refusal_of(frame: Frame) -> str:
    """What a REFUSED frame says, fit to be shown."""
    text = frame.data.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def parse_header_untrusted(data: bytes | bytearray) -> tuple[Kind, int, int]:
    """Kind, number and length. Raises WireError."""
    if len(data) != HEADER_BYTES:
        raise WireError(f"{len(data)} bytes are not the head of a frame")
    kind, number, length = _HEADER.unpack(data)
    try:
        known = Kind(kind)
    except ValueError:
        raise WireError(f"frames of kind {kind} are not known") from None
    if number > NUMBER_MAX:
        raise WireError(f"{number} is no number of an object")
    if length > _LONGEST.get(known, 0):
        raise WireError(f"{length} bytes are too many for a frame {known.name}")
    return known, number, length


class FrameReader:
    """Cuts one stream into frames. Bytes are read straight into what becomes a frame's data."""

    __slots__ = ("_at", "_body", "_head", "_kind", "_number")

    def __init__(self) -> None:
        self._head = bytearray(HEADER_BYTES)
        self._body: bytearray | None = None
        self._kind = Kind.IDLE
        self._number = 0
        self._at = 0

    @property
    def object_in_progress(self) -> int | None:
        """The number of the object that has begun to come."""
        return self._number if self._body is not None and self._kind == Kind.OBJECT else None

    def space(self) -> memoryview:
        """Where the next bytes go; at least one fits."""
        return memoryview(self._head if self._body is None else self._body)[self._at :]

    def filled(self, count: int) -> Frame | None:
        """`count` bytes were put into `space`: the frame that they end. Raises WireError."""
        self._at += count
        if self._body is None:
            if self._at < HEADER_BYTES:
                return None
            self._kind, self._number, length = parse_header_untrusted(self._head)
            self._body, self._at = bytearray(length), 0
        if self._at < len(self._body):
            return None
        frame = Frame(self._kind, self._number, self._body)
        self._body, self._at = None, 0
        return frame
