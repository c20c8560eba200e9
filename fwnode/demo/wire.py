"""What the demo's child process tells its parent: messages of msgpack behind a 4-byte length. Pure."""

import msgspec

from media.errors import WireError
from media.track.model import Frame, Track

HEADER_BYTES = 4
MESSAGE_LIMIT = 4 * 1024 * 1024  # far above a keyframe at 1080p, far below what would hurt the parent
_TITLE_LIMIT = 32


class DemoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the demo looks. `width` is a multiple of 64 and `height` of 36, for the blocks of the clock."""

    stream: str = "demo"
    width: int = 1280
    height: int = 720
    fps: int = 30
    video_bps: int = 2_500_000
    audio_bps: int = 128_000
    title: str = "fwnode demo"

    def __post_init__(self) -> None:
        if not (self.width % 64 == 0 and 320 <= self.width <= 3840):
            raise ValueError(f"demo width {self.width}: must be a multiple of 64 from 320 to 3840")
        if not (self.height % 36 == 0 and 180 <= self.height <= 2160):
            raise ValueError(f"demo height {self.height}: must be a multiple of 36 from 180 to 2160")
        if not 1 <= self.fps <= 60:
            raise ValueError(f"demo fps {self.fps}: must be from 1 to 60")
        if len(self.title) > _TITLE_LIMIT:
            raise ValueError(f"demo title: at most {_TITLE_LIMIT} letters")


class Tracks(msgspec.Struct, frozen=True, tag="tracks"):
    """First message: what the frames that follow belong to."""

    tracks: list[Track]


class Frames(msgspec.Struct, frozen=True, tag="frames"):
    """Coded frames in decoding order."""

    frames: list[Frame]


class Impossible(msgspec.Struct, frozen=True, tag="impossible"):
    """The child cannot do its work on this host, and starting it again would not help."""

    reason: str


Message = Tracks | Frames | Impossible

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class MessageReader:
    """Cuts a byte stream into messages; holds at most one unfinished message."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def receive(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises WireError."""
        self._pending += data
        messages: list[Message] = []
        while len(self._pending) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._pending[:HEADER_BYTES], "big")
            if end > HEADER_BYTES + MESSAGE_LIMIT:
                raise WireError(f"message of {end - HEADER_BYTES} bytes, limit {MESSAGE_LIMIT}")
            if len(self._pending) < end:
                break
            messages.append(decode_untrusted(bytes(self._pending[HEADER_BYTES:end])))
            del self._pending[:end]
        return messages


def decode_untrusted(body: bytes) -> Message:
    """One message without its length. Raises WireError."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a demo message: {error}") from error
