"""URLs to manifest IDs and sequence numbers, quirks and all."""

import pytest
from livepeer_gateway.naming import Target, atoi, clean_path, target_of


@pytest.mark.livepeer("3.1")
@pytest.mark.parametrize(
    ("path", "manifest_id"),
    [
        ("/live/movie/12.ts", "movie"),
        ("/live/a/b/3.ts", "a"),
        ("/live/foo.bar/3.ts", "foo.bar"),
        ("/live/stream/3.ts", "stream"),
        ("/live/mylive/0.ts", "my0"),
        ("/live/olive/x/4.ts", "ox"),
        ("/live/live/3.ts", "3"),
        ("/live/3.ts", "3"),
        ("/live/.ts", ""),
        ("/live//3.ts", ""),
    ],
)
def test_manifest_id(path: str, manifest_id: str) -> None:
    assert target_of(path).manifest_id == manifest_id


@pytest.mark.livepeer("3.2")
@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("12", 12),
        ("007", 7),
        ("-1", 0),
        ("+1", 0),
        ("abc", 0),
        ("1.5", 0),
        ("1_0", 0),
        ("", 0),
        ("٣", 0),
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), 0),
        ("9" * 5000, 0),
    ],
)
def test_sequence(name: str, sequence: int) -> None:
    assert target_of(f"/live/movie/{name}.ts").sequence == sequence


def test_container() -> None:
    assert target_of("/live/movie/1.mp4") == Target("movie", 1, ".mp4")
    assert target_of("/live/foo.bar/1").extension == ""


@pytest.mark.livepeer("3.3")
def test_paths_are_cleaned_as_the_mux_does() -> None:
    assert clean_path("/live//3.ts") == "/live/3.ts"
    assert clean_path("/live/a/../b/3.ts") == "/live/b/3.ts"
    assert clean_path("//live/a/3.ts") == "/live/a/3.ts"
    assert clean_path("/live/a/") == "/live/a/"
    assert clean_path("/live/a/3.ts") == "/live/a/3.ts"


def test_atoi_is_that_of_go() -> None:
    assert [atoi(text, 7) for text in ("5", "-5", "+5")] == [5, -5, 5]
    assert {atoi(text, 7) for text in ("", " 5", "5.0", "1e3", "0x1", str(2**63), "9" * 99)} == {7}
