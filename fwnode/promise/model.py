"""What is said of the promise: to those who are turned away, to people, to programs. Pure."""

from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from fwnode.promise.holds import Role

Described = msgspec.Meta
RETRY_S = 10  # after which a viewer that is turned away may ask again: viewers come and go all the time
RETRY_MAX_S = 3600  # the longest that is said: the operator may change his mind


class Why(StrEnum):
    """Why nobody new is let in."""

    DRAINING = "draining"
    PAUSED = "paused"
    QUIET = "quiet"
    VOLUME = "volume"
    STREAM = "stream"
    UPLINK = "uplink"


class Refusal(msgspec.Struct, frozen=True):
    """Why somebody is turned away, in a sentence, and when to ask again."""

    why: Why
    text: str
    retry_s: int = RETRY_S


class Door(Protocol):
    """Who may watch here, asked before a viewer is let in."""

    def may_admit(self, stream: str, session: str = "") -> str:
        """Why a viewer would be turned away now, "" when it would be let in. Nothing is changed by asking."""
        ...


class MonthView(msgspec.Struct, frozen=True):
    """What was sent in one month of local time."""

    month: str
    sent_bytes: int


class PromiseView(msgspec.Struct, frozen=True):
    """What the owner promised, what of it is used, and who is let in."""

    state: Annotated[
        str,
        Described(description="open, or why nobody new is let in: draining, paused, quiet, volume."),
    ]
    reason: Annotated[str, Described(description="The same as a sentence; empty when open.")]
    drain: Annotated[
        dict[Role, float],
        Described(description="Who is drained, until which Unix second; 0: until it is resumed."),
    ]
    paused_until_unix_s: Annotated[
        float | None, Described(description="0: until it is resumed; null: not paused.")
    ]
    budget_bps: Annotated[int, Described(description="Of the uplink, in force now; 0: no limit set.")]
    sent_bps: Annotated[int, Described(description="All that left, as a mean over 10 s.")]
    taken_bps: Annotated[int, Described(description="What is sent, or was promised to viewers and edges.")]
    observed_bps: Annotated[
        int, Described(description="The most that was ever sent over 10 s: the line has that much at least.")
    ]
    month: str
    month_bytes: Annotated[int, Described(description="Sent in this month of local time.")]
    month_limit_bytes: Annotated[int, Described(description="0: no limit set.")]
    months: Annotated[list[MonthView], Described(description="Months that are remembered, the latest first.")]
    quiet: Annotated[str, Described(description="Quiet hours in local time; empty: none.")]
    streams: Annotated[
        list[str], Described(description="Patterns of other nodes' streams that are served; none: all.")
    ]
    refused: Annotated[dict[str, int], Described(description="Viewers and nodes turned away, by reason.")]
    viewers: int
    publishers: int
    edges: int
