"""How large a rendition comes out: LPMS `ffmpeg/ffmpeg.go` 600-636."""

MINIMUM = (146, 50)  # width, height that NVENC takes for H.264
MAXIMUM = 4096


def rendition_size(source: tuple[int, int], asked: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a rendition; the source's aspect is kept, so it may differ from what was asked.

    The larger number asked for becomes the source's larger side: portrait sources turn the request.
    """
    least_w, least_h = MINIMUM
    longest = max(min(max(asked[0], least_w), MAXIMUM), min(max(asked[1], least_h), MAXIMUM))
    width, height = source
    if width >= height:
        out_w, out_h = longest, _other(longest, height, width)
        if out_h < least_h:
            out_w, out_h = _other(least_h, width, height), least_h
    else:
        out_w, out_h = _other(longest, width, height), longest
        if out_w < least_w:
            out_w, out_h = least_w, _other(least_w, height, width)
    return out_w & ~1, out_h & ~1


def _other(side: int, numerator: int, denominator: int) -> int:
    # ffmpeg's -2: the aspect's other side, to the nearest even number.
    return 2 * ((side * numerator + denominator) // (2 * denominator))
