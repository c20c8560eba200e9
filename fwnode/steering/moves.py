"""The query field that goes with a viewer who is sent on: by whom, so that nobody goes in circles. Pure.

`moved=3f9a1c07.77aa01ff`: the first digits of the keys of the nodes that sent the viewer on. At two it stays
where it is. The field is no secret and protects nobody: a viewer who writes it itself only stays.
"""

from collections.abc import Iterable
from urllib.parse import quote

from mesh.routing.viewers import TRIED_MAX

FIELD = "moved"
CHARACTERS_MAX = 64  # two short keys have a quarter


def movers(value: str | None) -> tuple[str, ...]:
    """Who sent the viewer on, by the first digits of their keys; as many as may when the field is broken."""
    if not value:
        return ()
    parts = tuple(value.split("."))[:TRIED_MAX]
    if len(value) > CHARACTERS_MAX:
        return ("",) * TRIED_MAX
    return parts


def query(kept: Iterable[tuple[str, str]], moved: tuple[str, ...]) -> str:
    """The query of where a viewer is sent: its own fields that matter there, and who sent it."""
    parts = [f"{name}={quote(value, safe='')}" for name, value in kept]
    if moved:
        parts.append(f"{FIELD}={'.'.join(quote(each, safe='') for each in moved)}")
    return "?" + "&".join(parts) if parts else ""
