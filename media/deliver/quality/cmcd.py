"""Common Media Client Data: what a player says with its requests (CTA-5004, version 1). Pure.

`CMCD=` in the query, or the four header fields. Keys are looked at one by one: what is not known, or
has a value of another type, is passed over, as section 3.2 of the standard wants; only text that is no
list of keys is refused. Never makes a request fail.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from media.deliver.http.request import CMCD_FIELDS, CMCD_QUERY, Request
from media.deliver.quality.digest import address_number, session_number
from media.deliver.quality.model import BUFFER_MAX_MS, THROUGHPUT_MAX_KBPS, Sighting, rendition_untrusted
from media.errors import WireError

TEXT_MAX = 1024  # all keys of version 1 with their longest values, but for a long `nor`, take half of it
KEYS_MAX = 32  # version 1 has nineteen
SESSION_MAX = 64  # characters, CTA-5004 3.2 (sid)
DIGITS_MAX = 12

# One key with its value and the comma behind it; a string may have a comma or an escaped quote in it.
_ITEM = re.compile(
    r'\s*([A-Za-z][A-Za-z0-9.-]{0,63})(?:=(?:"((?:[^"\\]|\\.)*)"|([^",\s]*)))?\s*(,|\Z)', re.ASCII
)

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


class Cmcd(msgspec.Struct, frozen=True):
    """The keys of one request that this program knows. None or empty: not said."""

    sid: str = ""
    sf: str = ""  # d, h, s, o
    st: str = ""  # l: live, v: on demand
    ot: str = ""  # m, a, v, av, i, c, tt, k, o
    v: int = 1
    su: bool = False  # needed for a start, a seek or after a stall
    bs: bool = False  # the buffer ran dry since the request before
    bl: int | None = None  # buffered, ms
    br: int | None = None  # of the object, kb/s
    tb: int | None = None  # of the best rendition, kb/s
    d: int | None = None  # the object's length, ms
    dl: int | None = None  # until it is needed, ms
    mtp: int | None = None  # measured throughput, kb/s
    pr: float = 1.0  # playback rate


def parse_cmcd_untrusted(text: str) -> Cmcd:
    """The keys in a CMCD text, percent-decoded. The last of a key counts. Raises WireError."""
    if len(text) > TEXT_MAX:
        raise WireError(f"CMCD of {len(text)} characters")
    found: dict[str, Any] = {}
    at, count, end = 0, 0, len(text)
    while at < end:
        item = _ITEM.match(text, at)
        if item is None:
            raise WireError("CMCD that is no list of keys")
        count += 1
        if count > KEYS_MAX:
            raise WireError(f"CMCD of more than {KEYS_MAX} keys")
        key, quoted, plain, _ = item.groups()
        reader = _READERS.get(key)
        if reader is not None:
            value = reader(quoted, plain)
            if value is not None:
                found[key] = value
        at = item.end()
    return Cmcd(**found)


def cmcd_text(request: Request) -> str:
    """What a request carries; empty when nothing."""
    fields = request.head.fields
    said = [fields[name].decode("latin-1") for name in CMCD_FIELDS if name in fields]
    if said:
        return ",".join(said)
    # Much cheaper than to take the whole query apart, and most have nothing else in it.
    _, found, after = f"&{request.query_text}".partition(f"&{CMCD_QUERY}=")
    return unquote_plus(after.partition("&")[0], errors="replace") if found else ""


def sighting_of(cmcd: Cmcd, request: Request, rendition: str) -> Sighting:
    """What CMCD says of a viewing by HLS."""
    return Sighting(
        session=session_number(cmcd.sid or f"{request.peer_host} {request.header(b'user-agent')}"),
        address=address_number(request.peer_host),
        transport="hls",
        rendition=rendition_untrusted(rendition),
        requests=1,
        starved=int(cmcd.bs),
        buffer_ms=None if cmcd.bl is None else min(cmcd.bl, BUFFER_MAX_MS),
        throughput_kbps=None if cmcd.mtp is None else min(cmcd.mtp, THROUGHPUT_MAX_KBPS),
    )


def without_cmcd(query: str) -> str:
    """A query as it came, without CMCD."""
    if CMCD_QUERY not in query:
        return query
    return "&".join(pair for pair in query.split("&") if not pair.startswith(f"{CMCD_QUERY}="))


Reader = Callable[[str | None, str | None], object]


def _number(quoted: str | None, plain: str | None) -> int | None:
    if plain is None or len(plain) > DIGITS_MAX or not _DIGITS.fullmatch(plain):
        return None
    return int(plain)


def _decimal(quoted: str | None, plain: str | None) -> float | None:
    if plain is None or len(plain) > DIGITS_MAX or not _DECIMAL.fullmatch(plain):
        return None
    return float(plain)


def _flag(quoted: str | None, plain: str | None) -> bool | None:
    if quoted is None and plain is None:
        return True  # a key alone
    return {"?1": True, "?0": False, "true": True, "false": False}.get(plain or "")


def _word(quoted: str | None, plain: str | None) -> str | None:
    return plain if plain is not None and len(plain) <= 2 else None


def _text(quoted: str | None, plain: str | None) -> str | None:
    # A token where a string belongs is common.
    said = quoted if quoted is not None else plain
    return said if said is not None and 0 < len(said) <= SESSION_MAX else None


_READERS: dict[str, Reader] = {
    **dict.fromkeys(("bl", "br", "d", "dl", "mtp", "tb", "v"), _number),
    **dict.fromkeys(("bs", "su"), _flag),
    **dict.fromkeys(("ot", "sf", "st"), _word),
    "pr": _decimal,
    "sid": _text,
}
