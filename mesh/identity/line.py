"""Secrets and invites as one line of letters and digits that people copy, paste and read aloud.

`<prefix><version>` and then base32 (Crockford's alphabet: no i, l, o, u; either case; 1 for i and l, 0 for o)
of a checked length, the content and a checksum. The length comes first and has a check of its own, so that
a line that lost its end is told apart from one with a wrong character. No punctuation: a double click takes
the whole line, and no shell or chat changes it.
"""

import hashlib
import re

from mesh.errors import WireError

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
READ_AS = str.maketrans("ilo", "110")
LENGTH_BYTES = 2
LENGTH_CHECK_BYTES = 1  # one wrong character in the length passes for a cut line 1 time in 256
CHECKSUM_BYTES = 5  # against slips, not against people: what matters inside is signed or encrypted
HEAD_BYTES = LENGTH_BYTES + LENGTH_CHECK_BYTES
CONTENT_BYTES_MAX = 4096  # an invite with every seed and the longest chain has about 3 kB
LINE_CHARACTERS_MAX = 16_384  # twice the longest line, for spaces and line breaks that mail programs add
# What copying adds: blanks, hyphens of line wrapping, quotes, zero-width characters.
NOISE = re.compile("[\\s\\-\"'`<>\u00ad\u200b-\u200d\u2060\ufeff]+")
BITS = 5


def write_line(prefix: str, version: int, content: bytes) -> str:
    """One line that `read_line_untrusted` takes back. `content` has at most CONTENT_BYTES_MAX bytes."""
    assert 0 < len(content) <= CONTENT_BYTES_MAX
    length = len(content).to_bytes(LENGTH_BYTES, "big")
    start = f"{prefix}{version}"
    checksum = _sum(start, length + content, CHECKSUM_BYTES)
    return start + _to_base32(length + _sum(start, length, LENGTH_CHECK_BYTES) + content + checksum)


def read_line_untrusted(prefix: str, version: int, text: str, what: str) -> bytes:
    """The content of a line. Raises WireError that says what is wrong with it, never showing the line.

    `what` is what to call it: "an invite". Blanks, line breaks, hyphens and quotes around or inside are
    skipped.
    """
    if len(text) > LINE_CHARACTERS_MAX:
        raise WireError(f"this is not {what}: it is longer than any")
    line = NOISE.sub("", text).lower()
    start = f"{prefix}{version}"
    if not line.startswith(prefix):
        shown = "it is empty" if not line else f"{what} begins with {start}"
        raise WireError(f"this is not {what}: {shown}")
    if not line.startswith(start):
        raise WireError(_other_version(line.removeprefix(prefix), start, what))
    return _open(line.removeprefix(start).translate(READ_AS), start, what)


def _other_version(rest: str, start: str, what: str) -> str:
    if not rest:
        return f"{what} was cut off after its first characters: copy the whole line"
    if rest[0].isdigit():
        return f"this is {what} of another version of fwnode (this one reads {start}…): update the older"
    return f"{what} was mistyped: it begins with {start}"


def _open(text: str, start: str, what: str) -> bytes:
    data, spare = _from_base32(text, len(start), what)
    length = data[:LENGTH_BYTES]
    if len(data) < HEAD_BYTES:
        raise WireError(f"{what} was cut off: copy the whole line")
    if data[LENGTH_BYTES:HEAD_BYTES] != _sum(start, length, LENGTH_CHECK_BYTES):
        raise WireError(f"{what} was mistyped near its beginning: copy the whole line again")
    whole = HEAD_BYTES + int.from_bytes(length, "big") + CHECKSUM_BYTES
    have, want = len(start) + len(text), len(start) + _characters(whole)
    if have < want:
        raise WireError(f"{what} was cut off after {have} of {want} characters: copy the whole line")
    if have > want:
        raise WireError(f"{what} has {have - want} characters too many at its end: copy only its line")
    content = data[HEAD_BYTES:-CHECKSUM_BYTES]
    if spare or not content or data[-CHECKSUM_BYTES:] != _sum(start, length + content, CHECKSUM_BYTES):
        raise WireError(f"{what} was mistyped: the length is right, a character is wrong; copy it again")
    return content


def _sum(start: str, data: bytes, size: int) -> bytes:
    return hashlib.blake2b(start.encode() + data, digest_size=size, person=b"fwnode line").digest()


def _characters(count: int) -> int:
    return -(-count * 8 // BITS)


def _to_base32(data: bytes) -> str:
    count = _characters(len(data))
    number = int.from_bytes(data, "big") << (count * BITS - len(data) * 8)
    return "".join(ALPHABET[(number >> (BITS * place)) & 31] for place in range(count - 1, -1, -1))


def _from_base32(text: str, skipped: int, what: str) -> tuple[bytes, int]:
    """Whole bytes, and the bits after the last of them."""
    number = 0
    for at, character in enumerate(text, skipped + 1):
        value = ALPHABET.find(character)
        if value < 0:
            raise WireError(f"{what} was mistyped: character {at} ({character!a}) cannot be in one")
        number = number << BITS | value
    spare = len(text) * BITS % 8
    return (number >> spare).to_bytes(len(text) * BITS // 8, "big"), number & ((1 << spare) - 1)
