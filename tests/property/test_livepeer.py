"""What gateways answer is untrusted: garbage raises the errors that are promised, and nothing else."""

import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit/media/transcode/livepeer"))
from livepeer_sources import CONTENT_TYPE, cut, framed, made, source

from media.errors import WireError
from media.transcode.livepeer.demux import demux_video_untrusted
from media.transcode.livepeer.multipart import Part, boundary_untrusted, split_parts_untrusted
from media.transcode.livepeer.rendition import Rejected, examine_untrusted

SEGMENT = cut(source(60))[0]
RENDITION = made(SEGMENT)
ANSWER = framed([Part("180p", "video/mp2t", RENDITION)])
BOUNDARY = "94eaf473f7957940e066"

edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 200), st.binary(max_size=8)), min_size=1, max_size=6
)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Pieces are replaced, also by shorter and longer ones."""
    for where, length, piece in changes:
        at = int(where * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


def overwritten(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes change, the length stays."""
    for where, _, piece in changes:
        at = int(where * (len(data) - 8))
        data = data[:at] + piece + data[at + len(piece) :]
    return data


@given(st.binary(max_size=400), st.text(st.characters(max_codepoint=255), max_size=80))
def test_garbage_is_rejected(body: bytes, content_type: str) -> None:
    with pytest.raises(Rejected):
        examine_untrusted(SEGMENT, content_type, body)
    with pytest.raises(Rejected):
        examine_untrusted(SEGMENT, CONTENT_TYPE, f"--{BOUNDARY}".encode() + body)
    try:
        boundary_untrusted(content_type)
    except WireError:
        pass


@given(edits)
def test_a_changed_answer_is_rejected_or_taken(changes: list[tuple[float, int, bytes]]) -> None:
    for body in (edited(ANSWER, changes), overwritten(ANSWER, changes)):
        try:
            renditions = examine_untrusted(SEGMENT, CONTENT_TYPE, body)
        except Rejected:
            continue
        places = [picture.place for picture in renditions[0].pictures]
        assert places == sorted(set(places))
        assert all(picture.pts >= SEGMENT.packets[picture.place].dts for picture in renditions[0].pictures)


@given(edits)
def test_a_changed_rendition_parses_or_is_a_wire_error(changes: list[tuple[float, int, bytes]]) -> None:
    for data in (overwritten(RENDITION, changes), edited(RENDITION, changes)):
        try:
            demux_video_untrusted(data[: len(data) // 188 * 188])
        except WireError:
            pass


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=20), st.binary(max_size=400)
        ),
        max_size=5,
    )
)
def test_parts_come_back_as_they_were(parts: list[tuple[str, bytes]]) -> None:
    wanted = [Part(name, "video/mp2t", data) for name, data in parts]
    body = framed(wanted)
    if not wanted:
        body = body[2:]
    assert split_parts_untrusted(body, BOUNDARY, part_bytes_max=400) == wanted


@given(st.integers(0, 1 << 40), st.integers(0, 1000))
def test_any_start_gives_the_same_transport_stream(start: int, seed: int) -> None:
    count = Random(seed).randint(1, 20)
    early, late = cut(source(count)), cut(source(count, start=start))
    assert [segment.body for segment in early] == [segment.body for segment in late]
