"""Every setting of a node, declared once: TOML file, environment and options make one frozen Config.

Pure: the caller reads the file and the environment. Later sources win: default, file,
environment, option. A setting's metadata (unit, range, help) stands beside its type and is
what `--help`, the control API, error messages and the documentation show.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from fwnode.address import parse_address
from fwnode.errors import ConfigError
from fwnode.setting import ENVIRONMENT_PREFIX, OFF, Detail, Setting, checked, typed

# Environment variables with our prefix that are not settings.
ENVIRONMENT_OTHERS = frozenset(
    ("FWNODE_CONFIG", "FWNODE_ADMIN_PASSWORD", "FWNODE_OWNER_PASSPHRASE", "FWNODE_PLAYER_DIR")
)


class Ingest(msgspec.Struct, frozen=True):
    """Who may publish, and what happens when they go."""

    open: Annotated[bool, Detail("Accept publishers without a stream key.")] = False
    takeover: Annotated[
        Literal["takeover", "refuse"],
        Detail("A second publisher of a live stream: takes it over, or is refused."),
    ] = "takeover"
    linger_s: Annotated[
        float,
        Detail("A publisher that comes back within this time continues its stream.", "s", 0, 300),
    ] = 10.0
    idle_s: Annotated[
        float, Detail("A publisher that sends nothing for this long is disconnected.", "s", 1, 300)
    ] = 15.0


class Hls(msgspec.Struct, frozen=True):
    """How a stream is cut for HLS."""

    part_s: Annotated[float, Detail("Target duration of a part (LL-HLS).", "s", 0.2, 1.0)] = 0.5
    segment_s: Annotated[
        float, Detail("Target duration of a segment; it ends at the next keyframe.", "s", 1, 10)
    ] = 2.0
    window_s: Annotated[float, Detail("How far back a viewer may seek in a live stream.", "s", 6, 120)] = 12.0


class Deliver(msgspec.Struct, frozen=True):
    """How progressive streams are sent."""

    flush_ms: Annotated[
        float,
        Detail(
            "Time between two chunks of a progressive stream; 0: as little as the viewers' number allows.",
            "ms",
            0,
            1000,
        ),
    ] = 0.0


class Transcode(msgspec.Struct, frozen=True):
    """Which renditions the node makes of streams that are published to it."""

    ladder: Annotated[
        str,
        Detail(
            "Renditions beside the source itself; those that are not smaller than it are left out.",
            shape="ladder",
        ),
    ] = OFF
    latency: Annotated[
        Literal["low", "quality"],
        Detail("Low: pictures leave an encoder at once. Quality: it looks 20 pictures ahead, for less bits."),
    ] = "low"
    preset: Annotated[
        Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"],
        Detail("Speed of x264: slower ones look better at the same bitrate."),
    ] = "veryfast"
    engine: Annotated[
        Literal["software", "auto"],
        Detail("Auto: encoders of graphics cards come first where they were seen to work (fwnode devices)."),
    ] = "software"
    threads: Annotated[
        int, Detail("Threads of one stream's encoders together; 0: as many as there are cores.", "", 0, 64)
    ] = 0
    streams: Annotated[
        int,
        Detail("Streams that get renditions at once, until it was measured how many can.", "", 1, 64),
    ] = 2
    on_demand: Annotated[bool, Detail("Make renditions only while somebody watches one of them.")] = False


class Limits(msgspec.Struct, frozen=True):
    """What the node refuses beyond."""

    connections: Annotated[int, Detail("Open connections on each public listener.", "", 1, 100_000)] = 10_000


class Relay(msgspec.Struct, frozen=True):
    """What the node forwards between members that cannot reach each other."""

    total_mbps: Annotated[
        float,
        Detail("Most that the node forwards for others, all pairs together; 0: none.", "Mb/s", 0, 100_000),
    ] = 50.0
    pair_mbps: Annotated[
        float, Detail("Most that the node forwards for one pair of members.", "Mb/s", 0.1, 100_000)
    ] = 20.0


class Nat(msgspec.Struct, frozen=True):
    """How other nodes get through the router before this one."""

    portmap: Annotated[
        bool,
        Detail(
            "Have the router open the mesh port (PCP, NAT-PMP, UPnP), where mesh is at a wildcard address."
        ),
    ] = True


class Geoip(msgspec.Struct, frozen=True):
    """Where addresses are, and where this node is."""

    database: Annotated[
        str,
        Detail("A city database of your own (MMDB: MaxMind, DB-IP); empty: the fetched one.", shape="path"),
    ] = ""
    place: Annotated[
        str,
        Detail(
            'This node\'s place as "LATITUDE,LONGITUDE" in degrees; empty: found by its address.',
            shape="place",
        ),
    ] = ""
    url: Annotated[str, Detail("Where `fwnode geoip update` fetches an MMDB from, in place of MaxMind.")] = ""
    account_id: Annotated[str, Detail("MaxMind account for `fwnode geoip update`.")] = ""
    license_key: Annotated[str, Detail("MaxMind licence key of that account.", secret=True)] = ""


class Promise(msgspec.Struct, frozen=True):
    """What the node's owner gives, beside the uplink. Whoever is in stays; it is about who is new."""

    monthly_gb: Annotated[
        float,
        Detail(
            "Most that the node sends in a month of local time; then nobody new is let in. 0: not limited.",
            "GB",
            0,
            10_000_000,
        ),
    ] = 0.0
    quiet: Annotated[
        str,
        Detail(
            "Hours of local time in which no new viewers and nodes are let in; empty: none.", shape="hours"
        ),
    ] = ""
    quiet_mbps: Annotated[
        float,
        Detail("The uplink's budget in quiet hours, when smaller; 0: as ever.", "Mb/s", 0, 100_000),
    ] = 0.0
    streams: Annotated[
        str,
        Detail(
            "Streams of other nodes that this node serves and passes on; empty: all. Those that are "
            "published here are always served.",
            shape="stream patterns",
        ),
    ] = ""


class Log(msgspec.Struct, frozen=True):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Detail("Lowest level that is written.")
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Detail("Lines for people or for machines; auto is text on a terminal and json elsewhere."),
    ] = "auto"


class Config(msgspec.Struct, frozen=True):
    """All settings of one node, and where each that is not a default came from."""

    name: Annotated[str, Detail("The node's name, shown to people.", option=True)]
    data_dir: Annotated[
        str, Detail("Folder of the database, the stream keys and fwnode.toml.", shape="path", option=True)
    ]
    http: Annotated[
        str, Detail("Address for viewers: pages, HLS and progressive streams.", shape="address", option=True)
    ] = "0.0.0.0:8080"
    https: Annotated[str, Detail("Address for viewers with TLS.", shape="address or off", option=True)] = OFF
    https_cert: Annotated[
        str, Detail("Certificate chain for https, a PEM file.", shape="path", option=True)
    ] = ""
    https_key: Annotated[str, Detail("Private key for https, a PEM file.", shape="path", option=True)] = ""
    rtmp: Annotated[
        str, Detail("Address for RTMP, publishing and playing.", shape="address or off", option=True)
    ] = "0.0.0.0:1935"
    mesh: Annotated[
        str,
        Detail(
            "Address for other nodes of its network; [::] takes IPv4, too.",
            shape="address or off",
            option=True,
        ),
    ] = "[::]:7077"
    seed: Annotated[
        str,
        Detail(
            "Nodes to try first, host:port; the option is repeatable, elsewhere commas separate them.",
            shape="addresses",
            option=True,
        ),
    ] = ""
    announce: Annotated[
        str,
        Detail(
            "Addresses at which other nodes reach this one, when it cannot find out itself: a forwarded "
            "port, a DNS name.",
            shape="addresses",
        ),
    ] = ""
    public_url: Annotated[
        str,
        Detail(
            "Where viewers and publishers reach this node, when it cannot find out itself: "
            "http, https, rtmp and rtmps URLs without a path, separated by commas.",
            shape="urls",
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Detail(
            "Networks of proxies that are believed what they say of viewers' addresses (Forwarded, "
            "X-Forwarded-For).",
            shape="networks",
        ),
    ] = ""
    admin: Annotated[
        str, Detail("Address of the control API, the dashboard and metrics.", shape="address", option=True)
    ] = "127.0.0.1:7078"
    admin_password_hash: Annotated[
        str,
        Detail(
            "Password of the admin address as `fwnode config password` prints it; "
            "needed when that address is not loopback.",
            shape="password hash",
            secret=True,
        ),
    ] = ""
    uplink_mbps: Annotated[
        float,
        Detail(
            "Most that the node sends, as a mean over 10 s: viewers and nodes beyond it are turned away; "
            "0: not limited.",
            "Mb/s",
            0,
            100_000,
            option=True,
        ),
    ] = 0.0
    demo: Annotated[
        bool, Detail("Publish a test stream, `demo`; in a network one node does.", option=True)
    ] = False
    workers: Annotated[
        int,
        Detail(
            "Further processes that deliver by HTTP, as many as cores may be used; 0: the node does it.",
            "",
            0,
            64,
            option=True,
        ),
    ] = 0
    drain_s: Annotated[
        float,
        Detail(
            "Time that publishers and viewers get to leave when the node stops.", "s", 0, 3600, option=True
        ),
    ] = 5.0
    ingest: Ingest = Ingest()
    hls: Hls = Hls()
    deliver: Deliver = Deliver()
    transcode: Transcode = Transcode()
    limits: Limits = Limits()
    relay: Relay = Relay()
    nat: Nat = Nat()
    geoip: Geoip = Geoip()
    promise: Promise = Promise()
    log: Log = Log()
    origins: dict[str, str] = msgspec.field(default_factory=dict)  # key -> "file:line", variable or option
    warnings: tuple[str, ...] = ()

    def value(self, key: str) -> Any:
        """The value of a setting by its dotted key. KeyError for an unknown key."""
        setting = SETTINGS[key]
        part: Any = getattr(self, setting.section) if setting.section else self
        return getattr(part, setting.field)

    def origin(self, key: str) -> str:
        """Where the value came from: "default", "/x/fwnode.toml:3", "FWNODE_HTTP" or "--http"."""
        return self.origins.get(key, "default")


def _declared(struct: type[msgspec.Struct], section: str) -> Iterator[Setting]:
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _declared(hint, field.name)
        elif get_origin(hint) is Annotated:
            kind, detail = get_args(hint)
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            default = None if field.default is msgspec.NODEFAULT else field.default
            yield Setting(section, field.name, str if choices else kind, choices, default, detail)


SETTINGS: dict[str, Setting] = {setting.key: setting for setting in _declared(Config, "")}
_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "ingest": Ingest,
    "hls": Hls,
    "deliver": Deliver,
    "transcode": Transcode,
    "limits": Limits,
    "relay": Relay,
    "nat": Nat,
    "geoip": Geoip,
    "promise": Promise,
    "log": Log,
}


def load(
    defaults: Mapping[str, str],
    file_name: str,
    file_text: str,
    environment: Mapping[str, str],
    options: Mapping[str, object],
) -> Config:
    """One Config from all sources.

    `defaults` gives the settings that depend on the host. `file_name` may be empty: no file.
    `environment` is the whole environment; `options` maps dotted keys to what the command line
    gave, as text or already typed. Raises ConfigError.
    """
    values: dict[str, Any] = dict(defaults)
    origins: dict[str, str] = {}
    for source in (
        _from_file(file_name, file_text),
        _from_environment(environment),
        _from_options(options),
    ):
        for setting, value, origin in source:
            values[setting.key] = value
            origins[setting.key] = origin
    config = _build(values, origins, _unknown_variables(environment))
    _check_together(config)
    return config


def nearest(word: str, words: list[str]) -> str:
    """` (did you mean "x"?)`, or nothing when no word is near."""
    import difflib  # only for mistakes

    close = difflib.get_close_matches(word, words, 1, 0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def settings_as_toml() -> str:
    """Every setting with its help, range and default, as a commented fwnode.toml."""
    lines: list[str] = []
    section = ""
    for setting in SETTINGS.values():
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        default = "" if setting.default is None else msgspec.json.encode(setting.default).decode()
        lines += ["", f"# {setting.detail.help}", f"# Must be {setting.accepted}."]
        lines.append(f"# {setting.field} = {default or '(depends on the host)'}")
    return "\n".join(lines).strip() + "\n"


_Given = tuple[Setting, Any, str]


def _from_file(name: str, text: str) -> Iterator[_Given]:
    if not name:
        return
    import tomllib  # costs 15 ms: only where there is a file

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from None
    lines = _lines_of_keys(text)
    for key, value in _flatten(document):
        origin = f"{name}:{lines.get(key, 1)}"
        setting = SETTINGS.get(key)
        if setting is None:
            known = [*SETTINGS, *_STRUCTS]
            raise ConfigError(f'{origin}: unknown key "{key}"{nearest(key, known)}')
        good = checked(setting, value, origin)
        if setting.detail.shape == "path" and good:
            # A path in the file is relative to the file, so that the folder can be moved.
            good = posixpath.join(posixpath.dirname(name), good)
        yield setting, good, origin


def _flatten(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict) and key in _STRUCTS:
            for field, inner in value.items():
                yield f"{key}.{field}", inner
        else:
            yield key, value


_TABLE = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*(?:=|\.)")


def _lines_of_keys(text: str) -> dict[str, int]:
    """Line of each key of a TOML document that is known to be valid; the parser does not keep them."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = header[1]
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            name = key[1].replace('"', "").replace("'", "")
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    for setting in SETTINGS.values():
        if setting.variable in environment:
            origin = setting.variable
            yield setting, checked(setting, typed(setting, environment[origin]), origin), origin


def _unknown_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings, not errors: an orchestrator may set FWNODE_SERVICE_HOST for a service called fwnode."""
    known = {setting.variable for setting in SETTINGS.values()} | ENVIRONMENT_OTHERS
    unknown = sorted(
        name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    )
    return tuple(
        f"environment variable {name} is no setting of fwnode{nearest(name, sorted(known))}"
        for name in unknown
    )


def _from_options(options: Mapping[str, object]) -> Iterator[_Given]:
    for key, value in options.items():
        setting = SETTINGS.get(key)
        if setting is None:
            raise ConfigError(f'--set {key}: unknown key "{key}"{nearest(key, list(SETTINGS))}')
        if setting.detail.secret:
            # Any user of the machine can read another process's command line.
            raise ConfigError(
                f"--set {key}: a secret is not taken from the command line; "
                f"use the file or the variable {setting.variable}"
            )
        given = typed(setting, value) if isinstance(value, str) else value
        yield setting, checked(setting, given, setting.option), setting.option


def _build(values: Mapping[str, Any], origins: dict[str, str], warnings: tuple[str, ...]) -> Config:
    top = {SETTINGS[key].field: value for key, value in values.items() if not SETTINGS[key].section}
    sections: dict[str, Any] = {}
    for name, struct in _STRUCTS.items():
        given = {SETTINGS[key].field: value for key, value in values.items() if SETTINGS[key].section == name}
        sections[name] = struct(**given)
    return Config(**top, **sections, origins=origins, warnings=warnings)


def _check_together(config: Config) -> None:
    if config.https != OFF:
        for key in ("https_cert", "https_key"):
            if not config.value(key):
                raise ConfigError(
                    f"{config.origin('https')}: https = {config.https} needs {key}, the path of a PEM file"
                )
    if not parse_address(config.admin).loopback and not config.admin_password_hash:
        raise ConfigError(
            f"{config.origin('admin')}: admin = {config.admin} can be reached from other machines and needs "
            "admin_password_hash: make one with `fwnode config password`"
        )
    if config.hls.part_s > config.hls.segment_s / 2:
        raise ConfigError(
            f"{config.origin('hls.part_s')}: hls.part_s = {config.hls.part_s:g} must be at most half of "
            f"hls.segment_s = {config.hls.segment_s:g}"
        )
    if config.hls.window_s < 3 * config.hls.segment_s:
        # RFC 8216bis 6.2.2: a live playlist shorter than three target durations makes players stall.
        raise ConfigError(
            f"{config.origin('hls.window_s')}: hls.window_s = {config.hls.window_s:g} must be at least "
            f"three times hls.segment_s = {config.hls.segment_s:g}"
        )
