"""One setting: what is declared of it, what its value may be, how text becomes one. Pure."""

from typing import Any, Literal

import msgspec

from fwnode.address import parse_address
from fwnode.errors import ConfigError
from fwnode.password import is_password_hash

OFF = "off"  # the value of an address setting that binds nothing
ENVIRONMENT_PREFIX = "FWNODE_"


class Detail(msgspec.Struct, frozen=True):
    """What a type alone does not say about a setting."""

    help: str
    unit: str = ""
    lowest: float | None = None
    highest: float | None = None
    shape: Literal["text", "address", "address or off", "path", "password hash"] = "text"
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
    "path": "the path of a file or folder",
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
    if detail.shape.startswith("address"):
        return (value == OFF and detail.shape == "address or off") or _is_address(value)
    return not isinstance(value, str) or value.isprintable()


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True
