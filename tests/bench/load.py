"""Starts one load generator: `load.py KIND SPEC`, SPEC being the fields of its *Spec class as JSON."""

import gc
import sys

import msgspec
from fwbench.load.control import Load, run
from fwbench.load.fetch import FetchLoad, FetchSpec
from fwbench.load.hop import HopLoad, HopSpec
from fwbench.load.llhls import LlhlsLoad, LlhlsSpec
from fwbench.load.publish import PublishLoad, PublishSpec
from fwbench.load.watch import WatchLoad, WatchSpec


def make(kind: str, spec: str) -> Load:
    match kind:
        case "publish":
            return PublishLoad(msgspec.json.decode(spec, type=PublishSpec))
        case "watch":
            return WatchLoad(msgspec.json.decode(spec, type=WatchSpec))
        case "llhls":
            return LlhlsLoad(msgspec.json.decode(spec, type=LlhlsSpec))
        case "hop":
            return HopLoad(msgspec.json.decode(spec, type=HopSpec))
        case "fetch":
            return FetchLoad(msgspec.json.decode(spec, type=FetchSpec))
    raise SystemExit(f"no load is called {kind!r}")


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles; a collection would show as latency
    run(make(sys.argv[1], sys.argv[2]))
