"""What a webhook's answer means for a session: allowed, denied, or at odds with the header."""

import json

from livepeer_gateway.configuration import (
    Configuration,
    ConfigurationError,
    read_upstream,
)

FRAMEWORKS_REPLY = {
    "manifestID",
    "tenantID",
    "streamID",
    "profiles",
    "workload",
    "deadlineMs",
    "minSpeed",
    "authorizedEdgeNodeID",
    "specDigest",
}


class Denied(Exception):
    """The webhook says no, or says nothing that can be read."""


class Mismatch(Exception):
    """The header's profiles are not the webhook's."""


def judged(status: int, body: bytes) -> Configuration | None:
    """Upstream: an empty 200 allows with defaults (None). Raises Denied."""
    if status != 200:
        raise Denied(f"status={status}")
    if not body:
        return None
    try:
        configuration = read_upstream(body.decode())
    except (ConfigurationError, UnicodeDecodeError) as error:
        raise Denied(str(error)) from None
    if not configuration.manifest_id:
        raise Denied("empty manifest id not allowed")
    return configuration


def judged_strictly(status: int, body: bytes) -> Configuration:
    """FrameWorks: exactly its nine keys. Raises Denied."""
    try:
        keys = json.loads(body).keys() if status == 200 else set()
    except (ValueError, AttributeError) as error:
        raise Denied(str(error)) from None
    if set(keys) != FRAMEWORKS_REPLY:
        raise Denied(f"status={status} keys={sorted(keys)}")
    allowed = judged(status, body)
    assert allowed is not None
    return allowed


def merged(webhook: Configuration | None, header: Configuration | None) -> Configuration:
    """The header in place of the webhook's whole reply, when their profiles agree. Raises Mismatch."""
    if webhook is not None and header is not None and (webhook.profiles or ()) != (header.profiles or ()):
        raise Mismatch("profiles of the header and of the webhook differ")
    return header or webhook or Configuration()
