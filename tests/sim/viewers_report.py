"""Simulates viewers who look for an edge, by the real routing code and by others, and prints what came of it.

`scripts/sim viewers` runs a million arrivals in four scenarios; `--quick` a hundredth of them.
`scripts/sim viewers --policies fwnode --only steady` runs one; `--svg FOLDER` draws a picture of each.
"""

import argparse
import gc
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from viewers_plot import Panel, draw  # noqa: E402 - see above
from viewers_policies import AnyOne, Mist, Nearest, Ours, Perfect  # noqa: E402 - see above
from viewers_run import Outcome, Scenario, run  # noqa: E402 - see above
from viewers_world import Flash  # noqa: E402 - see above

COUNT = 250_000  # of each scenario
RATE = 75.0  # a second, at a thousand nodes: their uplinks are two fifths full then
POLICIES = {"fwnode": Ours, "perfect": Perfect, "nearest": Nearest, "random": AnyOne, "mist": Mist}
BINS = 80  # of the time axis
TITLES = {
    "steady": "Steady: viewers come and go",
    "flash": "Flash crowd: one stream, one region, one minute",
    "outage": "Outage: all nodes of North America but the origins die at once",
    "drain": "Rolling drain: every other node is restarted, one after the other",
}


def scenarios(count: int, rate: float) -> dict[str, Scenario]:
    """All four. Each lasts `count / rate` seconds."""
    seconds = count / rate
    flash = Flash(0.06, "EU", seconds * 0.4, min(60.0, seconds * 0.1))
    return {
        "steady": Scenario("steady", count, rate),
        "flash": Scenario("flash", count, rate, flash),
        "outage": Scenario("outage", count, rate, dark=("NA", seconds * 0.4)),
        "drain": Scenario("drain", count, rate, drain_from=seconds * 0.2),
    }


def table(outcomes: list[Outcome], count: int) -> None:
    """One line for each policy."""
    print(
        "| policy | distance p50, km | p99 | mean | beyond promise p99 | p99.9 | worst | spread of fullness "
        "| attempts refused | sent to dead | cut off | redirects, mean | two or more | moved | and back "
        "| decision p50 / p99, us of CPU | all in, us |"
    )
    print("|---" * 17 + "|")
    for each in outcomes:
        over = sorted(each.over)
        km = sorted(each.km)

        def at(values: list[float], share: float) -> float:
            return values[min(len(values) - 1, int(share * len(values)))]

        served = max(1, sum(each.redirects))
        mean = sum(number * many for number, many in enumerate(each.redirects)) / served
        decided = (
            f"{each.quantile(each.decisions, 0.5):.0f} / {each.quantile(each.decisions, 0.99):.0f}"
            if each.decisions
            else "-"
        )
        print(
            f"| {each.policy} | {at(km, 0.5):.0f} | {at(km, 0.99):.0f} | {sum(km) / len(km):.0f} "
            f"| {at(over, 0.99):.1%} | {at(over, 0.999):.1%} | {over[-1]:.0%} "
            f"| {sum(spread for *_, spread in each.moments) / len(each.moments):.2f} "
            f"| {each.refused} | {each.lost} | {each.cut} | {mean:.3f} "
            f"| {sum(each.redirects[2:]) / served:.2%} | {each.moved} of {each.asked_again} "
            f"| {each.returned} | {decided} | {each.took_s / count * 1e6:.0f} |",
            flush=True,
        )


def picture(scenario: Scenario, outcomes: list[Outcome], nodes: int, seed: int) -> str:
    """Fullness of the fullest hundredth, and distance, over time."""
    end = scenario.count / scenario.rate
    event = None
    if scenario.flash:
        begin = scenario.flash.begins_s
        event = begin, begin + scenario.flash.lasts_s, "the crowd comes"
    elif scenario.dark:
        event = scenario.dark[1], scenario.dark[1], "the nodes die"
    elif scenario.drain_from:
        event = scenario.drain_from, end * 0.84, "nodes are restarted"
    full = {
        each.policy: _binned([(when, share) for when, share, _ in each.moments], end) for each in outcomes
    }
    distance = {each.policy: _binned(list(zip(each.when, each.km, strict=True)), end) for each in outcomes}
    high = max(value for line in full.values() for _, value in line)
    panels = [
        Panel(
            "Uplink used by the fullest hundredth of nodes; 1 is what its owner promised",
            "×",
            full,
            0.5,
            max(2.0, high * 1.1),
            1.0,
        ),
        Panel("Mean distance between viewers who came and their node", " km", distance, 50.0, 12_000.0),
    ]
    crowd = f", {scenario.flash.share:.0%} of them at once" if scenario.flash else ""
    subtitle = f"{nodes} nodes, {scenario.count:,} viewers{crowd}, directory up to 6 s old, seed {seed}"
    return draw(TITLES[scenario.name], subtitle, panels, event)


def _binned(points: list[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Means of equal parts of the time, those without a point left out."""
    sums: dict[int, tuple[float, int]] = {}
    for when, value in points:
        number = min(BINS - 1, int(when / end * BINS))
        total, many = sums.get(number, (0.0, 0))
        sums[number] = total + value, many + 1
    return [((number + 0.5) * end / BINS, total / many) for number, (total, many) in sorted(sums.items())]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/sim viewers", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help=f"arrivals of each scenario ({COUNT})")
    parser.add_argument("--rate", type=float, help=f"viewers a second ({RATE:g} for a thousand nodes)")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the arrivals, 200 nodes")
    parser.add_argument("--only", choices=list(TITLES), help="one scenario")
    parser.add_argument("--policies", default=",".join(POLICIES), help="which, with commas")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="draw a picture of each scenario there")
    options = parser.parse_args()
    unknown = set(options.policies.split(",")) - POLICIES.keys()
    if unknown:
        parser.error(f"no such policy: {', '.join(sorted(unknown))}; there are {', '.join(POLICIES)}")
    if options.quick:
        options.count, options.nodes = options.count // 100, 200
    rate = options.rate or RATE * options.nodes / 1000
    gc.disable()  # nothing here makes cycles
    print(
        f"{options.nodes} nodes, {options.count} arrivals of each scenario at {rate:g}/s, seed {options.seed}"
    )
    for name, scenario in scenarios(options.count, rate).items():
        if options.only in (None, name):
            began = time.perf_counter()
            outcomes = []
            for policy in options.policies.split(","):
                make = POLICIES[policy]
                outcomes.append(run(make, scenario, options.nodes, options.seed, timed=make is Ours))
                gc.collect()
            print(f"\n{name}: {TITLES[name]} ({time.perf_counter() - began:.0f} s)\n")
            table(outcomes, options.count)
            if options.svg:
                options.svg.mkdir(parents=True, exist_ok=True)
                target = options.svg / f"viewers-{name}.svg"
                target.write_text(picture(scenario, outcomes, options.nodes, options.seed))


if __name__ == "__main__":
    main()
