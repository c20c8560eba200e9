"""Who may use the private listener: browsers' origins, host names, passwords and tokens. Pure.

On loopback without a password three things could still hurt: a page of another site that
posts to 127.0.0.1 (refused by Origin and Sec-Fetch-Site), a name that an attacker points
at 127.0.0.1 so that its own page reads the answers (DNS rebinding, refused by Host), and
a body that a form can send (only JSON is taken).
"""

import base64
import binascii
import enum
import hashlib
import hmac
from collections.abc import Mapping

from fwnode.address import is_loopback, parse_address

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
CREDENTIALS_LENGTH_MAX = 1024  # of an Authorization header; longer is no password of ours


class Verdict(enum.Enum):
    """What to do with a request."""

    ALLOWED = "allowed"
    WRONG_HOST = "wrong host"
    CROSS_ORIGIN = "cross origin"
    UNAUTHORIZED = "unauthorized"
    CHECK_PASSWORD = "check password"  # noqa: S105 - costs 50 ms: not on the event loop


class Access:
    """Judges requests. Header names are lower-case; each header's last value counts."""

    def __init__(self, *, needs_password: bool, token: str, memory_key: bytes) -> None:
        """`token` is this start's bearer token; `memory_key` 32 random bytes that never leave the process."""
        self._needs_password = needs_password
        self._token = token.encode()
        self._memory_key = memory_key
        self._accepted: bytes | None = None

    def judge(self, method: str, headers: Mapping[str, str]) -> Verdict:
        """Whether the request may go on."""
        if method not in SAFE_METHODS and _is_cross_origin(headers):
            return Verdict.CROSS_ORIGIN
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(credentials.strip().encode(), self._token):
            return Verdict.ALLOWED
        if not self._needs_password:
            return Verdict.ALLOWED if _is_loopback_host(headers.get("host", "")) else Verdict.WRONG_HOST
        password = password_of(headers)
        if password is None:
            return Verdict.UNAUTHORIZED
        if self._accepted is not None and hmac.compare_digest(self._accepted, self._fast_digest(password)):
            return Verdict.ALLOWED
        return Verdict.CHECK_PASSWORD

    def remember(self, password: str) -> None:
        """This password was verified: the next request with it need not pay for scrypt again."""
        self._accepted = self._fast_digest(password)

    def _fast_digest(self, password: str) -> bytes:
        return hashlib.blake2b(password.encode(), key=self._memory_key, digest_size=32).digest()


def password_of(headers: Mapping[str, str]) -> str | None:
    """The password in HTTP Basic (RFC 7617; any user name) or Bearer credentials, or None."""
    header = headers.get("authorization", "")
    scheme, _, credentials = header.partition(" ")
    if len(header) > CREDENTIALS_LENGTH_MAX:
        return None
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _is_cross_origin(headers: Mapping[str, str]) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _is_loopback_host(header: str) -> bool:
    try:
        return parse_address(header if _has_port(header) else f"{header}:80").loopback
    except ValueError:
        return is_loopback(header)


def _has_port(header: str) -> bool:
    return header.rpartition(":")[2].isdigit() and not header.endswith("]")
