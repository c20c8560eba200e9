"""What a speed test is asked and what it found. Pure."""

import msgspec

OBJECT_BYTES = 256 << 10
BYTES_MAX = 1 << 30
BYTES = 100_000_000
SPEED = "speed"  # the service
TEST_S = 60.0  # for the transfer; what has come then is the result


class SpeedPath(msgspec.Struct, frozen=True):
    """From which object on a path was used."""

    path: str  # "relayed via NAME", "punched", "direct", "lan"
    first: int


class SpeedResult(msgspec.Struct, frozen=True):
    """What came of a test."""

    node: str
    name: str
    bytes: int  # that came, in order
    complete: bool  # all that was asked for came in time
    seconds: float  # from the request to the last byte
    bytes_per_s: float
    first_object_s: float  # from the request to its end
    longest_gap_s: float  # between two objects
    objects: int
    duplicates: int  # came again after a move, and were dropped
    moves: int
    paths: list[SpeedPath]
    sha256: str  # of what came
    intact: bool  # whether that is what was to come
    trouble: str = ""  # why no more came
