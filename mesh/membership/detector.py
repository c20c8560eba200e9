"""Failure detection on live links: heartbeats, questions when one is late, silence, giving up.

Only who holds a link judges, and only that link. What follows from silence is decided with the subject's
other neighbours, in `mesh.membership.suspicion`.
"""

from enum import Enum
from random import Random

from mesh.membership.message import Beat
from mesh.membership.neighbour import Neighbour
from mesh.membership.outbox import Outbox

BUSY_S = 2.0  # heartbeat on a link that carried a record lately
IDLE_S = 4.0  # and on one that did not: two seconds remain for questions before silence
BUSY_FOR_S = 1.0  # how long a record keeps a link busy: a second record in that time is itself a heartbeat
EARLY_S = 0.5  # a heartbeat due this soon is sent now: one turn for all neighbours instead of one each
LATE_S = 0.1  # allowance for delay before a heartbeat counts as late
PROBE_S = 0.15  # between questions to a late peer
PROBE_SILENT_S = 0.5  # and to one already accused
PROBES_MIN = (
    8  # unanswered questions before silence is believed: one in 500,000 at 10 % loss, one in 3000 at 20
)
SILENT_S = 6.0  # without anything heard
DEAD_S = 12.0  # without anything heard, when nobody else has said so
DEAD_SPREAD_S = 0.5  # so that the last two neighbours of a node do not both speak at once


class Finding(Enum):
    """What looking at a link told."""

    FINE = "fine"
    SILENT = "silent"
    DEAD = "dead"


def look(neighbour: Neighbour, linked: bool, outbox: Outbox, random: Random, now: float) -> Finding:
    """Send what is due on one link and judge it; sets `due`. Each finding is made once for each silence.

    `linked` is false for a neighbour whose link broke: it is timed but cannot be asked.
    """
    if neighbour.probes and now < neighbour.due:
        return Finding.FINE  # questions keep their distance
    interval = BUSY_S if now - neighbour.busy_at < BUSY_FOR_S else IDLE_S
    quiet = now - neighbour.heard
    if quiet < interval + LATE_S:
        if now - neighbour.sent >= interval - EARLY_S:
            _beat(neighbour, False, outbox, now)
        neighbour.due = min(neighbour.sent + interval, neighbour.heard + interval + LATE_S)
        return Finding.FINE
    neighbour.due = now + (PROBE_S if linked and not neighbour.accused else PROBE_SILENT_S)
    if linked:
        _beat(neighbour, True, outbox, now)
        neighbour.probes += 1
    if neighbour.accused < 1 and quiet >= SILENT_S and (neighbour.probes > PROBES_MIN or not linked):
        neighbour.accused = 1
        return Finding.SILENT
    if neighbour.accused < 2 and quiet >= DEAD_S + random.random() * DEAD_SPREAD_S:
        neighbour.accused = 2
        return Finding.DEAD
    return Finding.FINE


def answer(neighbour: Neighbour, outbox: Outbox, now: float) -> None:
    """Reply to a question at once."""
    _beat(neighbour, False, outbox, now)


def _beat(neighbour: Neighbour, ask: bool, outbox: Outbox, now: float) -> None:
    sequence = neighbour.vouch.sequence if neighbour.vouch is not None else 0
    outbox.send(neighbour, Beat(ask, sequence), now)
