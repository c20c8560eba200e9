"""The demo's sound: a soft chord, whose dropouts can be heard, and a beep at each full second. Pure."""

import math
from array import array

SAMPLE_RATE = 48_000
FRAME_SAMPLES = 1024  # of one AAC-LC frame
_PERIOD_S = 10
_BEEP_S = 0.1
_BEEP_HZ, _TENTH_BEEP_HZ = 880, 1320
_BEEP_LEVEL, _CHORD_LEVEL = 0.4, 0.012
_CHORD_HZ = (165, 220, 277)  # whole numbers: one second of them repeats without a click
_FADE_S = 0.005


class Sound:
    """Ten seconds of mono float samples that repeat; the first beep of the ten is higher."""

    def __init__(self) -> None:
        second = array("f", map(_chord, range(SAMPLE_RATE)))
        samples = array("f")
        for number in range(_PERIOD_S):
            samples += _with_beep(second, _BEEP_HZ if number else _TENTH_BEEP_HZ)
        self._bytes = (samples + samples[:FRAME_SAMPLES]).tobytes()

    def frame(self, position: int) -> bytes:
        """FRAME_SAMPLES native 32-bit floats from sample `position` on; position 0 is a full ten seconds."""
        at = position % (SAMPLE_RATE * _PERIOD_S) * 4
        return self._bytes[at : at + FRAME_SAMPLES * 4]


def _chord(sample: int) -> float:
    return _CHORD_LEVEL * sum(math.sin(math.tau * hz * sample / SAMPLE_RATE) for hz in _CHORD_HZ)


def _with_beep(second: "array[float]", hz: int) -> "array[float]":
    sounding = second[:]
    for sample in range(int(_BEEP_S * SAMPLE_RATE)):
        at = sample / SAMPLE_RATE
        fade = min(1.0, at / _FADE_S, (_BEEP_S - at) / _FADE_S)
        sounding[sample] += _BEEP_LEVEL * fade * math.sin(math.tau * hz * at)
    return sounding
