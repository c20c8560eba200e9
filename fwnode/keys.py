"""Stream keys: who may publish which streams. Pure: randomness and time are given.

A key is `sk_` and 160 random bits in base32, so that it is copied and read aloud without
mistakes and fits where encoders ask for a stream name. Only a digest is kept. One fast
BLAKE2b is enough, unlike for passwords: slow hashes make guessing expensive, and nobody
guesses 160 random bits. A secret key for the hash would lie beside the digests and protect
nothing; the personalisation keeps them apart from any other use of the same text. Digests
are looked up in a dict, then compared in constant time: how long a look-up takes depends on
the digest, which a caller cannot steer without inverting BLAKE2b.
"""

import base64
import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterable

import msgspec

KEY_PREFIX = "sk_"
KEY_ENTROPY_BYTES = 20  # 160 bits: base32 without padding
KEY_LENGTH_MAX = 256  # longer than any key made here; bounds the hashing of what strangers send
DIGEST_BYTES = 32
LABEL_LENGTH_MAX = 80  # one line in a table
KEYS_MAX = 10_000  # all are held in memory: a few MB (guess at more than anybody hands out)

STREAM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
STREAM_PATTERN = re.compile(r"[a-z0-9*][a-z0-9_*-]{0,62}")
STREAM_NAME_RULE = "1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit"
ANY_STREAM = "*"


class StreamKey(msgspec.Struct, frozen=True):
    """What is kept of a stream key: enough to recognise it, not to make it."""

    id: str  # from the digest; safe to show and log
    digest: bytes
    pattern: str  # streams it may publish: a name, `*`, or a name with `*` in it
    label: str  # for people
    created_unix_s: int
    last_used_unix_s: int = 0  # 0: never

    @property
    def stream(self) -> str:
        """The only stream it may publish, or "" when it may publish several."""
        return "" if "*" in self.pattern else self.pattern

    def allows(self, stream: str) -> bool:
        """Whether it may publish the stream."""
        return fnmatch.fnmatchcase(stream, self.pattern)


def make_key(entropy: bytes, pattern: str, label: str, created_unix_s: int) -> tuple[str, StreamKey]:
    """A new key's text, to be shown once, and what to keep. `entropy` is KEY_ENTROPY_BYTES random bytes.

    Raises ValueError with a sentence when the pattern or label cannot be used.
    """
    if len(entropy) != KEY_ENTROPY_BYTES:
        raise ValueError(f"a key needs {KEY_ENTROPY_BYTES} random bytes")
    if not STREAM_PATTERN.fullmatch(pattern) or pattern.startswith(KEY_PREFIX):
        raise ValueError(
            f"the stream pattern {pattern!r} cannot be used: {STREAM_NAME_RULE}; * stands for anything"
        )
    if len(label) > LABEL_LENGTH_MAX or not label.isprintable():
        raise ValueError(f"the label must be one line of at most {LABEL_LENGTH_MAX} characters")
    text = KEY_PREFIX + base64.b32encode(entropy).decode().lower().rstrip("=")
    digest = digest_key(text)
    return text, StreamKey(_key_id(digest), digest, pattern, label, created_unix_s)


def digest_key(text: str) -> bytes:
    """The digest that stands for a key's text."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, person=b"fwnode streamkey").digest()


def looks_like_key(text: str) -> bool:
    """Whether this was meant as a key; such a text is never a stream's name, which is public."""
    return text.startswith(KEY_PREFIX)


def is_stream_name(text: str) -> bool:
    """Whether a stream can have this name."""
    return STREAM_NAME.fullmatch(text) is not None and not looks_like_key(text)


def _key_id(digest: bytes) -> str:
    return base64.b32encode(digest[:5]).decode().lower()


class Keyring:
    """All stream keys in memory, so that publishing needs no disk."""

    def __init__(self, keys: Iterable[StreamKey] = ()) -> None:
        self._by_digest = {key.digest: key for key in keys}
        self._used: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def all(self) -> list[StreamKey]:
        """Every key, oldest first."""
        return sorted(self._by_digest.values(), key=lambda key: key.created_unix_s)

    def match(self, text: str) -> StreamKey | None:
        """The key that this text is, or None."""
        if len(text) > KEY_LENGTH_MAX:
            return None
        digest = digest_key(text)
        key = self._by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def add(self, key: StreamKey) -> None:
        """Accept the key from now on."""
        self._by_digest[key.digest] = key

    def revoke(self, key_id: str) -> StreamKey | None:
        """Refuse the key from now on; None when there is no such key."""
        for key in self._by_digest.values():
            if key.id == key_id:
                self._used.pop(key_id, None)
                return self._by_digest.pop(key.digest)
        return None

    def mark_used(self, key: StreamKey, unix_s: int) -> None:
        """Remember that somebody published with the key; `take_used` hands it to the database."""
        if key.digest in self._by_digest:
            self._by_digest[key.digest] = msgspec.structs.replace(key, last_used_unix_s=unix_s)
            self._used[key.id] = unix_s

    def take_used(self) -> dict[str, int]:
        """Key id to the Unix second of its last use, for keys used since the last call."""
        used, self._used = self._used, {}
        return used
