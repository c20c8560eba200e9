"""Frames of the control connection: one byte of kind, three of length, data. Pure.

Cheap to split: a frame costs one slice. What the kinds mean is for the node's shell.
"""

from mesh.errors import WireError

HEADER_BYTES = 4
FRAME_BYTES_MAX = (64 << 10) + 1024  # a full message of gossip (64 KiB) and what wraps it
KIND_MAX = 255


def encode_frame(kind: int, data: bytes) -> bytes:
    """One frame. `kind` is 0 to 255, `data` has at most FRAME_BYTES_MAX bytes."""
    assert 0 <= kind <= KIND_MAX
    assert len(data) <= FRAME_BYTES_MAX
    return (kind << 24 | len(data)).to_bytes(HEADER_BYTES, "big") + data


class FrameReader:
    """Splits what arrives into frames. Holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
        """The frames that are complete now, as (kind, data).

        Raises WireError when one is too long, and again whenever it is fed after that: the frames of that
        call are lost, and so is the connection.
        """
        self._rest += data
        buffer, at, found = self._rest, 0, []
        while len(buffer) - at >= HEADER_BYTES:
            size = int.from_bytes(buffer[at + 1 : at + HEADER_BYTES], "big")
            if size > FRAME_BYTES_MAX:
                del buffer[HEADER_BYTES:]
                buffer[1:HEADER_BYTES] = size.to_bytes(HEADER_BYTES - 1, "big")
                raise WireError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are allowed")
            end = at + HEADER_BYTES + size
            if end > len(buffer):
                break
            found.append((buffer[at], bytes(buffer[at + HEADER_BYTES : end])))
            at = end
        del buffer[:at]
        return found
