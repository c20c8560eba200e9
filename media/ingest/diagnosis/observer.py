"""The diagnosis of one publisher: watches its packets, says what is wrong and how to fix it. Pure."""

from collections.abc import Callable

from media.ingest.diagnosis import delivery, picture, sound
from media.ingest.diagnosis.arrival import Arrival
from media.ingest.diagnosis.latch import STREAM, Latches
from media.ingest.diagnosis.meter import Meter
from media.ingest.diagnosis.oddity import oddities
from media.ingest.diagnosis.verdict import Scene, Subject, Verdict, subject
from media.track.model import Frame, Kind, Packet, Track
from media.track.stream import TRACKS_MAX, Finding, Severity

TICK_S = 1.0  # rules are asked so often; packets in between are only counted
IDLE_S = 1.0  # nothing came for so long: the next packet, or question, ends the present second

StreamRule = Callable[[Scene, Severity | None], Verdict | None]
TrackRule = Callable[[Subject, Severity | None], Verdict | None]

STREAM_RULES: dict[str, StreamRule] = {
    "stall": delivery.stall,
    "no-video": delivery.no_video,
    "no-audio": delivery.no_audio,
    "too-slow": delivery.too_slow,
    "too-fast": delivery.too_fast,
    "arrival-jitter": delivery.arrival_jitter,
    "interleaving": delivery.interleaving,
    "clock-drift": delivery.clock_drift,
}
TRACK_RULES: dict[str, TrackRule] = {
    "timestamp-jump": delivery.timestamp_jump,
    "timestamps-backward": delivery.timestamps_backward,
    "timestamps-duplicate": delivery.timestamps_duplicate,
    "format-changed": delivery.format_changed,
}
VIDEO_RULES: dict[str, TrackRule] = {
    "no-keyframe": picture.no_keyframe,
    "damaged-frames": picture.damaged_frames,
    "false-keyframes": picture.false_keyframes,
    "keyframe-interval": picture.keyframe_interval,
    "keyframes-irregular": picture.keyframes_irregular,
    "keyframes-frequent": picture.keyframes_frequent,
    "open-gop": picture.open_gop,
    "b-frames": picture.b_frames,
    "composition-offsets": picture.composition_offsets,
    "frames-missing": picture.frames_missing,
    "declared-fps": picture.declared_fps,
    "high-fps": picture.high_fps,
    "bitrate-high": picture.bitrate_high,
    "bitrate-low": picture.bitrate_low,
}
AUDIO_RULES: dict[str, TrackRule] = {"audio-gaps": sound.audio_gaps, "audio-rate": sound.audio_rate}
ODDITIES = ("pixel-format", "audio-codec", "audio-sample-rate", "audio-channels")
_RULES = {Kind.VIDEO: VIDEO_RULES | TRACK_RULES, Kind.AUDIO: AUDIO_RULES | TRACK_RULES}
CODES = (*STREAM_RULES, *VIDEO_RULES, *AUDIO_RULES, *TRACK_RULES, *ODDITIES)


class Diagnosis:
    """Watches one publisher from its first packet on; a new publisher gets a new one.

    `observe` costs about a microsecond a packet, rules included. Memory is bounded by
    TRACKS_MAX tracks of fixed windows; no packet is kept but the few after a keyframe.
    """

    def __init__(self) -> None:
        self._meters: dict[int, Meter] = {}
        self._oddities: dict[int, dict[str, Verdict]] = {}
        self._arrival = Arrival()
        self._latches = Latches(CODES)
        self._next_tick = float("-inf")
        self._findings: list[Finding] = []

    def observe(self, packet: Packet, frame: Frame, now: float) -> None:
        """A packet that entered the stream, and the frame that it was made from."""
        if now >= self._next_tick:
            self._tick(now)
        meter = self._meters.get(frame.track_id)
        if meter is None or meter.track is not packet.track:
            self.announce(packet.track, now)
            meter = self._meters.get(frame.track_id)
            if meter is None:
                return
        meter.add(packet, frame, now)

    def announce(self, track: Track, now: float) -> None:
        """The publisher described a track, maybe before it sends any of it."""
        meter = self._meters.get(track.id)
        if meter is None or meter.track.kind is not track.kind:
            if meter is None and len(self._meters) >= TRACKS_MAX:
                return
            self._meters[track.id] = Meter(track, now)
            self._latches.forget(track.id)
        elif not meter.change(track, now):
            return
        self._oddities[track.id] = oddities(track)

    def dropped(self, track: Track, frame: Frame, now: float) -> None:
        """A frame that did not enter the stream: nothing can be decoded before a keyframe."""
        if now >= self._next_tick:
            self._tick(now)
        if track.id not in self._meters:
            self.announce(track, now)
        meter = self._meters.get(track.id)
        if meter is not None:
            meter.skip(frame, now)

    def findings(self, now: float) -> list[Finding]:
        """What is wrong now: one finding of a code at most, the worst first, else in a fixed order."""
        if now >= self._next_tick:
            self._tick(now)
            if self._arrival.silence(now) >= IDLE_S:
                self._next_tick = now
        return list(self._findings)

    def _tick(self, now: float) -> None:
        meters = [self._meters[track_id] for track_id in sorted(self._meters)]
        for meter in meters:
            meter.close()
        video = [meter for meter in meters if meter.gop is not None]
        audio = [meter for meter in meters if meter.gop is None]
        self._arrival.tick(video, audio, now)
        self._next_tick = now + TICK_S
        self._judge(Scene(self._arrival, video, audio, now))
        self._findings = self._latches.findings(_names(video, audio))

    def _judge(self, scene: Scene) -> None:
        now, latches = scene.now, self._latches
        for code, stream_rule in STREAM_RULES.items():
            latches.settle(code, STREAM, stream_rule(scene, latches.last(code, STREAM)), now)
        for meter in (*scene.video, *scene.audio):
            track_id, judged = meter.track.id, subject(meter, now)
            rules = _RULES[meter.track.kind]
            for code, rule in rules.items():
                latches.settle(code, track_id, rule(judged, latches.last(code, track_id)), now)
            odd = self._oddities.get(track_id, {})
            for code in ODDITIES:
                latches.settle(code, track_id, odd.get(code), now)


def _names(video: list[Meter], audio: list[Meter]) -> dict[int, str]:
    """Names of tracks of which there are several."""
    return {meter.track.id: meter.track.name for kind in (video, audio) if len(kind) > 1 for meter in kind}
