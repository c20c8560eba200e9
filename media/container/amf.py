"""Action Message Format: the values in RTMP commands and FLV metadata. AMF0 both ways, AMF3 as read.

Values are None (null, undefined), bool, float, str, bytes (AMF3 ByteArray), list (strict and dense
arrays, vectors) and dict with str keys (objects, ECMA arrays, dictionaries). Dates are milliseconds
since 1970 as float. What we write is always AMF0, which every AMF3 peer reads too.

Sources: AMF0 specification (Adobe, 2007), AMF3 specification (Adobe, 2013).
"""

import struct
from typing import TypeAlias

from media.errors import WireError

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"

MAX_DEPTH = 32  # nesting of objects; real metadata nests 3 deep (guess with room)
MAX_VALUES = 16_384  # values in one message; a file's keyframe index pushed as metadata has some thousands
MAX_STRING_BYTES = 65_536  # a short string's natural end; nothing sane sends longer ones

_DOUBLE = struct.Struct(">d")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_OBJECT_END = b"\0\0\x09"


class EcmaArray(dict[str, Value]):
    """A dict to be written with the ECMA array marker, as players expect of onMetaData."""


def decode_untrusted(data: bytes, offset: int = 0) -> list[Value]:
    """All AMF0 values in `data` from `offset` to its end, switching to AMF3 where the data says so.

    Raises WireError for truncated or unknown values and beyond MAX_DEPTH, MAX_VALUES and
    MAX_STRING_BYTES.
    """
    reader = _Reader(data, offset)
    values: list[Value] = []
    while reader.pos < len(data):
        values.append(reader.value(0))
    return values


def encode(*values: Value) -> bytes:
    """The values one after another in AMF0. Raises no error for any Value within the limits of decoding."""
    parts: list[bytes] = []
    for value in values:
        _encode_value(value, parts)
    return b"".join(parts)


def _encode_value(value: Value, parts: list[bytes]) -> None:
    if value is None:
        parts.append(b"\x05")
    elif isinstance(value, bool):
        parts.append(b"\x01\x01" if value else b"\x01\x00")
    elif isinstance(value, int | float):
        parts.append(b"\0" + _DOUBLE.pack(value))
    elif isinstance(value, str):
        _encode_string(value.encode(), parts)
    elif isinstance(value, bytes):
        _encode_string(value, parts)
    elif isinstance(value, dict):
        parts.append(b"\x08" + _U32.pack(len(value)) if isinstance(value, EcmaArray) else b"\x03")
        for key, item in value.items():
            name = key.encode()
            parts.append(_U16.pack(len(name)) + name)
            _encode_value(item, parts)
        parts.append(_OBJECT_END)
    else:
        parts.append(b"\x0a" + _U32.pack(len(value)))
        for item in value:
            _encode_value(item, parts)


def _encode_string(text: bytes, parts: list[bytes]) -> None:
    if len(text) <= 0xFFFF:
        parts.append(b"\x02" + _U16.pack(len(text)) + text)
    else:
        parts.append(b"\x0c" + _U32.pack(len(text)) + text)


class _Reader:
    """Position in one message, and what counts against its limits."""

    __slots__ = ("data", "objects", "pos", "values")

    def __init__(self, data: bytes, pos: int) -> None:
        self.data = data
        self.pos = pos
        self.values = 0
        self.objects = 0  # entries that AMF0's reference table would have

    def take(self, size: int) -> bytes:
        end = self.pos + size
        if end > len(self.data):
            raise WireError("AMF value is cut off")
        piece = self.data[self.pos : end]
        self.pos = end
        return piece

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2))

    def u32(self) -> int:
        return int.from_bytes(self.take(4))

    def double(self) -> float:
        number: float = _DOUBLE.unpack(self.take(8))[0]
        return number

    def text(self, size: int) -> str:
        if size > MAX_STRING_BYTES:
            raise WireError(f"AMF string of {size} bytes, more than {MAX_STRING_BYTES}")
        return self.take(size).decode("utf-8", "replace")

    def count(self, depth: int) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise WireError(f"more than {MAX_VALUES} AMF values in one message")
        if depth > MAX_DEPTH:
            raise WireError(f"AMF values nested more than {MAX_DEPTH} deep")

    def value(self, depth: int) -> Value:
        """One AMF0 value (AMF0 2.2 to 2.18, 3.1)."""
        self.count(depth)
        marker = self.u8()
        match marker:
            case 0x00:
                return self.double()
            case 0x01:
                return self.u8() != 0
            case 0x02:
                return self.text(self.u16())
            case 0x03:
                return self.members({}, depth)
            case 0x05 | 0x06 | 0x0D:  # null, undefined, unsupported
                return None
            case 0x07:
                self.reference(self.u16())
                return None
            case 0x08:
                self.u32()  # the count is a hint: writers give 0 or the wrong number
                return self.members({}, depth)
            case 0x0A:
                return self.strict_array(depth)
            case 0x0B:
                number = self.double()
                self.take(2)  # time zone, reserved
                return number
            case 0x0C | 0x0F:  # long string, XML document
                return self.text(self.u32())
            case 0x10:
                self.text(self.u16())  # class name
                return self.members({}, depth)
            case 0x11:
                return _Amf3Reader(self).value(depth + 1)
            case _:
                raise WireError(f"unknown AMF0 marker {marker:#04x}")

    def members(self, into: dict[str, Value], depth: int) -> Value:
        self.objects += 1
        while True:
            name = self.text(self.u16())
            if not name and self.data[self.pos : self.pos + 1] == b"\x09":
                self.pos += 1
                return into
            into[name] = self.value(depth + 1)

    def strict_array(self, depth: int) -> Value:
        self.objects += 1
        items: list[Value] = []
        for _ in range(self.u32()):  # ends by itself: each value takes at least a byte
            items.append(self.value(depth + 1))
        return items

    def reference(self, index: int) -> None:
        """A reference to an earlier object reads as null (AMF0 2.9).

        No RTMP peer sends an object twice in one command, a loop of references is no tree, and
        a table of references would let a small message stand for a huge one.
        """
        if index >= self.objects:
            raise WireError(f"AMF reference {index} to nothing")


class _Amf3Reader:
    """AMF3 values inside an AMF0 message; reference tables live as long as the value (AMF3 2.2, 4.1)."""

    __slots__ = ("base", "objects", "strings", "traits")

    def __init__(self, base: _Reader) -> None:
        self.base = base
        self.strings: list[str] = []
        self.objects = 0
        self.traits: list[tuple[tuple[str, ...], bool]] = []  # sealed names, dynamic

    def u29(self) -> int:
        number = 0
        for _ in range(3):
            byte = self.base.u8()
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number
        return number << 8 | self.base.u8()

    def value(self, depth: int) -> Value:
        """One AMF3 value (AMF3 3.2 to 3.16)."""
        self.base.count(depth)
        marker = self.base.u8()
        match marker:
            case 0x00 | 0x01:
                return None
            case 0x02 | 0x03:
                return marker == 0x03
            case 0x04:
                number = self.u29()
                return float(number - (1 << 29) if number >= 1 << 28 else number)
            case 0x05:
                return self.base.double()
            case 0x06:
                return self.string()
            case 0x07 | 0x0B:  # XML documents
                size = self.inline()
                return None if size is None else self.base.text(size)
            case 0x08:
                return None if self.inline() is None else self.base.double()
            case 0x09:
                return self.array(depth)
            case 0x0A:
                return self.object(depth)
            case 0x0C:
                size = self.inline()
                return None if size is None else self.base.take(size)
            case 0x0D | 0x0E | 0x0F | 0x10:
                return self.vector(marker, depth)
            case 0x11:
                return self.dictionary(depth)
            case _:
                raise WireError(f"unknown AMF3 marker {marker:#04x}")

    def inline(self) -> int | None:
        """The size or count of a value that is given here; None for a reference, as in AMF0."""
        header = self.u29()
        if header & 1:
            self.objects += 1
            return header >> 1
        if header >> 1 >= self.objects:
            raise WireError("AMF3 reference to nothing")
        return None

    def string(self) -> str:
        header = self.u29()
        if not header & 1:
            if header >> 1 >= len(self.strings):
                raise WireError("AMF3 string reference to nothing")
            return self.strings[header >> 1]
        text = self.base.text(header >> 1)
        if text:
            self.strings.append(text)
        return text

    def array(self, depth: int) -> Value:
        size = self.inline()
        if size is None:
            return None
        named: dict[str, Value] = {}
        while name := self.string():
            named[name] = self.value(depth + 1)
        dense: list[Value] = []
        for _ in range(size):
            dense.append(self.value(depth + 1))
        if not named:
            return dense
        named.update((str(index), item) for index, item in enumerate(dense))
        return named

    def object(self, depth: int) -> Value:
        header = self.u29()
        if not header & 1:
            if header >> 1 >= self.objects:
                raise WireError("AMF3 reference to nothing")
            return None
        self.objects += 1
        names, dynamic = self.read_traits(header)
        members: dict[str, Value] = {name: self.value(depth + 1) for name in names}
        while dynamic and (name := self.string()):
            members[name] = self.value(depth + 1)
        return members

    def read_traits(self, header: int) -> tuple[tuple[str, ...], bool]:
        if not header & 2:
            if header >> 2 >= len(self.traits):
                raise WireError("AMF3 traits reference to nothing")
            return self.traits[header >> 2]
        if header & 4:
            raise WireError("AMF3 externalizable object")  # its form is private to the sender's class
        self.string()  # class name
        sealed = header >> 4
        if sealed > MAX_VALUES:
            raise WireError(f"more than {MAX_VALUES} AMF3 members in one object")
        traits = tuple(self.string() for _ in range(sealed)), bool(header & 8)
        self.traits.append(traits)
        return traits

    def vector(self, marker: int, depth: int) -> Value:
        size = self.inline()
        if size is None:
            return None
        self.base.u8()  # fixed length or not
        if marker == 0x10:
            self.string()  # object type name
            return [self.value(depth + 1) for _ in range(size)]
        width = 8 if marker == 0x0F else 4
        if size > MAX_VALUES:
            raise WireError(f"more than {MAX_VALUES} AMF values in one message")
        form = {0x0D: "i", 0x0E: "I", 0x0F: "d"}[marker]
        return [float(number) for number in struct.unpack(f">{size}{form}", self.base.take(size * width))]

    def dictionary(self, depth: int) -> Value:
        size = self.inline()
        if size is None:
            return None
        self.base.u8()  # weak keys or not
        members: dict[str, Value] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if isinstance(key, list | dict):
                raise WireError("AMF3 dictionary with an object as key")
            members[str(key)] = self.value(depth + 1)
        return members
