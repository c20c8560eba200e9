"""HTML of the home, watch and embed pages. Pure.

No inline scripts or styles, so that CONTENT_SECURITY_POLICY holds: what the scripts need is
in data- attributes and in the page's own address (`?token=`, `?transport=`). All paths are
absolute and without host, as a node has many names.
"""

import html
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

# hls.js and Media Source Extensions use blob: for media only. Anyone may embed the embed page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'"
)
PLAYER_FILES = (
    "buffer.js",
    "choice.js",
    "codecs.js",
    "controls.js",
    "hls-adapter.js",
    "home.js",
    "icons.svg",
    "latency.js",
    "logo.svg",
    "page.css",
    "player.js",
    "quality.js",
    "share.js",
    "websocket.js",
)
HLS_SCRIPT = "hls.min.js"  # fetched at set-up, not part of this project
PLAYER_PATH = "/player"
CLOCK_PATH = "/healthz"  # a small answer with a Date


class Listed(msgspec.Struct, frozen=True):
    """A stream as the home page shows it."""

    name: str
    live: bool
    viewers: int


def home_page(streams: Sequence[Listed], *, node: str = "") -> bytes:
    """What is live here; `node` is this node's name for people."""
    live = sum(stream.live for stream in streams)
    if streams:
        lead = f"{live} {'stream' if live == 1 else 'streams'} live on this node"
        listed = "".join(_card(stream) for stream in streams)
        body = f'<h1>Live now</h1><p class="lead">{lead}</p><ul class="streams">{listed}</ul>'
    else:
        body = _EMPTY
    head = f'<script type="module" src="{PLAYER_PATH}/home.js"></script>'
    return _page(node or "fwnode", head, f"{_top(node)}<main>{body}</main>", "home")


def watch_page(stream: str, *, node: str = "", hls_script: bool = True) -> bytes:
    """The page for people: player, addresses to share. `hls_script`: HLS_SCRIPT is served."""
    name = html.escape(stream)
    addresses = "".join(_address(*row) for row in _addresses(stream))
    body = (
        f'{_top(node)}<main>{_player(stream, hls_script)}<div class="about"><h1>{name}</h1></div>'
        f'<details class="share"><summary>Share, embed, other players</summary><dl>{addresses}</dl>'
        f"{_KEYS}</details></main>"
    )
    head = f'{_PLAYER_SCRIPT}<script type="module" src="{PLAYER_PATH}/share.js"></script>'
    return _page(stream, head, body, "watch")


def embed_page(stream: str, *, hls_script: bool = True) -> bytes:
    """The player alone, filling its frame."""
    return _page(stream, _PLAYER_SCRIPT, _player(stream, hls_script), "embed")


def _page(title: str, head: str, body: str, kind: str) -> bytes:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">'
        f"<title>{html.escape(title)}</title>"
        f'<link rel="icon" type="image/svg+xml" href="{PLAYER_PATH}/logo.svg">'
        f'<link rel="stylesheet" href="{PLAYER_PATH}/page.css">{head}</head>'
        f'<body class="{kind}">{body}</body></html>\n'
    ).encode()


def _top(node: str) -> str:
    return (
        f'<header class="top"><a class="brand" href="/"><img src="{PLAYER_PATH}/logo.svg" alt="">fwnode</a>'
        f'<span class="node">{html.escape(node)}</span></header>'
    )


def _card(stream: Listed) -> str:
    path, name = quote(stream.name, safe=""), html.escape(stream.name)
    badge = '<span class="badge">LIVE</span>' if stream.live else '<span class="badge off">OFF</span>'
    still = f'<img src="/live/{path}/poster.jpg" alt="" loading="lazy">' if stream.live else ""
    watching = f"{stream.viewers} watching" if stream.live else "not live now"
    return (
        f'<li><a href="/watch/{path}"><span class="still">'
        f"{still}{badge}</span>"
        f'<span class="name">{name}</span><span class="viewers">{watching}</span></a></li>'
    )


def _addresses(stream: str) -> list[tuple[str, str, str]]:
    """(what it is, path, form) of everything worth copying."""
    path = quote(stream, safe="")
    return [
        ("Link", f"/watch/{path}", ""),
        ("Embed", f"/embed/{path}", "embed"),
        ("HLS", f"/live/{path}/index.m3u8", ""),
        ("MP4", f"/live/{path}.mp4", ""),
        ("MPEG-TS", f"/live/{path}.ts", ""),
    ]


def _address(label: str, path: str, form: str) -> str:
    return (
        f'<div data-copy="{html.escape(path)}" data-form="{form}"><dt>{label}</dt>'
        f'<dd><code>{html.escape(path)}</code></dd><button type="button">Copy</button></div>'
    )


def _icon(name: str) -> str:
    return f'<svg aria-hidden="true"><use href="{PLAYER_PATH}/icons.svg#{name}"></use></svg>'


def _button(part: str, label: str, icon: str) -> str:
    return (
        f'<button type="button" class="icon {part}" data-part="{part}" aria-label="{label}" title="{label}">'
        f"{_icon(icon)}</button>"
    )


def _player(stream: str, hls_script: bool) -> str:
    name, path = html.escape(stream), quote(stream, safe="")
    script = f"{PLAYER_PATH}/{HLS_SCRIPT}" if hls_script else ""
    return (
        f'<section class="player active" data-state="connecting" tabindex="-1" '
        f'aria-label="Live video: {name}" data-stream="{name}" data-ws="/live/{path}/ws" '
        f'data-hls="/live/{path}/index.m3u8" data-poster="/live/{path}/poster.jpg" '
        f'data-hls-script="{script}" data-clock="{CLOCK_PATH}" data-qoe="/qoe/{path}">'
        f'<video playsinline muted aria-label="{name}"></video>'
        f'<div class="surface" data-part="surface"></div>{_cover(path)}'
        f'<button type="button" class="chip tap" data-part="tap" hidden>{_icon("muted")}Tap for sound'
        "</button>"
        f"{_BAR}{_DETAILS}</section>{_noscript(path)}"
    )


def _cover(path: str) -> str:
    return (
        '<div class="cover" data-part="cover"><div class="spinner"></div>'
        '<div role="status" aria-live="polite"><h2 data-part="cover-title" hidden></h2>'
        '<p data-part="cover-text" hidden></p></div>'
        '<button type="button" class="big" data-part="big-play" aria-label="Play" hidden>'
        f"{_icon('play')}</button>"
        '<button type="button" class="chip" data-part="retry" hidden>Try now</button>'
        f'<p class="links" data-part="links" hidden><a href="/live/{path}/index.m3u8">HLS for VLC or mpv</a>'
        f'<a href="/live/{path}.ts">MPEG-TS</a></p></div>'
    )


def _noscript(path: str) -> str:
    return (
        f'<noscript><p>This player needs JavaScript. Without it: <a href="/live/{path}.mp4">MP4</a>, '
        f'<a href="/live/{path}/index.m3u8">HLS</a>.</p></noscript>'
    )


_PLAYER_SCRIPT = f'<script type="module" src="{PLAYER_PATH}/player.js"></script>'
_BAR = (
    '<div class="bar" data-part="bar" role="group" aria-label="Player controls">'
    + _button("play", "Pause", "pause")
    + _button("mute", "Unmute", "muted")
    + '<input class="volume" data-part="volume" type="range" min="0" max="1" step="0.01" aria-label="Volume">'
    '<button type="button" class="live" data-part="live" title="Jump to live (→)">LIVE '
    '<span data-part="latency" aria-label="latency"></span></button><span class="gap"></span>'
    '<select data-part="quality" aria-label="Quality" hidden></select>'
    '<select data-part="transport" aria-label="Delivery"></select>'
    '<button type="button" class="icon" data-part="info" aria-label="Details" aria-expanded="false" '
    f'title="Details (i)">{_icon("info")}</button>'
    + _button("pip", "Picture in picture", "pip")
    + _button("fullscreen", "Full screen", "expand")
    + "</div>"
)
_DETAILS = (
    '<aside class="details" data-part="details" aria-label="Details" hidden><header>Details'
    f'<button type="button" data-part="close-details" aria-label="Close">{_icon("close")}</button></header>'
    '<dl data-part="figures"></dl><ol data-part="log"></ol></aside>'
)
_KEYS = (
    '<p class="keys">Keys: <kbd>k</kbd> or <kbd>space</kbd> play and pause, <kbd>m</kbd> sound, '
    "<kbd>↑</kbd> <kbd>↓</kbd> volume, <kbd>→</kbd> jump to live, <kbd>f</kbd> full screen, "
    "<kbd>i</kbd> details</p>"
)
_EMPTY = (
    '<div class="empty"><h2>Nothing is live here right now</h2>'
    "<p>Point OBS at this node with a stream key from <code>fwnode key new</code>, "
    "or start it with <code>--demo</code>.</p><p>This page shows streams as they begin.</p></div>"
)
