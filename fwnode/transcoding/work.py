"""What `media.transcode` asks for in the words of `devices`, and back. Pure."""

from collections.abc import Iterable

import msgspec

from devices.model import CPU, Choice, Kind, Rendition, Source, Work
from devices.survey import Finding, Survey
from fwnode.transcoding.usage import rendition_name
from media.track.model import Codec
from media.transcode.capacity import USUAL_FPS, Cost
from media.transcode.wire import Engine

CODECS = {Codec.H264: "h264", Codec.HEVC: "hevc", Codec.AV1: "av1", Codec.VP9: "vp9"}
MADE = "h264"  # what every player decodes
USUAL_BITS_PER_PIXEL = 0.1  # of a source that does not say its bit rate: 6 Mb/s at 1080p30
SOFTWARE = "libx264"
UNIT = Work(
    Source(MADE, 1920, 1080, 30.0, 6_000_000),
    (Rendition("720p", MADE, 1280, 720, 30.0, 3_000_000),),
)  # what free capacity is told in: one rendition of 720p30


def work_of(cost: Cost) -> Work:
    """The same work. All renditions but the smallest may be given up when there is too much to do."""
    video = cost.video
    fps = video.fps or USUAL_FPS
    bps = video.bps or round(video.width * video.height * fps * USUAL_BITS_PER_PIXEL)
    smallest = min((rung.side for rung in cost.rungs), default=0)
    return Work(
        Source(CODECS.get(video.codec, str(video.codec)), video.width, video.height, fps, bps),
        tuple(
            Rendition(
                rendition_name(rung.side), MADE, rung.width, rung.height, min(fps, rung.fps), rung.bps,
                optional=rung.side != smallest,
            )
            for rung in cost.rungs
        ),
    )  # fmt: skip


def engine_of(choice: Choice, preset: str) -> Engine:
    """How the worker opens it. The preset of software is the operator's: what was measured is one of many."""
    options = {} if choice.engine == SOFTWARE else dict(choice.options)
    if choice.engine == SOFTWARE and preset:
        options["preset"] = preset
    return Engine(
        choice.engine, choice.device, choice.pixel_format, options, dict(choice.environment), choice.is_capped
    )


def within_reach(survey: Survey, *, hardware: bool) -> Survey:
    """Without what a worker cannot use: it decodes on the CPU, and its encoders take pictures from memory."""

    def usable(finding: Finding) -> bool:
        if finding.choice.device == CPU:
            return True
        return hardware and finding.kind is Kind.ENCODER and not finding.choice.hwaccel

    return msgspec.structs.replace(survey, findings=tuple(filter(usable, survey.findings)))


def encoders(findings: Iterable[Finding]) -> list[str]:
    """Names of encoders that were seen to work, each once."""
    names = [finding.name for finding in findings if finding.usable and finding.kind is Kind.ENCODER]
    return list(dict.fromkeys(names))
