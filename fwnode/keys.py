"""Stream keys: who may publish which streams. Pure: randomness and time are given.

A key is `sk_` and 160 random bits in base32, so that it is copied and read aloud without
mistakes and fits where encoders ask for a stream name. Only a digest is kept. One fast
BLAKE2b is enough, unlike for passwords: slow hashes make guessing expensive, and nobody
guesses 160 random bits. A secret key for the hash would lie beside the digests and protect
nothing; the personalisation keeps them apart from any other use of the same text. Digests
are looked up in a dict, then compared in constant time: how long a look-up takes depends on
the digest, which a caller cannot steer without inverting BLAKE2b.

Other nodes of the network are told a digest of the digest and of the node that made the key. Whoever copies
that under its own name has copied nothing: looked for with another maker it is another digest.
"""

import base64
import fnmatch
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable

import msgspec

KEY_PREFIX = "sk_"
KEY_ENTROPY_BYTES = 20  # 160 bits: base32 without padding
KEY_LENGTH_MAX = 256  # longer than any key made here; bounds the hashing of what strangers send
DIGEST_BYTES = 32
ID_BYTES = 5  # of the digest; two keys of one node with one id are a matter of 2^20 keys
MAKER_DIGITS = 16  # of a node's key, in the name of a key made elsewhere
LABEL_LENGTH_MAX = 80  # one line in a table
KEYS_MAX = 10_000  # all are held in memory: a few MB (guess at more than anybody hands out)
SHARED_MAX = 1000  # of one node, that others are told of: they fit its notices whatever their patterns

STREAM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
KEY_ID = re.compile(r"[a-z2-7]{8}")
STREAM_PATTERN = re.compile(r"[a-z0-9*][a-z0-9_*-]{0,62}")
STREAM_NAME_RULE = "1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit"
ANY_STREAM = "*"


class StreamKey(msgspec.Struct, frozen=True):
    """What is kept of a stream key: enough to recognise it, not to make it."""

    id: str  # from the digest; safe to show and log
    digest: bytes  # of a key made elsewhere, `maker_digest`
    pattern: str  # streams it may publish: a name, `*`, or a name with `*` in it
    label: str  # for people
    created_unix_s: int
    last_used_unix_s: int = 0  # on this node; 0: never
    local: bool = False  # other nodes are not told of it
    maker: bytes = b""  # the node that it was made on; empty: this one
    maker_name: str = ""

    @property
    def name(self) -> str:
        """The id, and of a key made elsewhere also where: no other node can make one of that name."""
        return f"{self.id}@{self.maker.hex()[:MAKER_DIGITS]}" if self.maker else self.id

    @property
    def stream(self) -> str:
        """The only stream it may publish, or "" when it may publish several."""
        return "" if "*" in self.pattern else self.pattern

    def allows(self, stream: str) -> bool:
        """Whether it may publish the stream."""
        return fnmatch.fnmatchcase(stream, self.pattern)


def make_key(
    entropy: bytes, pattern: str, label: str, created_unix_s: int, *, local: bool = False
) -> tuple[str, StreamKey]:
    """A new key's text, to be shown once, and what to keep. `entropy` is KEY_ENTROPY_BYTES random bytes.

    Raises ValueError with a sentence when the pattern or label cannot be used.
    """
    if len(entropy) != KEY_ENTROPY_BYTES:
        raise ValueError(f"a key needs {KEY_ENTROPY_BYTES} random bytes")
    if not is_stream_pattern(pattern):
        raise ValueError(
            f"the stream pattern {pattern!r} cannot be used: {STREAM_NAME_RULE}; * stands for anything"
        )
    if len(label) > LABEL_LENGTH_MAX or not label.isprintable():
        raise ValueError(f"the label must be one line of at most {LABEL_LENGTH_MAX} characters")
    text = KEY_PREFIX + base64.b32encode(entropy).decode().lower().rstrip("=")
    digest = digest_key(text)
    return text, StreamKey(_key_id(digest), digest, pattern, label, created_unix_s, local=local)


def digest_key(text: str) -> bytes:
    """The digest that stands for a key's text."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, person=b"fwnode streamkey").digest()


def maker_digest(digest: bytes, maker: bytes) -> bytes:
    """What others are told of a key with this digest that the node `maker` made."""
    return hashlib.blake2b(digest + maker, digest_size=DIGEST_BYTES, person=b"fwnode keymaker").digest()


def looks_like_key(text: str) -> bool:
    """Whether this was meant as a key; such a text is never a stream's name, which is public."""
    return text.startswith(KEY_PREFIX)


def is_stream_name(text: str) -> bool:
    """Whether a stream can have this name."""
    return STREAM_NAME.fullmatch(text) is not None and not looks_like_key(text)


def is_stream_pattern(text: str) -> bool:
    """Whether a key can be for such streams."""
    return STREAM_PATTERN.fullmatch(text) is not None and not looks_like_key(text)


def _key_id(digest: bytes) -> str:
    return base64.b32encode(digest[:ID_BYTES]).decode().lower()


class Keyring:
    """All stream keys in memory, so that publishing needs no disk: this node's and those of other nodes."""

    def __init__(self, keys: Iterable[StreamKey] = ()) -> None:
        self._by_digest = {key.digest: key for key in keys}
        self._used: dict[str, int] = {}
        self._foreign: dict[str, list[StreamKey]] = {}  # by id, which several nodes may use
        self._foreign_used: dict[str, int] = {}  # by name, since this node's start
        self._listeners: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._by_digest)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Be told, synchronously, when this node's own keys changed."""
        self._listeners.append(listener)

    def all(self) -> list[StreamKey]:
        """Every key that was made here, oldest first."""
        return sorted(self._by_digest.values(), key=lambda key: key.created_unix_s)

    def foreign(self) -> list[StreamKey]:
        """Every key of other nodes, oldest first."""
        keys = [self._with_use(key) for same in self._foreign.values() for key in same]
        return sorted(keys, key=lambda key: (key.created_unix_s, key.name))

    def find(self, text: str) -> list[StreamKey]:
        """The keys that an id means, or a name as `StreamKey.name` has it; this node's own before others."""
        own = [key for key in self._by_digest.values() if key.id == text]
        return own or [key for key in self._foreign.get(text[:8], ()) if text in (key.id, key.name)]

    def match(self, text: str) -> StreamKey | None:
        """The key that this text is, or None."""
        if len(text) > KEY_LENGTH_MAX:
            return None
        digest = digest_key(text)
        key = self._by_digest.get(digest)
        if key is not None and hmac.compare_digest(key.digest, digest):
            return key
        for key in self._foreign.get(_key_id(digest), ()):
            if hmac.compare_digest(key.digest, maker_digest(digest, key.maker)):
                return key
        return None

    def add(self, key: StreamKey) -> None:
        """Accept the key, made here, from now on."""
        self._by_digest[key.digest] = key
        self._tell()

    def revoke(self, key_id: str) -> StreamKey | None:
        """Refuse the key, made here, from now on; None when there is no such key."""
        for key in self._by_digest.values():
            if key.id == key_id:
                self._used.pop(key_id, None)
                del self._by_digest[key.digest]
                self._tell()
                return key
        return None

    def set_foreign(self, keys: Iterable[StreamKey]) -> set[str]:
        """Accept these keys of other nodes and no others; the names of those that are accepted no more."""
        before = {key.name for same in self._foreign.values() for key in same}
        self._foreign = {}
        for key in keys:
            self._foreign.setdefault(key.id, []).append(key)
            before.discard(key.name)
        for name in before:
            self._foreign_used.pop(name, None)
        return before

    def mark_used(self, key: StreamKey, unix_s: int) -> None:
        """Remember that somebody published with the key; `take_used` hands it to the database."""
        if key.digest in self._by_digest:
            self._by_digest[key.digest] = msgspec.structs.replace(key, last_used_unix_s=unix_s)
            self._used[key.id] = unix_s
        elif key.maker:
            self._foreign_used[key.name] = unix_s

    def take_used(self) -> dict[str, int]:
        """Key id to the Unix second of its last use, for own keys used since the last call."""
        used, self._used = self._used, {}
        return used

    def _with_use(self, key: StreamKey) -> StreamKey:
        used = self._foreign_used.get(key.name)
        return key if used is None else msgspec.structs.replace(key, last_used_unix_s=used)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
