"""Rules on a video track: keyframes, reordering, frame rate, bitrate. Pure."""

import statistics

from media.ingest.diagnosis import advice
from media.ingest.diagnosis.gop import Entry
from media.ingest.diagnosis.meter import SHORT_WINDOW, WINDOW, Meter
from media.ingest.diagnosis.verdict import Step, Subject, Verdict, duration, graded, many
from media.track.model import MICROSECONDS
from media.track.stream import Severity

# Two seconds is what every streaming service asks for; a scene cut or a late frame adds a little.
INTERVAL_US = (Step(Severity.WARNING, 4.6e6, 4.2e6), Step(Severity.INFO, 2.6e6, 2.3e6))
INTERVALS_JUDGED = 3
OPEN_INTERVAL_US = 12_000_000  # x264's default at 25 fps is 10 s
NO_KEYFRAME_US = 20_000_000  # a segment ends here all the same (marker.SEGMENT_MAX_US): players break
UNDECODABLE_S = 5.0
SHORT_INTERVAL_US = 1_000_000  # intervals below it may vary freely
UNEVEN = 0.7  # of the usual longest interval
UNEVEN_ENTER, UNEVEN_LEAVE = 3, 2  # of INTERVALS_KEPT: an odd scene cut is no habit
FREQUENT_US = (Step(Severity.INFO, -400_000.0, -450_000.0),)
GROUPS_ENTER = 2  # inspected groups that agree
DAMAGE_RECENT_S = 30.0
DAMAGE_ENTER = 2
MISSING = (Step(Severity.WARNING, 0.05, 0.02),)  # of all frames over SHORT_WINDOW
MISSING_SECONDS = 5  # fewer tell nothing
DECLARED_FPS = (Step(Severity.INFO, 0.10, 0.06),)  # off what was declared
HIGH_FPS = (Step(Severity.INFO, 65.0, 62.0),)
# Encoders overshoot for seconds, VBV and audio of the same name apart; a third more for half a
# minute is another bitrate.
BITRATE_HIGH = (Step(Severity.WARNING, 1.35, 1.2),)
BITRATE_LOW = (Step(Severity.INFO, 20.0, 14.0),)  # declared over measured
BITRATE_SECONDS = 20
DECLARED_MIN_BPS = 200_000  # below it a single keyframe makes the mean


def no_keyframe(subject: Subject, last: Severity | None) -> Verdict | None:
    """Video that nobody can decode: no keyframe came yet, or none for too long."""
    meter = subject.meter
    fix = advice.keyframe_interval(meter.fps)
    if meter.undecodable_since is not None:
        waited_s = subject.now - meter.undecodable_since
        if waited_s < UNDECODABLE_S:
            return None
        return Verdict(
            Severity.ERROR, f"No keyframe for {duration(waited_s)}: nobody can see the picture", fix
        )
    longest_us = _longest(meter, judged=1)
    if longest_us < NO_KEYFRAME_US:
        return None
    message = (
        f"No keyframe for {duration(longest_us / MICROSECONDS)}: new viewers see nothing until one comes"
    )
    return Verdict(Severity.ERROR, message, fix)


def keyframe_interval(subject: Subject, last: Severity | None) -> Verdict | None:
    interval_us = _longest(subject.meter, INTERVALS_JUDGED)
    severity = graded(interval_us, INTERVAL_US, last)
    if severity is None or _longest(subject.meter, judged=1) >= NO_KEYFRAME_US:
        return None
    many_s = duration(interval_us / MICROSECONDS)
    message = (
        f"Keyframe every {many_s}: viewers wait so long for a picture, latency and segments grow with it"
    )
    return Verdict(severity, message, advice.keyframe_interval(subject.meter.fps))


def keyframes_irregular(subject: Subject, last: Severity | None) -> Verdict | None:
    gop = subject.meter.gop
    if gop is None or len(gop.intervals_us) < (gop.intervals_us.maxlen or 0):
        return None
    *_, usual_us, _ = sorted(gop.intervals_us)  # one lost keyframe makes one interval of two
    uneven = [interval for interval in gop.intervals_us if interval < UNEVEN * usual_us]
    if usual_us < SHORT_INTERVAL_US or len(uneven) < (UNEVEN_ENTER if last is None else UNEVEN_LEAVE):
        return None
    message = (
        f"Keyframes come unevenly, {duration(min(uneven) / MICROSECONDS)} to "
        f"{duration(usual_us / MICROSECONDS)} apart: segments vary in length"
    )
    return Verdict(Severity.INFO, message, advice.keyframe_regular(subject.meter.fps))


def keyframes_frequent(subject: Subject, last: Severity | None) -> Verdict | None:
    gop = subject.meter.gop
    if gop is None or len(gop.intervals_us) < INTERVALS_JUDGED or not subject.meter.step_us:
        return None
    middle_us = statistics.median(gop.intervals_us)
    severity = graded(-middle_us, FREQUENT_US, last)
    if severity is None:
        return None
    if middle_us < 1.5 * subject.meter.step_us:
        message = "Every frame is a keyframe: the same picture takes several times the bitrate"
    else:
        message = f"A keyframe every {duration(middle_us / MICROSECONDS)}: costs picture quality for nothing"
    return Verdict(severity, message, advice.KEYFRAME_DENSER)


def open_gop(subject: Subject, last: Severity | None) -> Verdict | None:
    if not _entries(subject.meter, Entry.OPEN, last):
        return None
    message = (
        "Open GOPs: frames after a keyframe need the group before it, so viewers who start or change "
        "quality there see damage"
    )
    return Verdict(Severity.WARNING, message, advice.OPEN_GOP)


def false_keyframes(subject: Subject, last: Severity | None) -> Verdict | None:
    if _entries(subject.meter, Entry.FALSE, last):
        message = "Frames are marked as keyframes and are none: viewers who start there see damage"
        return Verdict(Severity.ERROR, message, advice.REAL_KEYFRAMES)
    # With open GOPs, a keyframe that happens to have no leading frames looks gradual as well.
    if _entries(subject.meter, Entry.GRADUAL, last) and not _entries(subject.meter, Entry.OPEN, last):
        message = "Keyframes are recovery points, not IDR pictures: players may start with a damaged picture"
        return Verdict(Severity.WARNING, message, advice.REAL_KEYFRAMES)
    return None


def b_frames(subject: Subject, last: Severity | None) -> Verdict | None:
    gop = subject.meter.gop
    if gop is None or not subject.meter.step_us:
        return None
    if sum(depth > 0 for depth in gop.reorder) < (GROUPS_ENTER if last is None else 1):
        return None
    depth = max(gop.reorder)
    delay_s = depth * subject.meter.step_us / MICROSECONDS
    message = (
        f"B-frames, reordered by up to {many(depth, 'frame')}: {duration(delay_s)} more latency, and "
        "WebRTC viewers see stutter"
    )
    return Verdict(Severity.INFO, message, advice.B_FRAMES)


def composition_offsets(subject: Subject, last: Severity | None) -> Verdict | None:
    gop = subject.meter.gop
    if gop is None or sum(gop.bad_offsets) < (GROUPS_ENTER if last is None else 1):
        return None
    message = "Frames are to be shown before they are decoded, or 10 s after: their order is lost"
    return Verdict(Severity.WARNING, message, advice.OFFSETS)


def damaged_frames(subject: Subject, last: Severity | None) -> Verdict | None:
    gop = subject.meter.gop
    if gop is None:
        return None
    count = sum(subject.now - at < DAMAGE_RECENT_S for at in gop.damage)
    if count < (DAMAGE_ENTER if last is None else 1):
        return None
    message = f"{many(count, 'keyframe')} in the last {DAMAGE_RECENT_S:.0f} s did not parse"
    return Verdict(Severity.ERROR, message, advice.DAMAGED)


def frames_missing(subject: Subject, last: Severity | None) -> Verdict | None:
    """Fewer frames arrive than the frame rate promises."""
    total = subject.short
    if total.seconds < MISSING_SECONDS or total.media_us <= 0:
        return None
    expected = total.missing + total.packets
    severity = graded(total.missing / expected, MISSING, last)
    if severity is None:
        return None
    per_second = MICROSECONDS / total.media_us
    message = (
        f"{total.packets * per_second:.1f} of {expected * per_second:.1f} frames a second arrive: "
        f"{total.missing / expected:.0%} are missing over {SHORT_WINDOW} s"
    )
    return Verdict(severity, message, advice.FRAMES_MISSING)


def declared_fps(subject: Subject, last: Severity | None) -> Verdict | None:
    fps, declared = subject.meter.fps, subject.meter.track.declared_fps
    if not fps or declared <= 0:
        return None
    severity = graded(abs(fps / declared - 1), DECLARED_FPS, last)
    if severity is None:
        return None
    message = f"{fps:.4g} frames a second arrive, {declared:.4g} were declared"
    return Verdict(severity, message, advice.DECLARED_FPS)


def high_fps(subject: Subject, last: Severity | None) -> Verdict | None:
    fps = subject.meter.fps
    severity = graded(fps, HIGH_FPS, last)
    if severity is None:
        return None
    message = f"{fps:.4g} frames a second: phones and many browsers drop what is above 60"
    return Verdict(severity, message, advice.LOWER_FPS)


def bitrate_high(subject: Subject, last: Severity | None) -> Verdict | None:
    measured, declared = _bitrate(subject), subject.meter.track.declared_bps
    severity = graded(measured / declared, BITRATE_HIGH, last) if measured else None
    return Verdict(severity, _versus(measured, declared), advice.BITRATE_HIGH) if severity else None


def bitrate_low(subject: Subject, last: Severity | None) -> Verdict | None:
    measured, declared = _bitrate(subject), subject.meter.track.declared_bps
    severity = graded(declared / measured, BITRATE_LOW, last) if measured else None
    return Verdict(severity, _versus(measured, declared), advice.BITRATE_LOW) if severity else None


def _longest(meter: Meter, judged: int) -> float:
    """The usual interval of the newest `judged` keyframes, or the one that lasts, if that says more."""
    gop = meter.gop
    if gop is None or gop.last_us is None:
        return 0.0
    lasting_us = meter.dts_us - gop.last_us
    closed = list(gop.intervals_us)[-judged:]
    if not closed:
        return lasting_us
    usual_us = statistics.median_low(closed)
    return max(usual_us, lasting_us) if lasting_us >= OPEN_INTERVAL_US else usual_us


def _entries(meter: Meter, entry: Entry, last: Severity | None) -> bool:
    return meter.gop is not None and meter.gop.entries.count(entry) >= (GROUPS_ENTER if last is None else 1)


def _bitrate(subject: Subject) -> float:
    """Bits per second of media time over WINDOW; 0.0 when that says nothing, or nothing was declared."""
    total = subject.long
    if subject.meter.track.declared_bps < DECLARED_MIN_BPS or total.seconds < BITRATE_SECONDS:
        return 0.0
    if total.media_us < BITRATE_SECONDS * MICROSECONDS // 2:
        return 0.0
    return total.bytes * 8 * MICROSECONDS / total.media_us


def _versus(measured: float, declared: int) -> str:
    return f"{measured / 1e6:.2f} Mb/s over {WINDOW} s, {declared / 1e6:.2f} Mb/s were declared"
