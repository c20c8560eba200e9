"""The n-th picture shown takes the place of the n-th decoded."""

from hypothesis import given
from hypothesis import strategies as st

from media.transcode.places import PLACES_MAX, Places


def test_without_reordering_everything_stays() -> None:
    places = Places()
    for number in range(5):
        places.add(number, number * 3000, keyframe=number == 0)
    assert [places.take(number * 3000) for number in range(5)] == [
        (number, number == 0) for number in range(5)
    ]
    assert places.take(0) is None


def test_b_frames_take_places_in_order() -> None:
    places = Places()
    for number, (pts, keyframe) in enumerate([(0, True), (3, False), (1, False), (2, False), (6, True)]):
        places.add(number, pts, keyframe=keyframe)
    assert [places.take(pts) for pts in (0, 1, 2, 3, 6)] == [
        (0, True), (1, False), (2, False), (3, False), (4, True)
    ]  # fmt: skip


def test_leading_pictures_of_an_open_group_keep_the_keyframe_at_its_place() -> None:
    places = Places()
    for number, (pts, keyframe) in enumerate([(10, True), (8, False), (9, False), (13, False)]):
        places.add(number, pts, keyframe=keyframe)
    assert [places.take(pts) for pts in (8, 9, 10, 13)] == [(0, True), (1, False), (2, False), (3, False)]


def test_a_lost_keyframe_is_made_up_for_by_the_next_picture() -> None:
    places = Places()
    for number in range(3):
        places.add(number, number, keyframe=number == 0)
    assert places.take(1) == (1, True)
    assert places.take(5) is None
    assert places.take(2) == (2, False)


def test_pictures_that_never_come_are_forgotten() -> None:
    places = Places()
    for number in range(10 * PLACES_MAX):
        places.add(number, number, keyframe=False)
    assert places.take(10 * PLACES_MAX - 1) == (10 * PLACES_MAX - 1, False)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
def test_no_decoding_time_is_after_its_presentation(order: list[int], missing: set[int]) -> None:
    """`order`: presentation times as decoded, each at least its decoding time by a shift."""
    shift = max(number - pts for number, pts in enumerate(order))
    places = Places()
    for number, pts in enumerate(order):
        places.add(number, pts + shift, keyframe=False)
    for pts in range(12):
        if pts not in missing:
            place = places.take(pts + shift)
            assert place is not None
            assert place[0] <= pts + shift
