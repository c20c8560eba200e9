"""What to change, and where: OBS's own words, ffmpeg's options, GStreamer's properties. Pure.

OBS's labels are those of its English locale files (frontend/data/locale, plugins/*/data/locale),
versions 30 to 32.
"""

_OBS_STREAMING = "OBS: Settings > Output > Output Mode: Advanced > Streaming >"
_OBS_STATS = "OBS: View > Stats tells which"


def keyframe_interval(fps: float) -> str:
    frames = round(2 * fps) if fps else 60
    return (
        f"{_OBS_STREAMING} Keyframe Interval 2 s (Simple mode with x264: Enable Custom Encoder Settings, "
        f"keyint={frames}). ffmpeg: -g {frames}. GStreamer: x264enc key-int-max={frames}."
    )


def keyframe_regular(fps: float) -> str:
    frames = round(2 * fps) if fps else 60
    return (
        f"{_OBS_STREAMING} x264 Options: scenecut=0, or a hardware encoder without look-ahead. "
        f"ffmpeg: -g {frames} -keyint_min {frames} -sc_threshold 0. "
        "GStreamer: x264enc option-string=scenecut=0."
    )


KEYFRAME_DENSER = (
    f"{_OBS_STREAMING} Keyframe Interval 2 s. ffmpeg: set -g to two seconds "
    "of frames. GStreamer: x264enc key-int-max."
)
OPEN_GOP = (
    "OBS: take open-gop and intra-refresh out of the encoder's options. ffmpeg: -flags +cgop "
    "(libx265: -x265-params open-gop=0). GStreamer: x265enc option-string=open-gop=0."
)
REAL_KEYFRAMES = (
    "Switch intra refresh off. OBS: take intra-refresh out of the encoder's custom options. "
    "ffmpeg: leave out -intra-refresh; NVENC: -forced-idr 1. GStreamer: x264enc intra-refresh=false."
)
B_FRAMES = (
    f"{_OBS_STREAMING} B-Frames 0, or for x264: Tune zerolatency. ffmpeg: -bf 0. "
    "GStreamer: x264enc bframes=0."
)
DAMAGED = (
    "Restart the encoder; update it and its graphics driver. ffmpeg with -c:v copy: the source is "
    "damaged, encode it anew with -c:v libx264."
)
PIXEL_FORMAT = (
    "OBS: Settings > Advanced > Color Format NV12. ffmpeg: -pix_fmt yuv420p. "
    "GStreamer: video/x-raw,format=I420 before the encoder."
)
TIMESTAMPS = (
    "Restart the stream. A camera or capture device may restart its clock: OBS: that source's "
    "Properties > Use Device Timestamps off. ffmpeg: -use_wallclock_as_timestamps 1 before -i, or encode "
    "instead of -c copy. GStreamer: do-timestamp=true on the source."
)
DUPLICATES = (
    "ffmpeg: -fps_mode cfr (before 5.1: -vsync cfr), no -c:v copy of a damaged file. "
    "GStreamer: videorate before the encoder. OBS: restart the stream; it does not do this by itself."
)
OFFSETS = "ffmpeg: encode instead of -c:v copy, or add -bf 0. OBS: set B-frames to 0."
UPLINK = (
    "Use a cable instead of Wi-Fi; lower the bitrate to at most three quarters of the uplink. "
    "OBS: Settings > Output > Video Bitrate, and Settings > Advanced > Network > Dynamically change "
    "bitrate to manage congestion. ffmpeg: -b:v with -maxrate and -bufsize."
)
STALL = (
    "Look whether the encoder still runs and its network works (OBS: View > Stats > Dropped Frames). "
    f"{UPLINK}"
)
FRAMES_MISSING = (
    f"{_OBS_STATS}. Dropped Frames (Network): lower Settings > Output > Video Bitrate. Skipped frames due "
    "to encoding lag: a faster Encoder Preset or a hardware encoder. Frames missed due to rendering lag: "
    "limit the game's frame rate. ffmpeg: a faster -preset, or -r for a constant rate."
)
TOO_SLOW = (
    f"The encoder is too slow or the uplink too narrow. {_OBS_STATS}: choose a faster preset or a "
    "hardware encoder, or lower the bitrate. ffmpeg: look for speed= below 1x in its log; a faster "
    "-preset, or -c:v copy."
)
TOO_FAST = "ffmpeg: put -re before -i when the input is a file. GStreamer: sync=true on the sink."
CLOCK_DRIFT = (
    "Use one clock for sound and picture and the frame rate that is declared (29.97 is 30000/1001). "
    "ffmpeg: -use_wallclock_as_timestamps 1 before -i, with -af aresample=async=1."
)
INTERLEAVING = (
    "OBS: Edit > Advanced Audio Properties > Sync Offset 0; restart the stream. ffmpeg with two inputs: "
    "-thread_queue_size 1024 before each -i, and see that both begin at the same time "
    "(-itsoffset). GStreamer: a queue before each pad of the muxer."
)
NO_VIDEO = (
    "Look at the encoder's log: it announced a picture and sends none. OBS: restart the stream with "
    "another Video Encoder. ffmpeg: check -map and the input. GStreamer: a queue before the muxer."
)
NO_AUDIO = (
    "OBS: Settings > Output > Audio Track must be one that the sources use; restart the stream. ffmpeg: "
    "check -map and the audio input, or leave sound out with -an. GStreamer: a queue before the muxer."
)
AUDIO_GAPS = (
    "OBS: View > Stats and its log tell of audio buffering; close what loads the machine, set Settings > "
    "Audio > Sample Rate to the devices' own. ffmpeg: -af aresample=async=1. GStreamer: audiorate before "
    "the encoder."
)
AUDIO_RATE = (
    "Set the same sample rate everywhere, 48 kHz. OBS: Settings > Audio > Sample Rate, and the device's in "
    "the system settings. ffmpeg: -af aresample=async=1 -ar 48000. GStreamer: audioresample."
)
AUDIO_CODEC = "Send AAC-LC. OBS: Settings > Output > Audio Encoder. ffmpeg: -c:a aac. GStreamer: avenc_aac."
AUDIO_48K = (
    "OBS: Settings > Audio > Sample Rate 48 kHz. ffmpeg: -ar 48000. "
    "GStreamer: audioresample ! audio/x-raw,rate=48000."
)
AUDIO_STEREO = (
    "OBS: Settings > Audio > Channels Stereo. ffmpeg: -ac 2. "
    "GStreamer: audioconvert ! audio/x-raw,channels=2."
)
BITRATE_HIGH = (
    f"{_OBS_STREAMING} Rate Control CBR. ffmpeg: -maxrate as -b:v, -bufsize twice that. "
    "GStreamer: x264enc pass=cbr."
)
BITRATE_LOW = (
    "Normal for a still picture. Otherwise see that the right source is shown, and that the encoder does "
    "not limit itself (OBS: Dynamically change bitrate)."
)
DECLARED_FPS = (
    "Set the frame rate in one place. OBS: Settings > Video > FPS. ffmpeg: -r before the output, or "
    "-framerate before -i for a capture device. GStreamer: videorate ! video/x-raw,framerate=30/1."
)
LOWER_FPS = "OBS: Settings > Video > Common FPS Values 60 or 30. ffmpeg: -r 60. GStreamer: videorate."
STEADY_FORMAT = (
    "Keep one resolution and one codec for a stream; scale instead. OBS: Settings > Video > Output "
    "(Scaled) Resolution. ffmpeg: -vf scale=1280:720. GStreamer: videoscale with fixed caps."
)
