"""The HTML of the public pages."""

import html.parser
from pathlib import Path

import pytest

from media.deliver import pages

EVIL = "<script>\"'&"
PLAYER = Path(pages.__file__).parent / "player"


class Page(html.parser.HTMLParser):
    """Elements of a page, and whether every one is closed."""

    VOID = frozenset(("meta", "link", "img", "input", "br"))

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(body.decode())
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def all_pages(name: str) -> list[bytes]:
    return [
        pages.home_page([pages.Listed(name, True, 3), pages.Listed(name, False, 0)], node=name),
        pages.home_page([], node=name),
        pages.watch_page(name, node=name),
        pages.embed_page(name),
    ]


@pytest.mark.parametrize("body", all_pages("demo") + all_pages(EVIL))
def test_pages_are_well_formed_and_hold_no_inline_code(body: bytes) -> None:
    page = Page(body)
    assert all(script.get("src", "").startswith("/player/") for script in page.every("script"))  # type: ignore[union-attr]
    assert not page.every("style")
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_names_are_escaped() -> None:
    for body in all_pages(EVIL):
        assert b'<script>"' not in body
        assert EVIL in Page(body).text or body == pages.embed_page(EVIL) or b"&lt;script" in body
    player = next(a for t, a in Page(pages.watch_page(EVIL)).elements if "data-stream" in a)
    assert player["data-stream"] == EVIL
    assert player["data-ws"] == "/live/%3Cscript%3E%22%27%26/ws"


def test_the_player_is_told_where_everything_is() -> None:
    section = next(a for t, a in Page(pages.embed_page("demo")).elements if "data-stream" in a)
    assert section["data-hls"] == "/live/demo/index.m3u8"
    assert section["data-hls-script"] == "/player/hls.min.js"
    without = next(
        a for t, a in Page(pages.embed_page("demo", hls_script=False)).elements if "data-stream" in a
    )
    assert without["data-hls-script"] == ""


def test_the_home_page_lists_live_and_waiting_streams() -> None:
    page = Page(pages.home_page([pages.Listed("one", True, 7), pages.Listed("two", False, 0)], node="attic"))
    assert [link["href"] for link in page.every("a")][1:] == ["/watch/one", "/watch/two"]
    assert "7 watching" in page.text
    assert "1 stream live on this node" in page.text
    assert [image["src"] for image in page.every("img")][1:] == ["/live/one/poster.jpg"]


def test_every_file_that_pages_and_modules_ask_for_is_listed() -> None:
    assert sorted(pages.PLAYER_FILES) == sorted(path.name for path in PLAYER.iterdir())
    for path in PLAYER.glob("*.js"):
        for line in path.read_text().splitlines():
            if line.startswith("import "):
                assert line.split('"./')[1].rstrip('";') in pages.PLAYER_FILES


def test_every_icon_that_is_used_is_drawn() -> None:
    icons = (PLAYER / "icons.svg").read_text()
    used = {use["href"].partition("#")[2] for use in Page(pages.watch_page("demo")).every("use")}  # type: ignore[union-attr]
    for name in used | {"play", "pause", "sound", "muted", "expand", "shrink"}:
        assert f'<symbol id="{name}"' in icons
