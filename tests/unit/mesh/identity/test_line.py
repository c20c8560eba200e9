"""One line, whatever happens to it on the way, and what is said when too much did."""

import pytest

from mesh.errors import WireError
from mesh.identity.line import LINE_CHARACTERS_MAX, read_line_untrusted, write_line

CONTENT = bytes(range(100))
LINE = write_line("fwtest", 1, CONTENT)


def read(text: str) -> bytes:
    return read_line_untrusted("fwtest", 1, text, "a test line")


def refusal(text: str) -> str:
    with pytest.raises(WireError) as raised:
        read(text)
    return str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        LINE.upper(),
        f"  {LINE}\r\n",
        f'"{LINE}"',
        f"`{LINE}`",
        f"<{LINE}>",
        f"{LINE[:40]}\n{LINE[40:80]}\n    {LINE[80:]}",
        "\u200b" + LINE + "\ufeff",
        LINE[:7] + LINE[7:].replace("1", "l").replace("0", "O"),
        LINE[:7] + LINE[7:].replace("1", "I").replace("0", "o"),
    ],
)
def test_what_copying_does_is_undone(text: str) -> None:
    assert read(text) == CONTENT


def test_only_letters_and_digits() -> None:
    assert LINE.isalnum()
    assert LINE.islower()


@pytest.mark.parametrize("length", range(1, 12))
def test_every_length(length: int) -> None:
    content = b"\xff" * length
    assert read(write_line("fwtest", 1, content)) == content


def test_every_cut_is_called_cut_off() -> None:
    for end in range(len("fwtest"), len(LINE)):
        assert "cut off" in refusal(LINE[:end]), end


def test_every_wrong_character_is_called_mistyped() -> None:
    said = set()
    for at in range(len("fwtest1"), len(LINE)):
        wrong = "7" if LINE[at] != "7" else "8"
        said.add(refusal(LINE[:at] + wrong + LINE[at + 1 :]))
    assert all("mistyped" in text for text in said)


def test_impossible_character() -> None:
    assert "character 10 ('!')" in refusal(LINE[:9] + "!" + LINE[10:])
    assert "mistyped" in refusal(LINE[:9] + "u" + LINE[10:])
    assert "'\\xe9'" in refusal(LINE[:9] + "é" + LINE[10:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("hello", "a test line begins with fwtest1"),
        (LINE[3:], "is not a test line"),
        ("fwother1abc", "is not a test line"),
        ("fwtest2" + LINE[7:], "another version"),
        ("fwtestx" + LINE[7:], "mistyped"),
        (LINE + "00", "2 characters too many"),
        (LINE + LINE, "too many"),
        ("fwtest1" + "0" * LINE_CHARACTERS_MAX, "longer than any"),
    ],
)
def test_what_is_said(text: str, said: str) -> None:
    assert said in refusal(text)


def test_the_line_is_never_repeated() -> None:
    for text in (LINE[:-1], LINE + "0", LINE[:20] + "x" + LINE[21:], "x" + LINE):
        assert LINE[8:16] not in refusal(text)


def test_nothing_inside() -> None:
    assert "mistyped" in refusal(_empty_line())


def _empty_line() -> str:
    """A line of no content that is right in every other way."""
    from mesh.identity import line

    length = bytes(2)
    data = length + line._sum("fwtest1", length, 1) + line._sum("fwtest1", length, 5)
    return "fwtest1" + line._to_base32(data)
