"""Rules on an audio track: gaps, and a sample rate that its timestamps do not keep to. Pure."""

from media.ingest.diagnosis import advice
from media.ingest.diagnosis.verdict import Step, Subject, Verdict, duration, graded, many
from media.track.model import MICROSECONDS, Codec
from media.track.stream import Severity

RECENT_S = 60.0
GAPS_US = (Step(Severity.WARNING, 200_000.0, 100_000.0),)  # in RECENT_S; a single short one passes
RATE = (Step(Severity.WARNING, 0.02, 0.01),)  # 44.1 kHz for 48 kHz is 0.08; clocks drift far less
RATE_SECONDS = 15
RATES = (44_100, 48_000)


def audio_gaps(subject: Subject, last: Severity | None) -> Verdict | None:
    recent = [gap_us for at, gap_us in subject.meter.gaps if subject.now - at < RECENT_S]
    severity = graded(sum(recent), GAPS_US, last)
    if severity is None:
        return None
    message = (
        f"{many(len(recent), 'gap')} in the sound, {duration(sum(recent) / MICROSECONDS)} in the last "
        f"{RECENT_S:.0f} s"
    )
    return Verdict(severity, message, advice.AUDIO_GAPS)


def audio_rate(subject: Subject, last: Severity | None) -> Verdict | None:
    """Does as much sound come as its timestamps say?"""
    total, track = subject.long, subject.meter.track
    # Opus leaves silence out (RFC 6716 2.1.9), and always counts at 48 kHz.
    if total.seconds < RATE_SECONDS or track.codec is Codec.OPUS:
        return None
    since = subject.now - total.seconds
    gaps_us = sum(gap_us for at, gap_us in subject.meter.gaps if at >= since - 1)
    media_us = total.media_us - gaps_us
    if media_us < RATE_SECONDS * MICROSECONDS // 2:
        return None
    ratio = total.ticks * MICROSECONDS / (track.timescale * media_us)
    severity = graded(abs(ratio - 1), RATE, last)
    if severity is None:
        return None
    way = "more" if ratio > 1 else "less"
    message = f"{abs(ratio - 1):.1%} {way} sound comes than its timestamps say: it drifts from the picture"
    return Verdict(severity, message, advice.AUDIO_RATE)
