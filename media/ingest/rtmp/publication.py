"""A publisher's media messages to tracks and frames. Pure.

Frames are held back at first until the tracks that were announced are known: a track that turns
up later begins a new section of the stream, which costs viewers the group that is under way.
"""

import contextlib
from typing import Protocol

import msgspec

from media.bitstream import ac3, annexb, av1, h264, hevc, vp9
from media.bitstream.describe import describe
from media.container.flv_parse import (
    CodedFrame,
    Declared,
    Event,
    Metadata,
    SequenceHeader,
    parse_audio_untrusted,
    parse_metadata_untrusted,
    parse_video_untrusted,
)
from media.errors import WireError
from media.ingest.rtmp.chunk import MessageType
from media.track.model import VIDEO_TIMESCALE, Codec, Frame, Kind, Track

# How long frames wait for announced tracks. GStreamer's muxer begins sound up to 0.7 s after picture.
HOLD_US = 1_000_000
HOLD_FRAMES = 512  # a second of 16 tracks
HOLD_BYTES = 8 * 1024 * 1024

_HALF_WRAP = 1 << 31


class FrameWriter(Protocol):
    """What is needed of media.track.stream.Writer."""

    def describe(self, track: Track, now: float) -> None: ...

    def write(self, frame: Frame, now: float) -> None: ...

    def flush(self, now: float) -> None: ...


class PublicationStatistics(msgspec.Struct):
    """Counts since publishing began."""

    frames: int = 0
    undescribed: int = 0  # dropped: no sequence header came before them
    malformed: int = 0  # dropped: NAL units that do not fit their frame


class _Incoming:
    """One track as it comes in: what its last sequence header said, and what became of it."""

    __slots__ = ("codec", "described", "header", "nal_length_bytes")

    def __init__(self, header: SequenceHeader) -> None:
        self.codec = header.codec
        self.header = header.config
        self.described = False
        self.nal_length_bytes = 4 if header.codec in (Codec.H264, Codec.HEVC) else 0


class TimestampUnwrapper:
    """32-bit milliseconds, which wrap every 49.7 days, to an ever-growing count."""

    __slots__ = ("_last", "_total")

    def __init__(self) -> None:
        self._last: int | None = None
        self._total = 0

    def unwrap(self, timestamp: int) -> int:
        """The count for `timestamp`, taken as less than 24.8 days from the one before."""
        if self._last is None:
            self._total = timestamp
        else:
            step = (timestamp - self._last + _HALF_WRAP) & 0xFFFFFFFF
            self._total += step - _HALF_WRAP
        self._last = timestamp
        return self._total


class Publication:
    """Feeds one writer from one message stream. Raises WireError and Refused."""

    def __init__(self, writer: FrameWriter) -> None:
        self.statistics = PublicationStatistics()
        self.metadata: Metadata | None = None
        self._writer = writer
        self._times = TimestampUnwrapper()
        self._tracks: dict[int, _Incoming] = {}
        self._expected = frozenset(Kind)
        self._ready: list[Track] = []  # described while frames are held
        self._held: list[tuple[Frame, float]] | None = []  # with when each came
        self._held_bytes = 0

    def on_data(self, payload: bytes) -> None:
        """A data message; onMetaData counts, the rest is not for us."""
        metadata = parse_metadata_untrusted(payload)
        if metadata is not None:
            self.metadata = metadata
            if metadata.kinds:
                self._expected = metadata.kinds

    def on_media(self, kind: int, timestamp: int, body: bytes, now: float) -> None:
        """An audio or video message; `timestamp` is 32-bit milliseconds."""
        time_ms = self._times.unwrap(timestamp)
        events = parse_video_untrusted(body) if kind == MessageType.VIDEO else parse_audio_untrusted(body)
        for event in events:
            self._on_event(event, time_ms, now)

    def flush(self, now: float) -> None:
        """Tell the stream's readers; once per batch."""
        if self._held is None:
            self._writer.flush(now)

    def finish(self, now: float) -> None:
        """No more will come: let go of what is held."""
        self._release(now)

    def _on_event(self, event: Event, time_ms: int, now: float) -> None:
        if isinstance(event, CodedFrame):
            self._on_frame(event, time_ms, now)
        elif isinstance(event, SequenceHeader):
            known = self._tracks.get(event.track_id)
            if known is None or known.header != event.config or known.codec is not event.codec:
                self._on_header(event, now)

    def _on_header(self, header: SequenceHeader, now: float) -> None:
        incoming = self._tracks[header.track_id] = _Incoming(header)
        config = header.config
        match header.codec:
            case Codec.H264:
                incoming.nal_length_bytes = (config[4] & 3) + 1 if len(config) > 4 else 4
                if incoming.nal_length_bytes != 4:
                    config = h264.with_four_byte_lengths_untrusted(config)
            case Codec.HEVC:
                incoming.nal_length_bytes = (config[21] & 3) + 1 if len(config) > 21 else 4
                if incoming.nal_length_bytes != 4:
                    config = hevc.with_four_byte_lengths_untrusted(config)
            case Codec.AC3 | Codec.EAC3 | Codec.VP9:
                return  # the first frame tells the rest
            case Codec.AV1 if av1.parse_av1c_untrusted(config) is None:
                return
        self._describe(header.track_id, incoming, config, now)

    def _on_frame(self, event: CodedFrame, time_ms: int, now: float) -> None:
        incoming = self._tracks.get(event.track_id)
        if incoming is None and event.codec in (Codec.AC3, Codec.EAC3):
            incoming = self._tracks[event.track_id] = _Incoming(
                SequenceHeader(event.track_id, event.codec, b"")
            )
        if incoming is None or incoming.codec is not event.codec:
            self.statistics.undescribed += 1
            return
        data = event.data
        if incoming.nal_length_bytes:
            repaired = self._repaired(incoming, data)
            if repaired is None:
                return
            data = repaired
        if not incoming.described and not self._describe_by_frame(event, incoming, now):
            self.statistics.undescribed += 1
            return
        dts_us = time_ms * 1000 + event.offset_ns // 1000
        self._write(Frame(event.track_id, dts_us, event.cts_ms * 1000, event.keyframe, data), now)

    def _repaired(self, incoming: _Incoming, data: bytes) -> bytes | None:
        """The frame with 4-byte NAL lengths, None when its lengths do not add up.

        Readers cut frames at these lengths, so they are checked here, once.
        """
        if incoming.nal_length_bytes == 4 and _lengths_fit(data):
            return data
        with contextlib.suppress(WireError):
            if data.startswith((b"\0\0\0\1", b"\0\0\1")):  # some encoders send Annex B all the same
                return annexb.annexb_to_sample_untrusted(data)
            if incoming.nal_length_bytes != 4:
                return annexb.relength_untrusted(data, incoming.nal_length_bytes)
        self.statistics.malformed += 1
        return None

    def _describe_by_frame(self, event: CodedFrame, incoming: _Incoming, now: float) -> bool:
        """Describe a track whose sequence header left something to its first keyframe."""
        match event.codec:
            case Codec.AC3 | Codec.EAC3:
                config: bytes | None = ac3.config_from_syncframe_untrusted(event.data)
                size = None
            case Codec.VP9 if event.keyframe:
                config = incoming.header
                size = vp9.frame_size_untrusted(event.data)
            case Codec.AV1 if event.keyframe:
                config = av1.config_from_sample_untrusted(event.data)
                size = None
            case _:
                return False
        if config is None:
            return False
        self._describe(event.track_id, incoming, config, now, size)
        return True

    def _describe(
        self, number: int, incoming: _Incoming, config: bytes, now: float, size: tuple[int, int] | None = None
    ) -> None:
        told = describe(incoming.codec, config)
        declared = self.metadata.tracks.get(number, Declared()) if self.metadata else Declared()
        video = incoming.codec.kind is Kind.VIDEO
        width, height = size or (told.width, told.height)
        track = Track(
            number,
            incoming.codec,
            VIDEO_TIMESCALE if video else told.sample_rate,
            config,
            width=width,
            height=height,
            sample_rate=told.sample_rate,
            channels=told.channels,
            declared_bps=declared.bps,
            declared_fps=declared.fps or told.frame_rate or 0.0 if video else 0.0,
        )
        incoming.described = True
        if any(known.id == number for known in self._ready):
            self._release(now)  # what is held belongs to the description before
        if self._held is None:
            self._writer.describe(track, now)
        else:
            self._ready.append(track)

    def _write(self, frame: Frame, now: float) -> None:
        self.statistics.frames += 1
        held = self._held
        if held is None:
            self._writer.write(frame, now)
            return
        held.append((frame, now))
        self._held_bytes += len(frame.data)
        waited_us = abs(frame.dts_us - held[0][0].dts_us)
        full = waited_us >= HOLD_US or len(held) >= HOLD_FRAMES or self._held_bytes >= HOLD_BYTES
        if full or self._all_known():
            self._release(now)

    def _all_known(self) -> bool:
        kinds = {track.kind for track in self._ready}
        return kinds >= self._expected and all(incoming.described for incoming in self._tracks.values())

    def _release(self, now: float) -> None:
        held, self._held = self._held, None
        ready, self._ready = self._ready, []
        for track in ready:
            self._writer.describe(track, now)
        for frame, came_at in held or ():
            self._writer.write(frame, came_at)


def _lengths_fit(data: bytes) -> bool:
    """Do the 4-byte NAL lengths of a frame add up to its size?"""
    position, size = 0, len(data)
    for _ in range(annexb.MAX_NALS):
        position += 4 + int.from_bytes(data[position : position + 4])
        if position >= size:
            return position == size
    return False
