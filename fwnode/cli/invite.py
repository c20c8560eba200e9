"""`fwnode invite`."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.network import ask, parse_roles, passphrase, read_line
from fwnode.cli.output import Json, duration, print_json
from fwnode.cli.settings import DataDir
from fwnode.errors import UsageError
from mesh.model import Role

if TYPE_CHECKING:
    from fwnode.admin.views import InviteRequest
    from fwnode.network import Network

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
ADMITS = 10  # nodes that a new inviter may admit, when nothing else was said

Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="ROLE",
        help="What new nodes may be: origin, edge, relay, transcode, inviter; repeatable. "
        "[default: all but inviter]",
    ),
]
ExportOwner = Annotated[
    bool,
    typer.Option(
        "--export-owner",
        help="No invite: show the network's owner key, encrypted with a passphrase, as a backup. "
        "[env: FWNODE_OWNER_PASSPHRASE]",
    ),
]
ImportOwner = Annotated[
    str | None,
    typer.Option(
        "--import-owner",
        metavar="LINE",
        help="No invite: make this the owner's node with an exported key; - reads standard input.",
    ),
]


def invite(
    role: Roles = None,
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="Nodes that may join with it.")] = 1,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it is good for: 30m, 24h, 7d.")
    ] = "24h",
    admits: Annotated[
        int | None,
        typer.Option(
            "--admits",
            metavar="N",
            help=f"With --role inviter: nodes that each new one may admit itself. [default: {ADMITS}]",
        ),
    ] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option(
            "--seed", metavar="ADDR", help="Node that they try first; repeatable. [default: this node]"
        ),
    ] = None,
    export_owner: ExportOwner = False,
    import_owner: ImportOwner = None,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Make an invite: one line with which another machine joins. The first one makes the network."""
    if export_owner and import_owner is not None:
        raise UsageError("--export-owner or --import-owner, not both")
    if export_owner:
        _export_owner(data_dir, admin, json)
        return
    if import_owner is not None:
        _import_owner(read_line(import_owner), data_dir, admin, json)
        return
    request = _request(parse_roles(role), uses, parse_duration(expires), admits, seed or [])
    answer, _ = ask(
        "POST",
        "/network/invites",
        request,
        data_dir,
        admin,
        lambda network: _make(network, request),
    )
    if json:
        print_json(answer)
        return
    typer.echo(answer["invite"])
    typer.echo(_about(answer, request.expires_s), err=True)


def parse_duration(text: str) -> int:
    """Seconds in "90s", "30m", "24h" or "7d". Raises UsageError."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*([smhd])\s*", text.lower())
    if found is None:
        raise UsageError(f"--expires {text}: write a number and s, m, h or d, like 30m, 24h or 7d")
    return int(found[1]) * SECONDS[found[2]]


def _request(
    roles: list[Role] | None, uses: int, expires_s: int, admits: int | None, seeds: list[str]
) -> "InviteRequest":
    """The API's request. Raises UsageError in the words of the options, where the API would in its own."""
    from fwnode.admin.views import USUAL_ROLES, InviteRequest
    from mesh.identity.claim import USES_MAX
    from mesh.identity.invite import EXPIRES_S_MAX, EXPIRES_S_MIN, SEEDS_MAX, is_address

    if admits is None:
        admits = ADMITS if roles and Role.INVITER in roles else 0
    if not 1 <= uses <= USES_MAX:
        raise UsageError(f"--uses {uses}: an invite is for 1 to {USES_MAX} nodes")
    if not 0 <= admits <= USES_MAX:
        raise UsageError(f"--admits {admits}: an inviter admits 0 to {USES_MAX} nodes")
    if not EXPIRES_S_MIN <= expires_s <= EXPIRES_S_MAX:
        raise UsageError(f"--expires: an invite is good for 1m to {EXPIRES_S_MAX // SECONDS['d']}d")
    if len(seeds) > SEEDS_MAX:
        raise UsageError(f"--seed: an invite holds at most {SEEDS_MAX}")
    for seed in seeds:
        if not is_address(seed):
            raise UsageError(f"--seed {seed}: write HOST:PORT, like vps.example:7077 or 203.0.113.7:7077")
    return InviteRequest(tuple(roles or USUAL_ROLES), uses, expires_s, admits, seeds)


def _make(network: "Network", request: "InviteRequest") -> object:
    from fwnode.admin.views import invite_view, terms_of

    return invite_view(network.invite(terms_of(request), request.seeds).carry_out())


def _about(answer: dict[str, Any], expires_s: int) -> str:
    who = "One machine" if answer["uses"] == 1 else f"{answer['uses']} machines"
    text = (
        f"{who} can join network {answer['network'][:8]} with it for {duration(expires_s)}: "
        "`fwnode join LINE` there. Keep it secret until then."
    )
    if not answer["seeds"]:
        text += (
            "\nIt holds no address, as the mesh has no fixed port here: only machines on this LAN find the "
            "network with it. --seed HOST:PORT gives it one."
        )
    return text


def _export_owner(data_dir: str | None, admin: str | None, json: bool) -> None:
    from fwnode.admin import views

    secret = passphrase(new=True)
    answer, _ = ask(
        "POST",
        "/network/owner-export",
        {"passphrase": secret},
        data_dir,
        admin,
        lambda network: views.OwnerExport(network.export_owner(secret)),
        makes=False,
    )
    if json:
        print_json({"owner": answer["line"]})
        return
    typer.echo(answer["line"])
    typer.echo(
        "Whoever has this line and the passphrase owns the network: keep both, in two safe places.", err=True
    )


def _import_owner(line: str, data_dir: str | None, admin: str | None, json: bool) -> None:
    from fwnode.admin import views

    secret = passphrase(new=False)
    answer, _ = ask(
        "POST",
        "/network/owner-import",
        {"line": line, "passphrase": secret},
        data_dir,
        admin,
        lambda network: views.OwnedNetwork(network.import_owner(line, secret).carry_out().hex()),
    )
    if json:
        print_json(answer)
    else:
        typer.echo(f"This node has the owner key of network {answer['network'][:8]} now.")
