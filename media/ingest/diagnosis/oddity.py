"""What a track's configuration alone says: formats that browsers do not play, or not well. Pure."""

from media.bitstream.describe import Description, describe
from media.errors import WireError
from media.ingest.diagnosis import advice
from media.ingest.diagnosis.verdict import Verdict
from media.track.model import Codec, Kind, Track
from media.track.stream import Severity

USUAL_RATES = (44_100, 48_000)
STEREO = 2
_PIXEL_PROFILES = ("High 10", "High 4:2:2", "High 4:4:4", "CAVLC 4:4:4")
_SURROUND = (Codec.AC3, Codec.EAC3)
_PLAYED_AAC = ("LC", "HE")


def oddities(track: Track) -> dict[str, Verdict]:
    """Verdicts by code; they hold for as long as the track's description does."""
    try:
        said = describe(track.codec, track.config)
    except WireError:
        return {}  # the ingest refuses what it cannot describe; nothing to add here
    return _video(track, said) if track.kind is Kind.VIDEO else _audio(track, said)


def _video(track: Track, said: Description) -> dict[str, Verdict]:
    unplayed = track.codec is Codec.H264 and said.profile.startswith(_PIXEL_PROFILES)
    if unplayed:
        message = f"H.264 {said.profile}: most browsers and phones show no picture"
        return {"pixel-format": Verdict(Severity.ERROR, message, advice.PIXEL_FORMAT)}
    if track.codec is Codec.HEVC and said.profile.startswith("Range Extensions"):
        message = f"HEVC {said.profile}: most browsers and phones show no picture"
        return {"pixel-format": Verdict(Severity.ERROR, message, advice.PIXEL_FORMAT)}
    return {}


def _audio(track: Track, said: Description) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    if track.codec in _SURROUND:
        message = (
            f"Sound is {'E-AC-3' if track.codec is Codec.EAC3 else 'AC-3'}: most browsers play it silently"
        )
        found["audio-codec"] = Verdict(Severity.WARNING, message, advice.AUDIO_CODEC)
    elif track.codec is Codec.AAC and not said.profile.startswith(_PLAYED_AAC):
        message = f"Sound is AAC {said.profile}: browsers do not play it"
        found["audio-codec"] = Verdict(Severity.WARNING, message, advice.AUDIO_CODEC)
    rate, channels = said.sample_rate or track.sample_rate, said.channels or track.channels
    if rate and rate not in USUAL_RATES:
        message = f"Sound has {rate / 1_000:g} kHz: players resample it, some badly"
        found["audio-sample-rate"] = Verdict(Severity.INFO, message, advice.AUDIO_48K)
    if channels > STEREO:
        message = f"Sound has {channels} channels: phones and WebRTC viewers get a mix, or none of some"
        found["audio-channels"] = Verdict(Severity.INFO, message, advice.AUDIO_STEREO)
    return found
