"""What a chain must be, signatures aside: who may say what about whom, and for how long.

Cheap, so it comes before any signature. Every rule makes a statement weaker than the one before it, so that
what the owner signed first bounds all that follows.
"""

from mesh.errors import Refused
from mesh.identity.claim import (
    ADMITS_MAX,
    LINKS_MAX,
    ROLE_BITS,
    Chain,
    Claim,
    Grant,
    Statement,
    to_roles,
)
from mesh.identity.moment import CLOCK_TOLERANCE_S, moment
from mesh.model import Role

INVITER = ROLE_BITS[Role.INVITER]


def check_shape(chain: Chain) -> None:
    """Raise Refused when a statement says more than the one before it allows, or is out of place."""
    if len(chain.links) > LINKS_MAX:
        raise Refused(f"a chain has at most {LINKS_MAX} statements")
    above: Statement | None = None
    claims = 0
    for link in chain.links:
        _check_place(link.statement, above, claims)
        _check_pair(link.statement, above)
        above = link.statement
        claims += isinstance(above, Claim)


def _check_place(statement: Statement, above: Statement | None, claims: int) -> None:
    """Whether the grammar of chains has `statement` after `above`, with `claims` claims so far."""
    if claims > 1:
        raise Refused("only the owner makes inviters: this chain goes through two")
    if isinstance(above, Grant) and isinstance(statement, Grant):
        raise Refused("an invite makes members, not further invites")
    if isinstance(above, Claim) and not above.roles & INVITER:
        raise Refused(f"{above.name!a} admits others without the inviter role")
    if above is not None and statement.holder == above.holder:
        raise Refused("a key admits itself")


def _check_pair(statement: Statement, above: Statement | None) -> None:
    if statement.not_after < statement.not_before:
        raise Refused("it ends before it begins")
    if isinstance(statement, Grant):
        _check_grant(statement, above if isinstance(above, Claim) else None)
    elif isinstance(above, Grant):
        _check_enrolled(statement, above)
    elif isinstance(above, Claim):
        _check_admitted(statement, above)
    elif statement.invites and not statement.roles & INVITER:
        raise Refused("it counts invites without the inviter role")


def _check_grant(grant: Grant, inviter: Claim | None) -> None:
    if grant.members_until < grant.not_after:
        raise Refused("an invite would outlast the membership that it gives")
    if grant.invites and not grant.roles & INVITER:
        raise Refused("an invite counts invites without giving the inviter role")
    if inviter is None:
        if grant.uses * (1 + grant.invites) > ADMITS_MAX:
            raise Refused(f"one invite brings at most {ADMITS_MAX} nodes, those of its inviters included")
        return
    _check_window(grant, inviter, grant.members_until)
    _check_roles(grant.roles, inviter.roles & ~INVITER)
    if grant.uses > inviter.invites:
        raise Refused(f"{inviter.name!a} may admit {inviter.invites} nodes, not {grant.uses}")


def _check_enrolled(claim: Claim, grant: Grant) -> None:
    if not grant.not_before <= claim.not_before <= grant.not_after:
        raise Refused(f"the invite was for joining until {moment(grant.not_after)}")
    if claim.not_after > grant.members_until:
        raise Refused(f"its invite gives membership until {moment(grant.members_until)}, not longer")
    _check_roles(claim.roles, grant.roles)
    if claim.invites != (grant.invites if claim.roles & INVITER else 0):
        raise Refused("it counts other invites than its own invite gives")


def _check_admitted(claim: Claim, inviter: Claim) -> None:
    _check_window(claim, inviter, claim.not_after)
    _check_roles(claim.roles, inviter.roles & ~INVITER)
    if claim.invites:
        raise Refused("only the owner gives invites away")
    if not inviter.invites:
        raise Refused(f"{inviter.name!a} may admit nobody")


def _check_window(statement: Statement, inviter: Claim, until: int) -> None:
    if statement.not_before < inviter.not_before or until > inviter.not_after:
        raise Refused(
            f"{inviter.name!a} is itself a member from {moment(inviter.not_before)} "
            f"until {moment(inviter.not_after)}, and cannot admit for longer"
        )


def _check_roles(given: int, allowed: int) -> None:
    if excess := given & ~allowed:
        names = ", ".join(sorted(to_roles(excess))) or "roles of a newer version"
        raise Refused(f"the role cannot be given here: {names}")


def check_time(claim: Claim, now_unix_s: float) -> str:
    """What to say about the clocks, "" when nothing. Raises Refused outside the claim's time.

    CLOCK_TOLERANCE_S early or late is let through and said: of two nodes one has a wrong clock.
    """
    if now_unix_s < claim.not_before - CLOCK_TOLERANCE_S:
        raise Refused(
            f"its membership begins {moment(claim.not_before)}, and here it is {moment(now_unix_s)}: "
            "set the clock of the node that is wrong"
        )
    if now_unix_s > claim.not_after + CLOCK_TOLERANCE_S:
        raise Refused(f"its membership ended {moment(claim.not_after)}: it must be renewed or invited again")
    if now_unix_s < claim.not_before:
        off_s = claim.not_before - now_unix_s
        return f"its membership begins {off_s:.0f} s from now: one of the two clocks is at least that wrong"
    if now_unix_s > claim.not_after:
        return f"its membership ended {moment(claim.not_after)}: let in within the tolerance for clocks"
    return ""
