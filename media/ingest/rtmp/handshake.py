"""RTMP handshakes: the simple one of the specification, and Adobe's with HMAC-SHA256 digests. Pure.

RTMP 1.0 5.2. The digest form is unpublished; it is as Flash Player 9, Adobe Media Server and
librtmp do it.
"""

import hmac
from typing import Protocol

from media.errors import WireError

PART_BYTES = 1536  # C1, S1, C2 and S2
_VERSION = 3
_DIGEST_BYTES = 32
_SERVER_VERSION = b"\x04\x05\x00\x01"  # not zero, which would mean that we know no digests
_COMMON = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_PLAYER_KEY = b"Genuine Adobe Flash Player 001"
_SERVER_KEY = b"Genuine Adobe Flash Media Server 001"
_SCHEMES = ((8, 12), (772, 776))  # where the offset's four bytes are, and what the offset counts from


class Randomness(Protocol):
    """Where unpredictable bytes come from; `random.Random` is one."""

    def randbytes(self, n: int, /) -> bytes: ...


class ServerHandshake:
    """Our side as server. Feed it until `done`; `rest` is then what came after the handshake."""

    __slots__ = ("_buffer", "_random", "_replied", "digest", "done", "rest")

    def __init__(self, random: Randomness) -> None:
        self.done = False
        self.rest = b""
        self.digest = False  # the client used the digest form
        self._random = random
        self._buffer = bytearray()
        self._replied = False

    def receive(self, data: bytes) -> bytes:
        """What to send in answer, often nothing. Raises WireError for what is not RTMP."""
        self._buffer += data
        reply = b""
        if not self._replied:
            _check_version(self._buffer[0])
            if len(self._buffer) < 1 + PART_BYTES:
                return b""
            reply = self._reply(bytes(self._buffer[1 : 1 + PART_BYTES]))
            self._replied = True
        end = 1 + 2 * PART_BYTES
        if len(self._buffer) >= end:
            # C2 echoes S1. Clients of some makers get it wrong, and nothing depends on it.
            self.rest = bytes(self._buffer[end:])
            self._buffer.clear()
            self.done = True
        return reply

    def _reply(self, c1: bytes) -> bytes:
        if c1[4:8] != b"\0\0\0\0":
            for scheme in (0, 1):
                digest = find_digest(c1, scheme, _PLAYER_KEY)
                if digest is not None:
                    self.digest = True
                    return self._digest_reply(digest, scheme)
        s1 = b"\0" * 8 + self._random.randbytes(PART_BYTES - 8)
        return bytes((_VERSION,)) + s1 + c1

    def _digest_reply(self, client_digest: bytes, scheme: int) -> bytes:
        s1 = b"\0\0\0\0" + _SERVER_VERSION + self._random.randbytes(PART_BYTES - 8)
        s2 = self._random.randbytes(PART_BYTES - _DIGEST_BYTES)
        key = _hmac(_SERVER_KEY + _COMMON, client_digest)
        return bytes((_VERSION,)) + with_digest(s1, scheme, _SERVER_KEY) + s2 + _hmac(key, s2)


class ClientHandshake:
    """Our side as client, in the simple form. Send `hello` first."""

    __slots__ = ("_buffer", "done", "hello", "rest")

    def __init__(self, random: Randomness) -> None:
        self.hello = bytes((_VERSION,)) + b"\0" * 8 + random.randbytes(PART_BYTES - 8)
        self.done = False
        self.rest = b""
        self._buffer = bytearray()

    def receive(self, data: bytes) -> bytes:
        """What to send in answer, often nothing. Raises WireError for what is not RTMP."""
        self._buffer += data
        _check_version(self._buffer[0])
        end = 1 + 2 * PART_BYTES
        if len(self._buffer) < end:
            return b""
        self.rest = bytes(self._buffer[end:])
        self.done = True
        return bytes(self._buffer[1 : 1 + PART_BYTES])


def find_digest(part: bytes, scheme: int, key: bytes) -> bytes | None:
    """The digest inside C1 or S1 if it is where `scheme` puts it and right for `key`."""
    offset = _digest_offset(part, scheme)
    digest = part[offset : offset + _DIGEST_BYTES]
    expected = _hmac(key, part[:offset] + part[offset + _DIGEST_BYTES :])
    return digest if hmac.compare_digest(digest, expected) else None


def with_digest(part: bytes, scheme: int, key: bytes) -> bytes:
    """C1 or S1 with the digest written where `scheme` puts it."""
    offset = _digest_offset(part, scheme)
    before, after = part[:offset], part[offset + _DIGEST_BYTES :]
    return before + _hmac(key, before + after) + after


def _digest_offset(part: bytes, scheme: int) -> int:
    at, base = _SCHEMES[scheme]
    return sum(part[at : at + 4]) % 728 + base


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _check_version(version: int) -> None:
    if version == _VERSION:
        return
    if version == 6:
        raise WireError("RTMPE (encrypted RTMP) is not spoken here: use rtmp:// or rtmps://")
    if version == 0x16:
        raise WireError("TLS on a port that speaks plain RTMP: use rtmp://, or the rtmps port")
    if version in b"GPHOD":  # GET, POST, HEAD, OPTIONS, DELETE
        raise WireError("HTTP on a port that speaks RTMP")
    raise WireError(f"RTMP version {version}, not {_VERSION}")
