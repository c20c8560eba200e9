"""Which relays hold a link to a node that nobody can dial. Pure."""

from collections.abc import Callable, Iterable, Mapping

from mesh.link.live import Link
from mesh.model import NodeId

STANDBY = 2  # so many


def choose_standby(
    held: Iterable[NodeId],
    relays: Iterable[NodeId],
    links: Mapping[NodeId, Link],
    want: Callable[[NodeId], None],
) -> list[NodeId]:
    """The relays to be asked from now on: those that were, while the link is direct, then the nearest.

    `want(node)` is called for relays to which there should be a link first.
    """
    chosen = [node for node in held if node in links and links[node].via is None]
    able = sorted(relays, key=lambda node: (links[node].pulse.rtt_s or 1.0) if node in links else 2.0)
    for node in able[: 2 * STANDBY]:
        if len(chosen) >= STANDBY or node in chosen:
            continue
        if node not in links:
            want(node)
        elif links[node].via is None:
            chosen.append(node)
    return chosen
