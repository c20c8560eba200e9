"""The encoders and decoders that are worth trying, and how each is opened."""

from collections.abc import Sequence

import msgspec

from devices.gpu import Gpu
from devices.model import CPU, Choice, Kind

SOFTWARE, NVIDIA, INTEL, AMD, VAAPI = "software", "nvidia", "intel", "amd", "vaapi"
V4L2, APPLE, NETINT = "v4l2", "apple", "netint"
VENDORS = {
    NVIDIA: (NVIDIA,),
    INTEL: (INTEL,),
    AMD: (AMD,),
    VAAPI: (INTEL, AMD),
}  # whose GPUs a maker's run on
TARGETS_MAX = 256  # engines times GPUs: more is a host that nobody has, or nonsense from a driver


class Engine(msgspec.Struct, frozen=True):
    """One way to encode or decode one codec.

    `name` is FFmpeg's own, or `codec-hwaccel` for a decoder of FFmpeg that a device does the work for.
    `presets` are FFmpeg's options by how much is done for quality; the first one is used where nothing
    else is asked for, and is the one that is measured.
    """

    name: str
    kind: Kind
    codec: str
    maker: str
    pixel_format: str = "yuv420p"
    presets: dict[str, dict[str, str]] = msgspec.field(default_factory=lambda: {"default": {}})
    hwaccel: str = ""

    @property
    def ffmpeg(self) -> str:
        """FFmpeg's name of it."""
        return self.codec if self.kind is Kind.DECODER and self.hwaccel else self.name

    @property
    def preset(self) -> str:
        """The preset in use."""
        return next(iter(self.presets))


class Target(msgspec.Struct, frozen=True):
    """An engine on a device: what is tried, measured and cached."""

    engine: Engine
    choice: Choice

    @property
    def key(self) -> str:
        """Its name in the cache."""
        return f"{self.engine.kind}/{self.engine.name}@{self.choice.device}"


def _encoders(
    maker: str, pixel_format: str, names: dict[str, str], options: dict[str, str], hwaccel: str = ""
) -> tuple[Engine, ...]:
    presets = {options.get("preset", "default"): options}
    return tuple(
        Engine(name, Kind.ENCODER, codec, maker, pixel_format, presets, hwaccel)
        for name, codec in names.items()
    )


def _decoders(maker: str, names: dict[str, str], hwaccel: str = "") -> tuple[Engine, ...]:
    return tuple(
        Engine(name, Kind.DECODER, codec, maker, "nv12" if maker != SOFTWARE else "yuv420p", hwaccel=hwaccel)
        for name, codec in names.items()
    )


def _decoders_of_ffmpeg(maker: str, hwaccel: str, codecs: str) -> tuple[Engine, ...]:
    return _decoders(maker, {f"{codec}-{hwaccel}": codec for codec in codecs.split()}, hwaccel)


# Software: the fastest settings that still look well at the bit rates of live ladders.
X264 = {
    "veryfast": {"preset": "veryfast"},
    "superfast": {"preset": "superfast"},
    "ultrafast": {"preset": "ultrafast"},
}
X265 = {"ultrafast": {"preset": "ultrafast", "x265-params": "log-level=error"}}
SVT_AV1 = {"10": {"preset": "10", "svtav1-params": "lp=2:pred-struct=1:rc=2"}}  # low delay, constant rate
UNCAPPED = {"libsvtav1"}  # refuses a maximum beside a target
VP9 = {"8": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1"}}

ENGINES: tuple[Engine, ...] = (
    Engine("libx264", Kind.ENCODER, "h264", SOFTWARE, presets=X264),
    Engine("libx265", Kind.ENCODER, "hevc", SOFTWARE, presets=X265),
    Engine("libsvtav1", Kind.ENCODER, "av1", SOFTWARE, presets=SVT_AV1),
    Engine("libvpx-vp9", Kind.ENCODER, "vp9", SOFTWARE, presets=VP9),
    *_encoders(
        NVIDIA,
        "nv12",
        {"h264_nvenc": "h264", "hevc_nvenc": "hevc", "av1_nvenc": "av1"},
        {"preset": "p4", "tune": "ll", "rc": "vbr"},
    ),
    *_encoders(
        INTEL,
        "nv12",
        {"h264_qsv": "h264", "hevc_qsv": "hevc", "av1_qsv": "av1", "vp9_qsv": "vp9"},
        {"preset": "faster"},
    ),
    *_encoders(
        AMD, "nv12", {"h264_amf": "h264", "hevc_amf": "hevc", "av1_amf": "av1"}, {"usage": "lowlatency"}
    ),
    *_encoders(
        VAAPI,
        "nv12",
        {"h264_vaapi": "h264", "hevc_vaapi": "hevc", "av1_vaapi": "av1", "vp9_vaapi": "vp9"},
        {},
        VAAPI,
    ),
    *_encoders(V4L2, "yuv420p", {"h264_v4l2m2m": "h264", "hevc_v4l2m2m": "hevc"}, {}),
    *_encoders(APPLE, "nv12", {"h264_videotoolbox": "h264", "hevc_videotoolbox": "hevc"}, {"realtime": "1"}),
    *_encoders(
        NETINT,
        "yuv420p",
        {"h264_ni_quadra_enc": "h264", "h265_ni_quadra_enc": "hevc", "av1_ni_quadra_enc": "av1"},
        {},
    ),
    *_decoders(SOFTWARE, {"h264": "h264", "hevc": "hevc", "libdav1d": "av1", "vp9": "vp9"}),
    *_decoders(NVIDIA, {"h264_cuvid": "h264", "hevc_cuvid": "hevc", "av1_cuvid": "av1", "vp9_cuvid": "vp9"}),
    *_decoders_of_ffmpeg(NVIDIA, "cuda", "h264 hevc av1 vp9"),
    *_decoders(INTEL, {"h264_qsv": "h264", "hevc_qsv": "hevc", "av1_qsv": "av1", "vp9_qsv": "vp9"}),
    *_decoders(AMD, {"h264_amf": "h264", "hevc_amf": "hevc", "av1_amf": "av1"}),
    *_decoders_of_ffmpeg(VAAPI, VAAPI, "h264 hevc av1 vp9"),
    *_decoders(V4L2, {"h264_v4l2m2m": "h264", "hevc_v4l2m2m": "hevc", "vp9_v4l2m2m": "vp9"}),
    *_decoders_of_ffmpeg(APPLE, "videotoolbox", "h264 hevc av1 vp9"),
    *_decoders(NETINT, {"h264_ni_quadra_dec": "h264", "h265_ni_quadra_dec": "hevc"}),
)


def targets(gpus: Sequence[Gpu], engines: Sequence[Engine] = ENGINES) -> list[Target]:
    """Each engine on each device that it could run on; on an unknown one where there seems to be none.

    Trying the latter costs little, and says in FFmpeg's words what is missing.
    """
    found = []
    for engine in engines:
        fitting = [gpu for gpu in gpus if gpu.vendor in VENDORS.get(engine.maker, ())]
        if engine.maker == VAAPI:
            fitting = [gpu for gpu in fitting if gpu.render_node]
        elif engine.maker in (INTEL, AMD):
            fitting = fitting[:1]  # their runtimes take the first device by themselves
        if fitting:
            found += [Target(engine, _choice(engine, gpu, len(fitting))) for gpu in fitting]
        else:
            found.append(Target(engine, _choice(engine, None, 0)))
    return found[:TARGETS_MAX]


def _choice(engine: Engine, gpu: Gpu | None, count: int) -> Choice:
    """A driver is told the device by an identity that stays, not by a number that changes with the slots."""
    environment, device_name = {}, ""
    device = CPU if engine.maker == SOFTWARE else engine.maker
    if gpu is not None:
        device = gpu.id
        if engine.maker == NVIDIA and (gpu.uuid or count > 1):
            environment = {
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                "CUDA_VISIBLE_DEVICES": gpu.uuid or str(gpu.order),
            }
        if engine.hwaccel == VAAPI:
            device_name = gpu.render_node
    return Choice(
        engine.ffmpeg,
        device,
        engine.pixel_format,
        dict(engine.presets[engine.preset]),
        engine.hwaccel,
        device_name,
        environment,
        engine.name not in UNCAPPED,
    )
