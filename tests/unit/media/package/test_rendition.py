"""Which media playlists a set of tracks makes."""

from media.package.rendition import rendition_of, renditions_of
from media.track.model import Codec, Track
from media.track.stream import Section


def video(number: int, init: int = 0) -> Track:
    return Track(number, Codec.H264, 90_000, b"", init)


def audio(number: int, init: int = 0) -> Track:
    return Track(number, Codec.AAC, 48_000, b"", init)


def made(*tracks: Track) -> list[tuple[str, list[int], bool]]:
    return [
        (rendition.name, [track.id for track in rendition.tracks], rendition.audio_group)
        for rendition in renditions_of(Section(0, tracks, 0, 0))
    ]


def test_one_picture_one_sound() -> None:
    assert made(video(1), audio(2)) == [("v1", [1, 2], False), ("a2", [2], False)]


def test_several_pictures_one_sound() -> None:
    assert made(video(1), video(2), audio(3)) == [
        ("v1", [1, 3], False),
        ("v2", [2, 3], False),
        ("a3", [3], False),
    ]


def test_sound_without_its_picture_is_marked_as_such() -> None:
    section = Section(0, (video(1), audio(2)), 0, 0)
    assert [rendition.sound_only for rendition in renditions_of(section)] == [False, True]
    assert not any(rendition.sound_only for rendition in renditions_of(Section(0, (audio(1),), 0, 0)))


def test_several_sounds_are_a_group() -> None:
    assert made(video(1), audio(2), audio(3)) == [("v1", [1], False), ("a2", [2], True), ("a3", [3], True)]


def test_sound_alone() -> None:
    assert made(audio(1)) == [("a1", [1], False)]
    assert made(audio(1), audio(2)) == [("a1", [1], False), ("a2", [2], False)]


def test_nothing() -> None:
    assert made() == []


def test_the_init_is_that_of_the_newest_track() -> None:
    section = Section(0, (video(1, 7), audio(2, 9)), 0, 0)
    rendition = rendition_of(section, "v1")
    assert rendition is not None and rendition.init == 9
    assert rendition_of(section, "a3") is None
