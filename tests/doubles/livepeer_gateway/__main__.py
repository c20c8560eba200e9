"""Run the double: `python tests/doubles/livepeer_gateway --help`, from a checkout."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

# Run as a folder: its modules must not shadow the library's, and its package must be found.
_FOLDER = Path(__file__).resolve().parent
sys.path = [str(_FOLDER.parent), *(entry for entry in sys.path if entry != str(_FOLDER))]

import trio  # noqa: E402 - after the lines above

from livepeer_gateway import faults  # noqa: E402 - after the lines above
from livepeer_gateway.checks import BODY_BYTES_MAX, DIALECTS  # noqa: E402 - after the lines above
from livepeer_gateway.options import WORK, Options  # noqa: E402 - after the lines above
from livepeer_gateway.server import GatewayServer  # noqa: E402 - after the lines above


def main() -> None:
    given = _arguments()
    planned = [faults.parse(text) for text in given.pop("fault")]
    given["http_ingest"] = not given.pop("no_http_ingest")
    trio.run(_serve, Options(**given), planned)


async def _serve(options: Options, planned: list[faults.Fault]) -> None:
    server = GatewayServer(options)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            server.gateway.faults.faults = planned
            print(json.dumps({"url": server.url, "control": server.control_url}), flush=True)
            await anext(signals)
            nursery.cancel_scope.cancel()


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="livepeer_gateway",
        description="A Livepeer gateway's HTTP ingest that transcodes here. Prints its URLs as JSON.",
        epilog="faults: " + "; ".join(f"{name}: {text}" for name, text in faults.KINDS.items()),
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8935, help="0 for any free one")
    parser.add_argument("--control-port", type=int, default=0, help="for faults, the log, the clock")
    parser.add_argument("--dialect", choices=DIALECTS, default="upstream")
    parser.add_argument("--latency", dest="latency_s", type=float, default=0.0, help="s of each try")
    parser.add_argument("--work", choices=WORK, default="transcode", help="remembered: instant when repeated")
    parser.add_argument("--preset", default="medium", help="of x264; the gateway has medium")
    parser.add_argument("--jobs", type=int, default=2, help="transcodes at a time")
    parser.add_argument("--max-sessions", type=int, default=10)
    parser.add_argument("--max-attempts", type=int, default=3)
    parser.add_argument("--orchestrators", type=int, default=3)
    parser.add_argument("--gpu", action="store_true", help="orchestrators that take 4:2:0 only")
    parser.add_argument("--webhook", default="", metavar="URL", help="asked for each new session")
    parser.add_argument("--job-token", default="", help="FrameWorks: asked for in the header")
    parser.add_argument("--no-http-ingest", action="store_true", help="as when it is off: 404 on /live/")
    parser.add_argument("--body-bytes-max", type=int, default=BODY_BYTES_MAX)
    parser.add_argument("--outside-store", default="", metavar="URI", help="answer with URIs below this one")
    parser.add_argument("--fault", action="append", default=[], help="like slow,delay_s=2,first=true")
    return vars(parser.parse_args())


if __name__ == "__main__":
    main()
