"""The player's pure modules, run by Chromium, and the clock strip's two readers against each other."""

from collections.abc import Callable
from typing import Any

import pytest
from glass import CLOCKSTRIP

from fwnode.demo.clockstrip import read_levels, strip_blocks

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def run(browser: Any, demo: Any) -> Any:
    """Evaluates `body` with a module's exports destructured: run("choice.js", "Choice", "return ...")."""
    page = browser.new_page()
    page.goto(demo.url("/healthz"))

    def evaluate(module: str, names: str, body: str, argument: object = None) -> Any:
        script = f"async given => {{ const {{ {names} }} = await import('/player/{module}'); {body} }}"
        return page.evaluate(script, argument)

    yield evaluate
    page.close()


@pytest.mark.parametrize("unix_ms", [0, 1_795_003_600_123, 2**44 - 1, 1_799_999_999_999])
def test_both_readers_of_the_clock_agree(browser: Any, unix_ms: int) -> None:
    page = browser.new_page()
    for low, high in ((16, 235), (40, 180), (0, 255)):
        levels = [high if bit else low for bit in strip_blocks(unix_ms)]
        assert read_levels(levels) == unix_ms
        assert page.evaluate(f"levels => {CLOCKSTRIP}.readLevels(levels)", levels) == unix_ms
        levels[20] = low + high - levels[20]
        assert read_levels(levels) is None
        assert page.evaluate(f"levels => {CLOCKSTRIP}.readLevels(levels)", levels) is None
    page.close()


def test_choice_goes_down_the_list_and_backs_off(run: Any) -> None:
    steps = run(
        "choice.js",
        "Choice",
        "const choice = new Choice(['a', 'b'], () => 0.5); const steps = [];"
        "for (let i = 0; i < 12; i += 1) steps.push(choice.failed(0)); return steps;",
    )
    assert [step["name"] for step in steps[:4]] == ["b", "a", "b", "a"]
    assert [step["delayMs"] for step in steps[1::2]] == [1000, 2000, 4000, 8000, 15000, 15000]
    assert [step["exhausted"] for step in steps[:2]] == [False, True]


def test_choice_tries_a_good_transport_once_more(run: Any) -> None:
    names = run(
        "choice.js",
        "Choice",
        "const choice = new Choice(['a', 'b']);"
        "return [choice.failed(20_000).name, choice.failed(0).name, choice.failed(20_000).name];",
    )
    assert names == ["a", "b", "b"]


def test_explains_codecs_in_words(run: Any) -> None:
    explained = run(
        "codecs.js",
        "explainUnplayable, codecsOf",
        "return given.map(mime => explainUnplayable(codecsOf(mime)).title);",
        [
            'video/mp4; codecs="hvc1.1.6.L93.B0,ac-3"',
            'video/mp4; codecs="av01.0.05M.08"',
            "video/mp4; codecs=dvh1.05",
        ],
    )
    assert explained == [
        "This browser cannot play HEVC (H.265) video and Dolby Digital (AC-3) sound",
        "This browser cannot play AV1 video",
        "This browser cannot play the codec dvh1.05",
    ]


def test_server_clock_narrows_whole_seconds_down(run: Any) -> None:
    offset = run(
        "latency.js",
        "ServerClock",
        # The node's clock is 5.3 s ahead, answers take 20 ms, and only whole seconds are told.
        "const clock = new ServerClock();"
        "for (let sent = 0; sent < 4000; sent += 310) {"
        "  const date = Math.floor((sent + 10 + 5300) / 1000) * 1000;"
        "  clock.observe(date, date + 1000, sent, sent + 20);"
        "} return clock.offsetMs;",
    )
    assert 5200 < offset < 5400


def test_server_clock_is_ours_when_it_may_be(run: Any) -> None:
    body = "const clock = new ServerClock(); clock.observe(9000, 10000, 9400, 9450); return clock.offsetMs;"
    assert run("latency.js", "ServerClock", body) == 0


def test_catch_up_hurries_jumps_and_calms_down(run: Any) -> None:
    decided = run(
        "latency.js",
        "CatchUp",
        "const catchUp = new CatchUp(); catchUp.adapt(0.05, 0);"
        "return [0.25, 0.9, 0.3, 0.205, 5].map(ahead => catchUp.decide(ahead, 60_000));",
    )
    assert [step["jump"] for step in decided] == [False, False, False, False, True]
    rates = [step["rate"] for step in decided]
    assert rates[0] == 1
    assert rates[1] == pytest.approx(1.1)
    assert 1 < rates[2] < 1.1, "still hurrying until nearly there"
    assert rates[3] == 1


def test_catch_up_jumps_sooner_in_the_first_seconds(run: Any) -> None:
    body = (
        "const catchUp = new CatchUp(); return [0, 60_000].map(played => catchUp.decide(1.2, played).jump);"
    )
    assert run("latency.js", "CatchUp", body) == [True, False]


def test_catch_up_keeps_more_after_stalls_and_forgets_them(run: Any) -> None:
    targets = run(
        "latency.js",
        "CatchUp",
        "const catchUp = new CatchUp(); const targets = [];"
        "catchUp.adapt(0.1, 0); targets.push(catchUp.target);"
        "catchUp.stalled(1000); catchUp.stalled(2000); catchUp.adapt(0.1, 2000);"
        "targets.push(catchUp.target);"
        "catchUp.adapt(0.1, 40_000); targets.push(catchUp.target); return targets;",
    )
    assert targets[0] == pytest.approx(0.25)
    assert targets[1] == pytest.approx(0.75)
    assert targets[2] == pytest.approx(0.25)


def test_arrivals_measure_the_spread_after_the_first_burst(run: Any) -> None:
    jitter = run(
        "latency.js",
        "Arrivals",
        "const arrivals = new Arrivals(); for (let i = 0; i < 10; i += 1) arrivals.add(i * 0.1, 0);"
        "for (let i = 0; i < 100; i += 1) arrivals.add(10 + i * 0.1, 10_000 + i * 100 + (i % 2) * 60);"
        "return arrivals.jitterS;",
    )
    assert jitter == pytest.approx(0.06, abs=0.001)
