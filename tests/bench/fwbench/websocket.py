"""As much of WebSocket framing as a viewer needs: skip payloads, find pings. Pure.

Source: RFC 6455 5.2, 5.5.
"""

_PING, _CLOSE = 9, 8
_LONGEST_CONTROL_BYTES = 125


class FrameReader:
    """Walks over a server's frames whatever their cut; payloads of data frames are skipped unseen."""

    def __init__(self) -> None:
        self._skip = 0  # bytes of a data payload still to come
        self._held = b""  # an unfinished header or control frame

    def receive(self, data: memoryview) -> list[bytes]:
        """Payloads of the pings in `data`. Raises ValueError when the server says close."""
        pings: list[bytes] = []
        if self._held:
            data, self._held = memoryview(self._held + bytes(data)), b""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            used = self._frame(data[at:], pings)
            if not used:
                self._held = bytes(data[at:])
                break
            at += used
        return pings

    def _frame(self, data: memoryview, pings: list[bytes]) -> int:
        """Bytes used by a header (and a control frame's payload); 0 when it is not whole."""
        if len(data) < 2:
            return 0
        opcode, size, start = data[0] & 15, data[1] & 127, 2
        if size > _LONGEST_CONTROL_BYTES:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return 0
            size = int.from_bytes(data[2:start], "big")
        if opcode < _CLOSE:
            self._skip = size
            return start
        if len(data) < start + size:
            return 0
        if opcode == _CLOSE:
            raise ValueError(f"closed by the server: {bytes(data[start + 2 : start + size])!r}")
        if opcode == _PING:
            pings.append(bytes(data[start : start + size]))
        return start + size


def pong(payload: bytes) -> bytes:
    """A masked pong; the mask of zeros keeps the payload as it is."""
    return bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload
