"""The demo's beep."""

from array import array

from fwnode.demo.sound import FRAME_SAMPLES, SAMPLE_RATE, Sound

SOUND = Sound()


def loudness(position: int) -> float:
    return max(abs(sample) for sample in array("f", SOUND.frame(position)))


def test_beeps_at_full_seconds_only() -> None:
    for second in range(12):
        assert loudness(second * SAMPLE_RATE + 500) > 0.3
        assert loudness(second * SAMPLE_RATE + SAMPLE_RATE // 2) < 0.05


def test_never_silent_so_that_dropouts_are_heard() -> None:
    assert loudness(SAMPLE_RATE // 2) > 0.005


def test_repeats_without_a_seam() -> None:
    period = 10 * SAMPLE_RATE
    assert len(SOUND.frame(period - 1)) == FRAME_SAMPLES * 4
    assert SOUND.frame(period - 1)[4:] == SOUND.frame(0)[:-4]
    assert SOUND.frame(3 * period + 77) == SOUND.frame(77)
