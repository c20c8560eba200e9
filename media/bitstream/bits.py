"""Read bit fields, most significant bit first. Pure."""

from media.errors import WireError

# ue(v) codes of up to 32 bits (ITU-T H.264 9.1): more leading zeros never occur.
MAX_GOLOMB_ZEROS = 32


class BitReader:
    """A cursor over bits; every read past the end raises WireError.

    The whole input becomes one integer: give it headers (up to some kilobytes), not frames.
    """

    __slots__ = ("_value", "left")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self.left = len(data) * 8  # bits not yet read

    def u(self, count: int) -> int:
        """`count` bits as an unsigned integer: u(n), f(n)."""
        left = self.left - count
        if left < 0:
            raise WireError("a codec header ends early")
        self.left = left
        return (self._value >> left) & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.u(1) == 1

    def skip(self, count: int) -> None:
        if count > self.left:
            raise WireError("a codec header ends early")
        self.left -= count

    def align(self) -> None:
        """Go on to the next byte's first bit."""
        self.left -= self.left % 8

    def ue(self) -> int:
        """Unsigned Exp-Golomb code (ITU-T H.264 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > MAX_GOLOMB_ZEROS:
                raise WireError("an Exp-Golomb code is too long")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Signed Exp-Golomb code (ITU-T H.264 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)

    def uvlc(self) -> int:
        """AV1's uvlc() (AV1 4.10.3): the same code, but 32 zeros or more mean 2^32 - 1."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << 32) - 1 if zeros >= 32 else (1 << zeros) - 1 + self.u(zeros)
