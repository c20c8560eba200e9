"""One setting: what is declared of it, what its value may be, how text becomes one. Pure."""

from typing import Any, Literal

import msgspec

from fwnode.address import parse_address
from fwnode.errors import ConfigError
from fwnode.password import is_password_hash
from media.transcode.ladder import parse_policy

OFF = "off"  # the value of an address setting that binds nothing
ENVIRONMENT_PREFIX = "FWNODE_"


class Detail(msgspec.Struct, frozen=True):
    """What a type alone does not say about a setting."""

    help: str
    unit: str = ""
    lowest: float | None = None
    highest: float | None = None
    shape: Literal[
        "text", "address", "address or off", "addresses", "path", "place", "password hash", "ladder"
    ] = "text"
    option: bool = False  # has an option of `fwnode run` of its own
    secret: bool = False  # masked where settings are shown, refused on the command line


class Setting(msgspec.Struct, frozen=True):
    """One setting as declared in Config."""

    section: str  # "" at the top level
    field: str
    kind: type  # bool, int, float or str
    choices: tuple[str, ...]
    default: Any  # None when it depends on the host
    detail: Detail

    @property
    def key(self) -> str:
        """Dotted, as in the TOML file."""
        return f"{self.section}.{self.field}" if self.section else self.field

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.replace(".", "_").upper()

    @property
    def option(self) -> str:
        """The option of `fwnode run` that sets it."""
        return "--" + self.field.replace("_", "-") if self.detail.option else f"--set {self.key}"

    @property
    def accepted(self) -> str:
        """What the value has to be, as the end of a sentence that begins with "must be"."""
        if self.choices:
            return " or ".join(repr(choice) for choice in self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return _ACCEPTED_SHAPES[self.detail.shape]
        what = "a whole number" if self.kind is int else "a number"
        what = _UNITS.get(self.detail.unit, what)
        return f"{what} from {self.detail.lowest:g} to {self.detail.highest:g}"


_UNITS = {"s": "seconds", "ms": "milliseconds"}
_ACCEPTED_SHAPES = {
    "text": "a line of text",
    "address": "an address like 0.0.0.0:8080, [::]:8080 or 127.0.0.1:0",
    "address or off": 'an address like 0.0.0.0:8080, [::]:8080 or 127.0.0.1:0, or "off"',
    "addresses": "addresses like vps.example:7077 or [2001:db8::1]:7077, separated by commas",
    "path": "the path of a file or folder",
    "place": 'degrees like "52.52,13.40", north and east positive',
    "ladder": 'a list like "720p@2500k, 480p@1200k" (sizes by the short side), "auto" or "off"',
    "password hash": "a line that `fwnode config password` printed",
}


_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off", ""))


def typed(setting: Setting, text: str) -> object:
    """Text from the environment or an option as the setting's type; as it is when it does not fit."""
    word = text.strip()
    if setting.kind is bool:
        return True if word.lower() in _TRUE else False if word.lower() in _FALSE else text
    if setting.kind is str:
        return word
    try:
        return int(word) if setting.kind is int else float(word)
    except ValueError:
        return text


def checked(setting: Setting, value: object, origin: str) -> Any:
    """The value, if the setting can have it. Raises ConfigError naming `origin` and what is accepted."""
    if setting.detail.shape == "ladder":
        value = _ladder_text(setting, value, origin)
    if setting.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not setting.kind or not _within(setting, value):
        shown = "(hidden)" if setting.detail.secret else msgspec.json.encode(value, enc_hook=str).decode()
        raise ConfigError(f"{origin}: {setting.key} = {shown} must be {setting.accepted}")
    return value


def _within(setting: Setting, value: Any) -> bool:
    detail = setting.detail
    if setting.choices:
        return value in setting.choices
    if detail.lowest is not None and detail.highest is not None:
        return bool(detail.lowest <= value <= detail.highest)
    if detail.shape == "password hash":
        return not value or is_password_hash(value)
    if detail.shape == "addresses":
        return all(is_reachable_address(part) for part in split_addresses(value))
    if detail.shape == "place":
        return not value or parse_place(value) is not None
    if detail.shape.startswith("address"):
        return (value == OFF and detail.shape == "address or off") or _is_address(value)
    return not isinstance(value, str) or value.isprintable()


def _ladder_text(setting: Setting, value: object, origin: str) -> object:
    """A list of rungs as one line. Raises ConfigError naming the rung that is wrong."""
    if isinstance(value, list) and all([isinstance(entry, str) for entry in value]):
        value = ", ".join(value) or OFF
    if isinstance(value, str):
        try:
            parse_policy(value)
        except ValueError as error:
            raise ConfigError(f"{origin}: {setting.key}: {error}") from None
    return value


def split_addresses(text: str) -> tuple[str, ...]:
    """The addresses of a setting of that shape."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def is_reachable_address(text: str) -> bool:
    """Whether it can be dialled: a host or name, and a port that is not 0."""
    if not _is_address(text):
        return False
    address = parse_address(text)
    return bool(address.host) and address.port > 0 and not address.wildcard


def parse_place(text: str) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, or None when it is no place."""
    parts = text.split(",")
    try:
        latitude, longitude = (float(part) for part in parts)
    except ValueError:
        return None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True
