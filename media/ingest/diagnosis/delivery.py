"""Rules on how a publisher's packets come: at all, in time, in order, with sane timestamps. Pure."""

from media.ingest.diagnosis import advice
from media.ingest.diagnosis.arrival import STALL_S
from media.ingest.diagnosis.meter import EVENTS_KEPT, Meter
from media.ingest.diagnosis.verdict import Scene, Step, Subject, Verdict, duration, graded, many
from media.track.model import MICROSECONDS
from media.track.stream import Severity

RECENT_S = 60.0  # events are told of for so long
STALL_RECENT_S = 30.0
SILENT_S = 5.0  # a track that says nothing while others go on
SILENT_FRAMES = 5  # of its own distance, for slides at a frame each few seconds
SPEED = (Step(Severity.ERROR, 0.10, 0.08), Step(Severity.WARNING, 0.04, 0.02))  # off 1.0
DRIFT_PPM = (Step(Severity.INFO, 1_000.0, 600.0),)  # sound cards are within 100; 30 for 29.97 fps is 1,001
JITTER_US = (Step(Severity.WARNING, 400_000.0, 250_000.0),)  # keyframes alone make up to 200 ms
APART_US = (Step(Severity.WARNING, 600_000.0, 400_000.0),)  # OBS and ffmpeg interleave within 200 ms
BACKWARD_MIN = 2  # one is an accident
DUPLICATES_MIN = 3


def stall(scene: Scene, last: Severity | None) -> Verdict | None:
    """Nothing comes, or nothing came for a while lately."""
    silence = scene.arrival.silence(scene.now)
    if silence >= STALL_S:
        what = "No data" if scene.arrival.newest is not None else "Nothing but announcements"
        return Verdict(Severity.ERROR, f"{what} for {duration(silence)}", advice.STALL)
    lengths = [
        length for since, length in scene.arrival.stalls if scene.now - since - length < STALL_RECENT_S
    ]
    if not lengths:
        return None
    message = (
        f"The stream stood still {many(len(lengths), 'time')} in the last {STALL_RECENT_S:.0f} s, "
        f"for up to {duration(max(lengths))}"
    )
    return Verdict(Severity.WARNING, message, advice.STALL)


def no_video(scene: Scene, last: Severity | None) -> Verdict | None:
    silent = _silent(scene, scene.video)
    return Verdict(Severity.ERROR, f"No picture {silent}", advice.NO_VIDEO) if silent else None


def no_audio(scene: Scene, last: Severity | None) -> Verdict | None:
    silent = _silent(scene, scene.audio)
    return Verdict(Severity.WARNING, f"No sound {silent}", advice.NO_AUDIO) if silent else None


def too_slow(scene: Scene, last: Severity | None) -> Verdict | None:
    speed = scene.arrival.speed()
    severity = graded(1.0 - speed, SPEED, last) if speed is not None else None
    if speed is None or severity is None:
        return None
    message = f"The stream comes at {speed:.2f} times real time: viewers run dry"
    return Verdict(severity, message, advice.TOO_SLOW)


def too_fast(scene: Scene, last: Severity | None) -> Verdict | None:
    speed = scene.arrival.speed()
    severity = graded(speed - 1.0, SPEED, last) if speed is not None else None
    if speed is None or severity is None:
        return None
    message = f"The stream comes at {speed:.2f} times real time: viewers cannot follow it live"
    return Verdict(severity, message, advice.TOO_FAST)


def clock_drift(scene: Scene, last: Severity | None) -> Verdict | None:
    ppm = scene.arrival.drift_ppm()
    severity = graded(abs(ppm), DRIFT_PPM, last) if ppm is not None else None
    if ppm is None or severity is None:
        return None
    way = "slow" if ppm > 0 else "fast"
    message = (
        f"The publisher's clock runs {way} by {abs(ppm) / 10_000:.2f} % "
        f"({abs(ppm) * 3_600 / MICROSECONDS:.1f} s an hour)"
    )
    return Verdict(severity, message, advice.CLOCK_DRIFT)


def arrival_jitter(scene: Scene, last: Severity | None) -> Verdict | None:
    spread_us = scene.arrival.jitter_us
    severity = graded(spread_us, JITTER_US, last)
    if severity is None or scene.arrival.silence(scene.now) >= STALL_S or _off_speed(scene):
        return None
    message = f"Packets arrive unevenly, up to {duration(spread_us / MICROSECONDS)} late"
    return Verdict(severity, message, advice.UPLINK)


def interleaving(scene: Scene, last: Severity | None) -> Verdict | None:
    apart_us = scene.arrival.apart_us
    if len(apart_us) < (apart_us.maxlen or 0):
        return None
    nearest_us = min(apart_us, key=abs)
    one_sided = min(apart_us) > 0 or max(apart_us) < 0
    severity = graded(abs(nearest_us), APART_US, last) if one_sided else None
    if severity is None:
        return None
    way = "ahead of" if nearest_us > 0 else "behind"
    message = f"Sound comes {duration(abs(nearest_us) / MICROSECONDS)} {way} the picture"
    return Verdict(severity, message, advice.INTERLEAVING)


def timestamp_jump(subject: Subject, last: Severity | None) -> Verdict | None:
    recent = [step_us for at, step_us in subject.meter.jumps if subject.now - at < RECENT_S]
    if not recent:
        return None
    message = (
        f"Timestamps jumped {_count(len(recent))} in the last {RECENT_S:.0f} s, "
        f"last by {recent[-1] / MICROSECONDS:+.1f} s"
    )
    return Verdict(Severity.WARNING, message, advice.TIMESTAMPS)


def timestamps_backward(subject: Subject, last: Severity | None) -> Verdict | None:
    count = sum(subject.now - at < RECENT_S for at in subject.meter.backward)
    if count < (BACKWARD_MIN if last is None else 1):
        return None
    message = f"Timestamps went backwards {_count(count)} in the last {RECENT_S:.0f} s"
    return Verdict(Severity.WARNING, message, advice.TIMESTAMPS)


def timestamps_duplicate(subject: Subject, last: Severity | None) -> Verdict | None:
    count = sum(subject.now - at < RECENT_S for at in subject.meter.duplicates)
    if count < (DUPLICATES_MIN if last is None else 1):
        return None
    message = f"Frames repeated the timestamp before {_count(count)} in the last {RECENT_S:.0f} s"
    return Verdict(Severity.WARNING, message, advice.DUPLICATES)


def format_changed(subject: Subject, last: Severity | None) -> Verdict | None:
    recent = [what for at, what in subject.meter.changes if subject.now - at < RECENT_S]
    if not recent:
        return None
    message = (
        f"The format changed {_count(len(recent))} in the last {RECENT_S:.0f} s, last {recent[-1]}: "
        "players start anew"
    )
    severity = Severity.WARNING if len(recent) > 1 else Severity.INFO
    return Verdict(severity, message, advice.STEADY_FORMAT)


def _silent(scene: Scene, meters: list[Meter]) -> str:
    """Since when one of `meters` says nothing while others go on; "" when all do, or none."""
    arrival = scene.arrival
    if arrival.silence(scene.now) >= STALL_S or arrival.newest is None:
        return ""
    if arrival.stalls and scene.now - sum(arrival.stalls[-1]) < SILENT_S:
        return ""  # all of them stood still; each gets its time to come back
    for meter in meters:
        since = meter.announced if meter.arrived is None else meter.arrived
        patience = max(SILENT_S, SILENT_FRAMES * meter.step_us / MICROSECONDS)
        if scene.now - since >= patience:
            never = ", though it was announced" if meter.arrived is None else ""
            return f"for {duration(scene.now - since)}{never}"
    return ""


def _off_speed(scene: Scene) -> bool:
    speed = scene.arrival.speed()
    return speed is not None and abs(speed - 1.0) >= SPEED[-1].enter


def _count(count: int) -> str:
    return many(count, "time") if count < EVENTS_KEPT else f"{EVENTS_KEPT} times or more"
