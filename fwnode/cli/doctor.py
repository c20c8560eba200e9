"""`fwnode doctor`."""

import time
from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.network import printable
from fwnode.cli.output import Json, duration, print_json
from fwnode.cli.settings import DataDir
from fwnode.errors import NodeError

EXIT_FINE, EXIT_NEEDS_A_HAND = 0, 1
YOUNG_S = 30.0  # a node that runs for less may still look for others
NOT_KNOWN_YET = "a path was not looked for yet; it is, once a minute"
PORTMAP_OFF = {"off": "Not asked for", "asking": "The router has said nothing yet", "refused": "None"}


def doctor(
    opinion: Annotated[
        bool, typer.Option("--opinion/--no-opinion", help="Ask pystun3, too; it takes some seconds.")
    ] = True,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> int:
    """Say what the router before this node does, what that allows, and what would help.

    Ends with 0 when all is well and 1 when something needs a hand.
    """
    node = control.find(data_dir, admin)
    status, network, peers = node.get("/status"), node.get("/network"), node.get("/peers")["peers"]
    second = _second_opinion(node, network) if opinion else {"trouble": "not asked for"}
    faults = needs(status, network, peers)
    if json:
        print_json(
            {"fine": not faults, "needs": faults, "network": network, "peers": peers, "pystun3": second}
        )
    else:
        for line in report(status, network, peers, second, time.time()):
            typer.echo(printable(line))
        typer.echo()
        for fault in faults:
            typer.echo(printable(f"Needs a hand: {fault}"))
        if not faults:
            typer.echo("Nothing needs a hand.")
    return EXIT_NEEDS_A_HAND if faults else EXIT_FINE


def _second_opinion(node: control.Control, network: dict[str, Any]) -> dict[str, Any]:
    """What pystun3 found, or {"trouble": why not}."""
    if not network["nat"]["servers"]:
        return {"trouble": "no public member to ask"}
    try:
        found: dict[str, Any] = node.request("POST", "/network/second-opinion")
    except NodeError as error:
        return {"trouble": str(error)}
    return found


def needs(status: dict[str, Any], network: dict[str, Any], peers: list[dict[str, Any]]) -> list[str]:
    """What an operator should look at, one sentence each; none when all is well."""
    if not network["network"]:
        return []
    if "mesh" not in status["listeners"]:
        return ["the node is in a network and takes no part in it: the setting mesh is off"]
    nat, found = network["nat"], []
    others = [peer for peer in peers if peer["state"] != "self"]
    settled = status["uptime_s"] >= YOUNG_S
    if settled and not network["links"] and (others or network["seeds"]):
        found.append("no other node is reached: `fwnode peers` shows who refused, and why")
    if not nat["udp"]:
        found.append("another program has the mesh port for UDP: no path through NAT can be made")
    if nat["kind"] in ("blocked", "impenetrable") and nat["portmap"]["state"] != "mapped":
        found.append(f"the router is {nat['kind']}: {nat['words'][-1].removeprefix('What would help: ')}")
    if settled:
        for peer in others:
            if relayed(peer):
                reason = peer["why_relayed"] or NOT_KNOWN_YET
                found.append(f"no direct path to {peer['name']}, {peer['path']}: {reason}")
    return found


def report(
    status: dict[str, Any],
    network: dict[str, Any],
    peers: list[dict[str, Any]],
    second: dict[str, Any],
    now: float,
) -> list[str]:
    """All that is known, in words."""
    if not network["network"]:
        return ["This node is in no network: `fwnode invite` makes one, `fwnode join` enters one."]
    if "mesh" not in status["listeners"]:
        return []
    nat = network["nat"]
    lines = ["Router", *_indented(nat["words"])]
    if nat["tcp"]:
        lines += _indented([f"Others can{'' if nat['tcp'] == 'open' else 'not'} connect to it over TCP."])
    lines += ["Port mapping", *_indented(_portmap(nat))]
    lines += ["Second opinion (pystun3)", *_indented([_opinion(second)])]
    lines += ["Paths", *_indented(_paths(peers, now))]
    return lines


def relayed(peer: dict[str, Any]) -> bool:
    """Whether a peer is reached over another node."""
    return str(peer["path"]).startswith("relayed")


def _portmap(nat: dict[str, Any]) -> list[str]:
    portmap = nat["portmap"]
    said = [_sentence(portmap["said"])] if portmap["said"] else []
    match portmap["state"]:
        case "mapped":
            until = f", renewed every {duration(portmap['lease_s'] / 2)}" if portmap["lease_s"] else ""
            where = f"{portmap['external']} by {portmap['protocol']} at {portmap['gateway']}{until}."
            return [f"Others are told {where}", *said]
        case "unusable":
            where = f"{portmap['external']} by {portmap['protocol']} at {portmap['gateway']}"
            return [f"{where}: of no use outside, there is another router behind that one.", *said]
        case "asking" if nat["mapping"] == "none":
            return ["Not needed: this node has a public address."]
        case state:
            return [f"{PORTMAP_OFF.get(state, 'None')}.", *said]


def _opinion(second: dict[str, Any]) -> str:
    if "trouble" in second:
        return f"None: {second['trouble'].removesuffix('.')}."
    mapped = f", seen at {second['mapped']}" if second["mapped"] else ""
    return f"{_sentence(second['said'])[:-1]}{mapped}; asked {' and '.join(second['servers'])}."


def _paths(peers: list[dict[str, Any]], now: float) -> list[str]:
    linked = [peer for peer in peers if peer["state"] == "connected"]
    if not linked:
        return ["No other node is linked."]
    lines = []
    for peer in linked:
        for_ = duration(max(0.0, now - peer["path_since_unix_s"]))
        why = f": {peer['why_relayed'] or NOT_KNOWN_YET}" if relayed(peer) else ""
        loss = f", {peer['loss']:.0%} of pings lost" if peer["loss"] else ""
        lines.append(f"{peer['name']} {peer['path']} for {for_}{loss}{why}")
    return lines


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
