"""A stream over QUIC on a punched path, beside TLS over TCP where no router is in the way of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from fwbench.bench import Bench, Measure
from fwbench.network.nat_lab import NatField, NatLabError, missing
from fwbench.network.punched import tcp_paths
from fwbench.network.specs import NatFlow
from fwbench.servers import ServerError
from fwbench.summary import Column, Sample, Target

_PACED_MBPS = 5.0
_TLS, _QUIC = "TLS over TCP", "QUIC, punched"
_DIALLED, _PUNCHED = "dialled TCP", "punched TCP"
_KINDS = {_TLS: "public", _QUIC: "port-restricted"}


class QuicRow:
    """Two homes behind a router each, in namespaces, one process on either core.

    The kernel's work for the cables and the routers is done in the sender's calls, and counted with it.
    """

    name = "quic"
    title = "stream from home to home through two routers in namespaces, one process each side"
    sides = (_TLS, _QUIC)
    columns = (
        Column("mb_per_s", "MB/s"),
        Column("send_cpu_per_gb", "sender, CPU s/GB"),
        Column("receive_cpu_per_gb", "receiver, CPU s/GB"),
        Column("send_paced_percent", "sender at 5 Mb/s, % of a core"),
        Column("receive_paced_percent", "receiver at 5 Mb/s, % of a core"),
    )
    targets = (
        Target(_QUIC, "s_per_30_mb", 1.0, "QUIC: seconds for 30 MB"),
        Target(_QUIC, "send_paced_percent", 3.0, "QUIC at 5 Mb/s: sender, % of a core"),
        Target(_QUIC, "receive_paced_percent", 3.0, "QUIC at 5 Mb/s: receiver, % of a core"),
    )

    def missing(self) -> str:
        return missing()

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        with bench.both_cores(), NatField((bench.load_core, bench.server_core)) as field:
            yield lambda side: _one(field, _KINDS[side], bench.seconds)


def _one(field: NatField, kind: str, seconds: float) -> Sample:
    try:
        bulk, paced = field.flows(kind, [NatFlow(seconds, 0.0), NatFlow(seconds, _PACED_MBPS)])
    except NatLabError as error:
        raise ServerError(f"{kind}: {error}") from None
    (sent, took), (sent_paced, took_paced) = bulk, paced
    gb = took["bytes"] / 1e9
    return {
        "mb_per_s": 1000 * gb / took["seconds"],
        "s_per_30_mb": 0.03 * took["seconds"] / gb,
        "send_cpu_per_gb": sent["cpu_s"] / gb,
        "receive_cpu_per_gb": took["cpu_s"] / gb,
        "send_paced_percent": 100 * sent_paced["cpu_s"] / sent_paced["seconds"],
        "receive_paced_percent": 100 * took_paced["cpu_s"] / took_paced["seconds"],
    }


class PunchedTcpRow:
    """The streams between homes that are linked by QUIC go over TCP where both routers let them."""

    name = "tcp-punched"
    title = "TLS over a TCP path opened from both ends through two routers, one process each side"
    sides = (_DIALLED, _PUNCHED)
    columns = (Column("mb_per_s", "MB/s"), Column("open_ms", "until it is open, ms"))
    targets = (Target(_PUNCHED, "s_per_gb", 1.1, "time/GB ÷ dialled TCP", beside=_DIALLED),)

    def missing(self) -> str:
        return missing()

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        with bench.both_cores(), tcp_paths() as stream:

            def one(side: str) -> Sample:
                event = stream(side == _PUNCHED, bench.seconds)
                rate = float(event["megabytes_s"])
                return {"mb_per_s": rate, "s_per_gb": 1000 / rate, "open_ms": 1000 * float(event["open_s"])}

            yield one


ROWS = (QuicRow(), PunchedTcpRow())
