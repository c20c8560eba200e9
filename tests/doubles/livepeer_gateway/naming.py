"""What a pushed segment's URL says: manifest ID, sequence number, container.

Kept with the quirks of go-livepeer 0.9.1 `server/mediaserver.go` (`StreamPrefix`, `parseManifestID`).
"""

import posixpath
import re
from dataclasses import dataclass

# The second alternative is not anchored there, so that every "live/" is cut out, also inside a name.
_PREFIX = re.compile(r"^[ /]*(stream/)?|(live/)?")
_SEQUENCE_MAX = 2**64 - 1  # ParseUint(..., 64)
_DIGITS = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a segment goes. `manifest_id` may be empty; `extension` has its dot."""

    manifest_id: str
    sequence: int
    extension: str


def target_of(path: str) -> Target:
    """A request path, without query, as the gateway reads it. Never fails: bad numbers are segment 0."""
    extension = extension_of(path)
    rest = _PREFIX.sub("", path.removesuffix(extension))
    return Target(rest.split("/", 1)[0], _sequence_of(path, extension), extension)


def extension_of(path: str) -> str:
    """Go's path.Ext: from the last dot of the last element."""
    last = path.rpartition("/")[2]
    return "." + last.rpartition(".")[2] if "." in last else ""


def _sequence_of(path: str, extension: str) -> int:
    digits = posixpath.basename(path).removesuffix(extension)
    if not _DIGITS.fullmatch(digits) or len(digits) > 40:
        return 0
    number = int(digits)
    return number if number <= _SEQUENCE_MAX else 0


def clean_path(path: str) -> str:
    """The path as Go's ServeMux wants it; a request with another one is redirected there."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def atoi(text: str, otherwise: int) -> int:
    """Go's strconv.Atoi, with a default for what it refuses."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text, re.ASCII):
        return otherwise
    number = int(text)
    return number if -(2**63) <= number < 2**63 else otherwise
