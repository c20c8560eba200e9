"""What a load generator must know of HLS playlists, found by byte search. Pure.

Source: RFC 8216bis 4.4.4.9 (EXT-X-PART), 4.4.5.3 (EXT-X-PRELOAD-HINT), 4.4.3.8 (EXT-X-SERVER-CONTROL).
"""

import datetime
import re
from dataclasses import dataclass

_NAME = re.compile(rb"(\d+)\.(\d+)\.[a-z0-9]+$")
_PART = re.compile(rb'^#EXT-X-PART:[^\r\n]*?URI="([^"]+)"', re.MULTILINE)
_MAP = re.compile(rb'^#EXT-X-MAP:URI="([^"]+)"', re.MULTILINE)
_MEDIA = re.compile(rb'^#EXT-X-MEDIA:[^\r\n]*TYPE=AUDIO[^\r\n]*URI="([^"]+)"', re.MULTILINE)
_VARIANT = re.compile(rb"^#EXT-X-STREAM-INF:[^\r\n]*\r?\n([^#\r\n][^\r\n]*)", re.MULTILINE)
_DATE = b"#EXT-X-PROGRAM-DATE-TIME:"
_INF = re.compile(rb"^#EXTINF:([0-9.]+)", re.MULTILINE)
_PART_DURATION = re.compile(rb"^#EXT-X-PART:[^\r\n]*?DURATION=([0-9.]+)", re.MULTILINE)
_SEGMENT = re.compile(rb"^#EXTINF:[^\r\n]*\r?\n(?:#[^\r\n]*\r?\n)*([^#\r\n][^\r\n]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Edge:
    """The live edge of a media playlist: the newest part and where the next one will be."""

    newest: bytes  # URI
    hint: bytes  # URI of the part that does not exist yet
    msn: int  # of the hint
    part: int


def edge(data: bytes) -> Edge | None:
    """The edge, from the last EXT-X-PART and the EXT-X-PRELOAD-HINT; None when either is missing."""
    at = data.rfind(b"#EXT-X-PRELOAD-HINT:")
    hint = _uri(data, at)
    newest = _uri(data, data.rfind(b"#EXT-X-PART:", 0, at)) if at >= 0 else None
    name = _NAME.search(hint) if hint else None
    if hint is None or newest is None or name is None:
        return None
    return Edge(newest, hint, int(name[1]), int(name[2]))


def _uri(data: bytes, at: int) -> bytes | None:
    if at < 0:
        return None
    start = data.find(b'URI="', at)
    end = data.find(b'"', start + 5)
    return data[start + 5 : end] if start >= 0 and end >= 0 else None


def parts(data: bytes) -> list[bytes]:
    """URIs of all parts listed, oldest first."""
    return _PART.findall(data)


def first_independent(data: bytes) -> bytes | None:
    """URI of the oldest part that a decoder can start at."""
    for line in data.splitlines():
        if line.startswith(b"#EXT-X-PART:") and b"INDEPENDENT=YES" in line:
            return _uri(line, 0)
    return None


def segments(data: bytes) -> list[bytes]:
    """URIs of all whole segments listed, oldest first."""
    return _SEGMENT.findall(data)


def init(data: bytes) -> bytes | None:
    found = _MAP.findall(data)
    return found[-1] if found else None


def renditions(data: bytes) -> list[bytes]:
    """URIs of the first variant and of every separate audio rendition of a multivariant playlist."""
    variants = _VARIANT.findall(data)
    return [variant.strip() for variant in variants[:1]] + _MEDIA.findall(data)


def attribute(data: bytes, name: bytes, default: float) -> float:
    """A decimal attribute wherever it first stands: PART-TARGET, PART-HOLD-BACK."""
    found = re.search(rb"[:,]" + re.escape(name) + rb"=([0-9.]+)", data)
    return float(found[1]) if found else default


def edge_time(data: bytes) -> float | None:
    """Unix time of the end of the newest part by the last EXT-X-PROGRAM-DATE-TIME (4.4.4.6)."""
    at = data.rfind(_DATE)
    if at < 0:
        return None
    text = data[at + len(_DATE) :].split(b"\n", 1)[0].strip().decode("ascii", "replace")
    try:
        start = datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
    whole = list(_INF.finditer(data, at))
    last = whole[-1].end() if whole else at
    listed = sum(float(segment[1]) for segment in whole)
    return start + listed + sum(float(part) for part in _PART_DURATION.findall(data, last))


def resolve(base: bytes, uri: bytes) -> bytes:
    """A path for `uri` as found in the playlist at path `base` (no other hosts, no dot segments)."""
    if uri.startswith(b"/"):
        return uri
    return base.partition(b"?")[0].rpartition(b"/")[0] + b"/" + uri
