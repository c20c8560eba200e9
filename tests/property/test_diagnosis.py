"""Whatever a publisher sends, the diagnosis stays calm: no errors, bounded, orderly, repeatable."""

from hypothesis import given, settings
from hypothesis import strategies as st

from media.ingest.diagnosis.latch import Latches
from media.ingest.diagnosis.log import FindingsLog
from media.ingest.diagnosis.observer import CODES, Diagnosis
from media.ingest.diagnosis.verdict import SEVERITIES, Verdict
from media.track.model import Codec, Frame, Packet, Track
from media.track.stream import Finding, Severity

TIMES_US = st.one_of(
    st.integers(-(2**53), 2**53), st.integers(-100_000, 100_000), st.sampled_from([0, 33_000, 2**32 * 1_000])
)
TRACKS = st.builds(
    Track,
    st.integers(1, 4),
    st.sampled_from(Codec),
    st.sampled_from([1_000, 48_000, 90_000]),
    st.binary(max_size=12),
    width=st.integers(0, 4_000),
    declared_bps=st.sampled_from([0, 1, 5_000_000]),
    declared_fps=st.sampled_from([0.0, 0.001, 30.0, -1.0]),
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["packet", "packet", "packet", "dropped", "announce", "ask"]),
        TRACKS,
        TIMES_US,
        TIMES_US,
        st.booleans(),
        st.binary(max_size=40),
        st.sampled_from([0.0, 0.01, 0.04, 0.5, 1.1, 4.0, 70.0]),
    ),
    max_size=80,
)


def play(events: list[tuple]) -> list[list[Finding]]:
    diagnosis, now, answers = Diagnosis(), 100.0, []
    media_us: dict[int, int] = {}
    for what, track, step_us, cts_us, keyframe, data, wait_s in events:
        now += wait_s
        dts_us = media_us[track.id] = media_us.get(track.id, 0) + step_us
        frame = Frame(track.id, dts_us, cts_us, keyframe, data)
        if what == "packet":
            diagnosis.observe(Packet(track, 0, 0, 1_024, keyframe, data, 0, 0, 0, 0), frame, now)
        elif what == "dropped":
            diagnosis.dropped(track, frame, now)
        elif what == "announce":
            diagnosis.announce(track, now)
        answers.append(diagnosis.findings(now))
        assert answers[-1] == diagnosis.findings(now), "asking changes nothing"
    return answers


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_any_input_gives_orderly_findings(events):
    answers = play(events)
    for findings in answers:
        codes = [finding.code for finding in findings]
        assert len(set(codes)) == len(codes) and set(codes) <= set(CODES)
        ranks = [(-SEVERITIES.index(finding.severity), CODES.index(finding.code)) for finding in findings]
        assert ranks == sorted(ranks)
        assert all(finding.message and finding.fix for finding in findings)
    assert play(events) == answers


PRESENT = st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(Severity)), max_size=60)


@given(PRESENT, st.floats(0.1, 30))
def test_a_log_tells_each_story_once(history, step_s):
    log, standing, told = FindingsLog(quiet_s=60), {}, {}
    for index, present in enumerate(history):
        now = index * step_s
        findings = [Finding(code, severity, "m", "f") for code, severity in present.items()]
        for finding, appeared in log.changes(findings, now):
            code, rank = finding.code, SEVERITIES.index(finding.severity)
            if not appeared:
                assert standing.pop(code) == rank and code not in present
            elif code in standing:
                assert rank > standing[code]
                standing[code] = rank
            else:
                assert now - told.get(code, -60.0) >= 60
                standing[code] = rank
            if appeared:
                told[code] = now
        assert set(standing) <= set(present)


@given(st.lists(st.booleans(), max_size=200))
def test_a_latch_is_never_quicker_than_its_hold(bads):
    latches, stands, since = Latches(("a",)), False, 0.0
    for second, bad in enumerate(bads):
        latches.settle("a", 1, Verdict(Severity.INFO, "m", "f") if bad else None, float(second))
        now_stands = bool(latches.findings({}))
        assert now_stands or not bad
        if now_stands and not stands:
            since = float(second)
        elif stands and not now_stands:
            assert second - since >= 5
        stands = now_stands
