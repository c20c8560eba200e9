"""HLS playlists as RFC 8216bis writes them, from a window. Pure.

Durations have five decimals, so that sums drift by less than a tick; URIs are relative, so
that the same bytes serve under any host name.
"""

import datetime
import functools

from media.bitstream.describe import describe
from media.package.rendition import Rendition, renditions_of
from media.package.window import LiveWindow, Segment
from media.track.model import MICROSECONDS, Codec, Kind, Track

VERSION = 9  # EXT-X-SKIP (RFC 8216bis 7)
# Parts are listed for three target durations at most (4.4.4.9): so many segments, with the one being made.
PARTS_LISTED_SEGMENTS = 3
LISTED_TARGETS = 3  # a live playlist is never shorter, in target durations (6.2.2)
SKIP_TARGETS = 6  # CAN-SKIP-UNTIL, the least that is allowed (4.4.3.8)
HOLD_BACK_PARTS = 3  # PART-HOLD-BACK in part targets (4.4.3.8: at least 2, should be 3)
BANDWIDTH_STEP_BPS = 50_000  # bandwidths are rounded up to this, so that they rarely change
SAMPLE_BYTES = 16  # what a sample takes in a fragment's tables, rounded up
AUDIO_GROUP = "audio"
TITLE_MAX = 64  # characters of a track's title, which is the publisher's


def media_playlist(
    window: LiveWindow, name: str, window_us: int, *, skip: bool = False, beside: LiveWindow | None = None
) -> bytes | None:
    """The media playlist of one rendition, or None when nothing of it is held.

    Lists segments that begin within `window_us` of the newest. `skip` asks for a delta update
    (RFC 8216bis 6.2.5.1); the whole playlist is given when there is nothing to skip. The
    playlist of a rendition that the newest section has no more is an ended one. `beside` has the
    other renditions of the same pictures, if there are more than in `window`.
    """
    target_s = _target_duration_s(window)
    segments = _listed(window, name, max(window_us, LISTED_TARGETS * target_s * MICROSECONDS))
    if not segments:
        return None
    last = segments[-1]
    ended = window.ended or last is not window.newest_segment()
    with_parts = len(segments) - PARTS_LISTED_SEGMENTS + (last.complete and not ended)
    lines = _head(window, segments, segments[max(with_parts, 0) :], name, target_s)
    begin = _skippable(segments, target_s) if skip else 0
    if begin:
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={begin}")
    for position in range(begin, len(segments)):
        before = segments[position - 1] if position else None
        _segment(lines, segments[position], before, name, parts=position >= with_parts)
    if ended:
        lines.append("#EXT-X-ENDLIST")
    else:
        _edge(lines, window, last, name)
        if beside is not None:
            _reports(lines, beside, name)
    return ("\n".join(lines) + "\n").encode()


def multivariant_playlist(
    window: LiveWindow, query: str = "", ladder: LiveWindow | None = None
) -> bytes | None:
    """The multivariant playlist, or None before the first segment. `query` ("?token=…") goes on each URI.

    `ladder` has smaller renditions; where there are some, so is the sound without a picture.
    """
    newest = window.newest_segment()
    if newest is None:
        return None
    renditions = newest.renditions.values()
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}"]
    if all([s.starts_clean(r) for s in window.segments for r in s.renditions.values()]):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    groups = [rendition for rendition in renditions if rendition.audio_group]
    titles = _titles(groups)
    for position, rendition in enumerate(groups):
        lines.append(_media_tag(rendition, titles[position], default=position == 0, query=query))
    rungs = _rungs(ladder) if ladder is not None else []
    listed = [(window, rendition) for rendition in renditions if _is_variant(rendition)]
    listed += [(ladder, rung) for rung in rungs if ladder is not None]
    if rungs:
        listed += [(window, rendition) for rendition in renditions if rendition.sound_only]
    for where, rendition in listed:
        lines.append(_stream_inf(where, rendition, [] if rendition.sound_only else groups, window))
        lines.append(f"{rendition.name}/index.m3u8{query}")
    return ("\n".join(lines) + "\n").encode()


def _is_variant(rendition: Rendition) -> bool:
    return not rendition.audio_group and not rendition.sound_only


def _rungs(ladder: LiveWindow) -> list[Rendition]:
    """A ladder's pictures, largest first, also before there is any part of them."""
    section = max(ladder.stream.sections.values(), key=lambda each: each.discontinuity, default=None)
    if section is None:
        return []
    rungs = [rung for rung in renditions_of(section) if rung.lead.kind is Kind.VIDEO]
    return sorted(rungs, key=lambda rung: -rung.lead.width * rung.lead.height)


def mime_type(tracks: tuple[Track, ...]) -> str:
    """What MediaSource.isTypeSupported wants for these tracks in one file."""
    container = "video/mp4" if any(track.kind is Kind.VIDEO for track in tracks) else "audio/mp4"
    return f'{container}; codecs="{",".join(codec_string(track) for track in tracks)}"'


def codec_string(track: Track) -> str:
    """The RFC 6381 name of a track's codec."""
    return _codec_string(track.codec, track.config)


@functools.lru_cache(maxsize=256)
def _codec_string(codec: Codec, config: bytes) -> str:
    return describe(codec, config).codec_string


def _listed(window: LiveWindow, name: str, window_us: int) -> list[Segment]:
    """The newest run of segments that have this rendition and something to list."""
    listed: list[Segment] = []
    for segment in reversed(window.segments):
        if not segment.begun and not (listed and segment.cut):
            continue
        if name in segment.renditions:
            if listed and segment.start_us < listed[0].start_us - window_us:
                break
            listed.append(segment)
        elif listed:
            break
    return listed[::-1]


def _target_duration_s(window: LiveWindow) -> int:
    """The longest segment, rounded as EXTINF is for the comparison (4.4.3.1)."""
    longest = max([segment.duration_us for segment in window.segments if segment.complete], default=0)
    return max(1, (max(longest, window.stream.target_duration_us) + MICROSECONDS // 2) // MICROSECONDS)


def _head(
    window: LiveWindow, segments: list[Segment], recent: list[Segment], name: str, target_s: int
) -> list[str]:
    parts = [part.duration_us for segment in recent for part in segment.complete_parts()]
    part_s = -(-max(window.stream.part_target_us, *parts) // 1000) / 1000
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_s}",
        f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={HOLD_BACK_PARTS * part_s:.5f},"
        f"CAN-SKIP-UNTIL={SKIP_TARGETS * target_s:.1f}",
        f"#EXT-X-PART-INF:PART-TARGET={part_s:.5f}",
        f"#EXT-X-MEDIA-SEQUENCE:{segments[0].msn}",
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{segments[0].section.discontinuity + window.stream.breaks_before}",
    ]
    if all([segment.starts_clean(segment.renditions[name]) for segment in segments]):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    return lines


def _skippable(segments: list[Segment], target_s: int) -> int:
    """How many segments lie before the skip boundary."""
    boundary_us = segments[-1].start_us - SKIP_TARGETS * target_s * MICROSECONDS
    count = 0
    while count < len(segments) and segments[count].start_us < boundary_us:
        count += 1
    return count


def _segment(lines: list[str], segment: Segment, before: Segment | None, name: str, *, parts: bool) -> None:
    rendition = segment.renditions[name]
    known = before.renditions[name].init if before is not None else None
    if before is not None:
        # More than one when a section was lost whole with a node that died: the count stays everybody's.
        breaks = segment.section.discontinuity - before.section.discontinuity
        lines += ["#EXT-X-DISCONTINUITY"] * breaks
    if known != rendition.init:
        lines.append(f'#EXT-X-MAP:URI="init-{rendition.init}.mp4"')
    lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{_iso(segment.unix_us)}")
    msn = segment.msn
    if parts:
        for part in segment.complete_parts():
            duration_s = part.duration_us / MICROSECONDS
            line = f'#EXT-X-PART:DURATION={duration_s:.5f},URI="{msn}.{part.index}.m4s"'
            if not part.holds(rendition) or part.lacks(rendition):
                line += ",GAP=YES"
            elif part.starts_clean(rendition):
                line += ",INDEPENDENT=YES"
            lines.append(line)
    if segment.complete:
        if not segment.holds(rendition) or segment.lacks(rendition):
            lines.append("#EXT-X-GAP")
        lines.append(f"#EXTINF:{segment.duration_us / MICROSECONDS:.5f},")
        lines.append(f"{msn}.m4s")


def _edge(lines: list[str], window: LiveWindow, last: Segment, name: str) -> None:
    """What comes next, and where the other renditions are."""
    if name in window.segments[-1].renditions:
        msn, part = window.upcoming()
        lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{msn}.{part}.m4s"')
    _reports(lines, window, name)


def _reports(lines: list[str], window: LiveWindow, name: str) -> None:
    last = window.newest_segment()
    if last is None:
        return
    newest = f"LAST-MSN={last.msn},LAST-PART={last.complete_parts()[-1].index}"
    for other, rendition in last.renditions.items():
        if other != name and not rendition.sound_only:
            lines.append(f'#EXT-X-RENDITION-REPORT:URI="../{other}/index.m3u8",{newest}')


def _stream_inf(window: LiveWindow, rendition: Rendition, groups: list[Rendition], source: LiveWindow) -> str:
    """`window` has the rendition, `source` the groups of sound."""
    codecs = [codec_string(track) for track in rendition.tracks]
    codecs += sorted({codec_string(group.lead) for group in groups})
    peak, mean = _bandwidth(window, rendition)
    if groups:
        heard = [_bandwidth(source, group) for group in groups]
        peak, mean = peak + max(bps for bps, _ in heard), mean + max(bps for _, bps in heard)
    fields = [
        f"BANDWIDTH={_step(peak)}",
        f"AVERAGE-BANDWIDTH={_step(mean)}",
        f'CODECS="{",".join(codecs)}"',
    ]
    lead = rendition.lead
    if lead.kind is Kind.VIDEO:
        fields.append(f"RESOLUTION={lead.width}x{lead.height}")
        if lead.declared_fps:
            fields.append(f"FRAME-RATE={lead.declared_fps:.3f}")
        fields.append("CLOSED-CAPTIONS=NONE")
    if groups:
        fields.append(f'AUDIO="{AUDIO_GROUP}"')
    return "#EXT-X-STREAM-INF:" + ",".join(fields)


def _titles(groups: list[Rendition]) -> list[str]:
    """A NAME for each rendition, different from all others (4.4.6.1.1)."""
    titles: list[str] = []
    for rendition in groups:
        title = "".join([letter for letter in rendition.lead.title if letter.isprintable() and letter != '"'])
        title = title[:TITLE_MAX] or rendition.name
        titles.append(title if title not in titles else f"{title} ({rendition.name})")
    return titles


def _media_tag(rendition: Rendition, title: str, *, default: bool, query: str) -> str:
    track = rendition.lead
    language = track.language if track.language.isascii() and track.language.isalpha() else "und"
    answer = "YES" if default else "NO"
    channels = f'CHANNELS="{track.channels}",' if track.channels else ""
    return (
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{AUDIO_GROUP}",NAME="{title}",LANGUAGE="{language}",'
        f'DEFAULT={answer},AUTOSELECT=YES,{channels}URI="{rendition.name}/index.m3u8{query}"'
    )


def _bandwidth(window: LiveWindow, rendition: Rendition) -> tuple[int, int]:
    """Peak and mean bits/s over the complete parts held, from the packets' sizes.

    Measured over segments once there are complete ones (RFC 8216bis 4.4.6.2). What was not fetched
    to this node counts as it was when it was.
    """
    wanted = {track.id for track in rendition.tracks}
    peak = total_bits = total_us = 0
    complete = [segment for segment in window.segments if segment.complete]
    for segment in complete or window.segments[-1:]:
        parts = segment.complete_parts()
        duration_us = segment.duration_us
        if not parts or duration_us <= 0 or rendition.name not in segment.renditions:
            continue
        if segment.lacks(rendition):
            continue
        packets = window.stream.ring.slice(parts[0].first, parts[-1].stop)
        bits = 8 * sum([len(packet.data) + SAMPLE_BYTES for packet in packets if packet.track.id in wanted])
        peak = max(peak, bits * MICROSECONDS // duration_us)
        total_bits += bits
        total_us += duration_us
    mean = total_bits * MICROSECONDS // total_us if total_us else 0
    declared = sum(track.declared_bps for track in rendition.tracks)
    if total_us:
        window.bandwidths[rendition.name] = peak, mean
    elif rendition.name in window.bandwidths:
        peak, mean = window.bandwidths[rendition.name]
    return max(peak, declared, 1), max(mean, 1)


def _step(bps: int) -> int:
    return -(-bps // BANDWIDTH_STEP_BPS) * BANDWIDTH_STEP_BPS


def _iso(unix_us: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_us // MICROSECONDS, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_us % MICROSECONDS // 1000:03d}Z"
