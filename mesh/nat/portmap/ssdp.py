"""Finds the description of a UPnP gateway (UPnP Device Architecture 1.1, 1.3). Pure."""

import re

from mesh.errors import WireError

GROUP, PORT = "239.255.255.250", 1900
TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",  # some routers answer to nothing else
)
WAIT_S = 1  # MX: within how long they may answer; miniupnpd takes a random part of it
ANSWER_BYTES_MAX = 4096  # in one datagram; a usual one has 400
URL_LENGTH_MAX = 256
LINES_MAX = 64

_LOCATION = re.compile(r"http://(\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?/[!-~]*", re.ASCII)


def encode_search(target: str, host: str = GROUP) -> bytes:
    """Ask everybody, or one host, for `target`."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {host}:{PORT}",
        'MAN: "ssdp:discover"',
        f"MX: {WAIT_S}",
        f"ST: {target}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def parse_answer_untrusted(data: bytes, gateway: str) -> str:
    """The URL of the description of the gateway, which must be on the gateway; raises WireError.

    No other host is asked for mappings: what it would map does not lead to this node.
    """
    if len(data) > ANSWER_BYTES_MAX:
        raise WireError("an SSDP answer that is too long")
    status, *lines = data.decode("latin-1").split("\r\n", LINES_MAX)
    if not re.match(r"HTTP/1\.[01] 200(?: |$)", status):
        raise WireError("no answer to an SSDP search")
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            return _checked_url(value.strip(), gateway)
    raise WireError("an SSDP answer without a location")


def _checked_url(url: str, gateway: str) -> str:
    found = _LOCATION.fullmatch(url) if len(url) <= URL_LENGTH_MAX else None
    if found is None:
        raise WireError("an SSDP location that is no plain URL")
    if found[1] != gateway:
        raise WireError("an SSDP location on another host")
    return url
