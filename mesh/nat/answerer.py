"""Answers STUN Binding requests of anybody, so that the mesh needs no STUN server of others. Pure.

It cannot be used against a third party to any gain: answers are at most twice as long as what they answer,
few for each address, and bounded in all. Only addresses that may be answered are remembered.
"""

from dataclasses import dataclass

from mesh.address import group_of, host_of, numeric_address
from mesh.errors import WireError
from mesh.nat.stun import (
    BINDING,
    Kind,
    encode_binding_success,
    encode_error,
    parse_stun_untrusted,
)

PER_S = 10.0  # answers to one IPv4 address, or one IPv6 network of 64 bits
BURST = 10  # of these at once: a survey sends five or fewer
TOTAL_PER_S = 1000.0  # answers to everybody; at 30 us each, 3 % of a core
TOTAL_BURST = 1000
ADDRESSES_MAX = 4096  # remembered: who was answered in the last BURST / PER_S seconds, at most 2000

UNKNOWN_ATTRIBUTE = 420  # RFC 8489 14.8


@dataclass(slots=True)
class AnswererCounters:
    """What became of datagrams given to an answerer."""

    answered: int = 0
    refused: int = 0  # with an error answer, for an attribute that is not known here
    too_fast: int = 0  # more than an address may, or everybody together
    too_short: int = 0  # the shortest answer would exceed twice the request
    ignored: int = 0  # not a STUN message, or none that wants an answer from here


class StunAnswerer:
    """A STUN server of one node, for all its sockets. `now` is monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.counters = AnswererCounters()
        self._spent: dict[str, tuple[float, float]] = {}  # group: answers not yet forgiven, and when
        self._left = float(TOTAL_BURST)
        self._at = now

    def answer(self, data: bytes | memoryview, source: str, now: float) -> bytes | None:
        """What to send back to `source`, a numeric "host:port", from the socket that `data` came on."""
        source = numeric_address(source)
        try:
            request = parse_stun_untrusted(data)
        except WireError:
            request = None
        if not source or request is None or request.kind is not Kind.REQUEST or request.method != BINDING:
            self.counters.ignored += 1
            return None
        if not self._may(group_of(host_of(source)), now):
            self.counters.too_fast += 1
            return None
        if request.unknown:
            self.counters.refused += 1
            return encode_error(request, UNKNOWN_ATTRIBUTE, "Unknown Attribute", request.unknown)
        answer = encode_binding_success(request, source)
        self.counters.answered += answer is not None
        self.counters.too_short += answer is None
        return answer

    def _may(self, group: str, now: float) -> bool:
        """Count one answer, if there may be one."""
        self._left = min(TOTAL_BURST, self._left + (now - self._at) * TOTAL_PER_S)
        self._at = now
        spent, at = self._spent.get(group, (0.0, now))
        spent = max(0.0, spent - (now - at) * PER_S)
        if self._left < 1 or spent + 1 > BURST:
            return False
        self._left -= 1
        self._spent.pop(group, None)
        self._forget(now)
        self._spent[group] = (spent + 1, now)
        return True

    def _forget(self, now: float) -> None:
        """Drop, of those heard longest ago, who owes nothing, and make room."""
        while self._spent:
            oldest = next(iter(self._spent))
            spent, at = self._spent[oldest]
            if len(self._spent) < ADDRESSES_MAX and spent > (now - at) * PER_S:
                return
            del self._spent[oldest]
