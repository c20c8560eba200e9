"""Sizes of renditions."""

import pytest
from livepeer_gateway.geometry import rendition_size


@pytest.mark.livepeer("7.3")
@pytest.mark.parametrize(
    ("source", "asked", "expected"),
    [
        ((1920, 1080), (640, 360), (640, 360)),
        ((1080, 1920), (640, 360), (360, 640)),
        ((1920, 1080), (426, 240), (426, 240)),
        ((1920, 800), (640, 360), (640, 266)),
        ((1920, 1080), (360, 640), (640, 360)),
        ((1920, 1080), (64, 36), (146, 82)),
        ((4000, 1000), (146, 50), (200, 50)),
        ((1000, 4000), (146, 50), (146, 584)),
        ((1920, 1080), (9000, 9000), (4096, 2304)),
        ((640, 640), (360, 240), (360, 360)),
    ],
)
def test_size(source: tuple[int, int], asked: tuple[int, int], expected: tuple[int, int]) -> None:
    assert rendition_size(source, asked) == expected
