"""The transcode configuration: a request's header or a webhook's reply, read as Go's encoding/json does.

Upstream ignores unknown keys and the case of keys but not types. The FrameWorks fork takes five keys,
spelt exactly and each once.
"""

import json
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from livepeer_gateway.profiles import (
    DEFAULT_LADDER,
    PRESETS,
    Profile,
    checked,
)

FRAMEWORKS_PROFILES_MAX = 16
DEADLINE_MS_MAX = 3_600_000
MIN_SPEED_MAX = 100
JOB_TOKEN_BYTES_MAX = 16 * 1024
_INT64 = 2**63


class ConfigurationError(Exception):
    """What the gateway says of a configuration that it cannot read."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a header or a webhook asks for. `profiles` None: not said, so the default ladder."""

    profiles: tuple[Profile, ...] | None = None
    presets: tuple[str, ...] = ()
    manifest_id: str = ""
    stream_id: str = ""
    session_id: str = ""
    stream_key: str = ""
    object_store: str = ""
    record_object_store: str = ""
    record_object_store_url: str = ""
    previous_sessions: tuple[str, ...] = ()
    verification_freq: int = 0
    timeout_multiplier: int = 0
    force_session_reinit: bool = False
    workload: str = ""
    deadline_ms: int = 0
    min_speed: float = 0.0
    job_token: str = ""


class _Fraction(float):
    """A number written with a point or an exponent: no integer for Go."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, doubled keys and all."""


def read_upstream(text: str) -> Configuration:
    """Raises ConfigurationError. `null` is an empty configuration."""
    value = _json(text)
    if value is None:
        return Configuration()
    fields = _fields(value, _UPSTREAM, "authWebhookResponse")
    profiles = fields.pop("profiles", None)
    if profiles is not None:
        fields["profiles"] = tuple(Profile(**_fields(one, _PROFILE, "JsonProfile")) for one in profiles)
    return Configuration(**fields)


def read_frameworks(text: str) -> Configuration:
    """The fork's header. Raises ConfigurationError."""
    value = _json(text)
    if not isinstance(value, _Pairs):
        raise ConfigurationError("an object is expected")
    names = [name for name, _ in value]
    allowed = {"profiles", "workload", "deadlineMs", "minSpeed", "jobToken"}
    for name in names:
        if name not in allowed:
            raise ConfigurationError(f"unknown field {name!r}")
        if names.count(name) > 1:
            raise ConfigurationError(f"duplicate field {name!r}")
    read = read_upstream(json.dumps({"profiles": _plain(dict(value).get("profiles"))}))
    return replace(read, **_frameworks_fields(dict(value), read))


def _frameworks_fields(value: dict[str, Any], read: Configuration) -> dict[str, Any]:
    workload = value.get("workload", "live")
    deadline, speed, token = value.get("deadlineMs", 0), value.get("minSpeed", 0), value.get("jobToken", "")
    if len(read.profiles or ()) > FRAMEWORKS_PROFILES_MAX:
        raise ConfigurationError(f"more than {FRAMEWORKS_PROFILES_MAX} profiles")
    if workload not in ("live", "vod"):
        raise ConfigurationError("workload must be live or vod")
    if type(deadline) is not int or not 0 <= deadline <= DEADLINE_MS_MAX:
        raise ConfigurationError(f"deadlineMs must be 0 to {DEADLINE_MS_MAX}")
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= MIN_SPEED_MAX:
        raise ConfigurationError(f"minSpeed must be 0 to {MIN_SPEED_MAX}")
    if not isinstance(token, str) or len(token.encode()) > JOB_TOKEN_BYTES_MAX:
        raise ConfigurationError(f"jobToken must be text up to {JOB_TOKEN_BYTES_MAX} bytes")
    return {"workload": workload, "deadline_ms": deadline, "min_speed": float(speed), "job_token": token}


def ladder(
    configuration: Configuration, default: tuple[Profile, ...] = DEFAULT_LADDER
) -> tuple[Profile, ...]:
    """The renditions of a session: presets, then profiles; the default when neither is there.

    An empty list of profiles means none at all. Raises ProfileError.
    """
    presets = [PRESETS[name] for name in configuration.presets if name in PRESETS]
    if configuration.profiles is None and not presets:
        return tuple(checked(profile) for profile in default)
    return tuple(checked(profile) for profile in (*presets, *(configuration.profiles or ())))


def _json(text: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"invalid character {constant[0]!r}")

    try:
        return json.loads(text, parse_float=_Fraction, parse_constant=refuse, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(str(error)) from None


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {name: _plain(inner) for name, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _fields(value: Any, table: dict[str, tuple[str, str]], struct: str) -> dict[str, Any]:
    """Fields by our names; a null leaves the field as it is, a later key wins."""
    if value is None:
        return {}
    if not isinstance(value, _Pairs):
        raise ConfigurationError(f"cannot unmarshal {_kind(value)} into Go value of type {struct}")
    folded = {name.casefold(): entry for name, entry in table.items()}
    found = {}
    for name, inner in value:
        entry = folded.get(name.casefold())
        if entry is not None and inner is not None:
            field, kind = entry
            found[field] = _typed(inner, kind, f"{struct}.{name}")
    return found


def _typed(value: Any, kind: str, where: str) -> Any:
    good = {
        "text": isinstance(value, str),
        "flag": isinstance(value, bool),
        "int": type(value) is int and -_INT64 <= value < _INT64,
        "uint": type(value) is int and 0 <= value < 2 * _INT64,
        "texts": _is_array(value) and all(one is None or isinstance(one, str) for one in value),
        "profiles": _is_array(value),
    }[kind]
    if not good:
        raise ConfigurationError(f"json: cannot unmarshal {_kind(value)} into Go struct field {where}")
    if kind == "texts":
        return tuple(one or "" for one in value)
    return tuple(value) if kind == "profiles" else value


def _is_array(value: Any) -> bool:
    return isinstance(value, list) and not isinstance(value, _Pairs)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {value}"
    return "string" if isinstance(value, str) else "object" if isinstance(value, _Pairs) else "array"


_UPSTREAM = {
    "profiles": ("profiles", "profiles"),
    "presets": ("presets", "texts"),
    "manifestID": ("manifest_id", "text"),
    "streamID": ("stream_id", "text"),
    "sessionID": ("session_id", "text"),
    "streamKey": ("stream_key", "text"),
    "objectStore": ("object_store", "text"),
    "recordObjectStore": ("record_object_store", "text"),
    "recordObjectStoreUrl": ("record_object_store_url", "text"),
    "previousSessions": ("previous_sessions", "texts"),
    "verificationFreq": ("verification_freq", "uint"),
    "timeoutMultiplier": ("timeout_multiplier", "int"),
    "forceSessionReinit": ("force_session_reinit", "flag"),
}
_PROFILE = {
    "name": ("name", "text"),
    "width": ("width", "int"),
    "height": ("height", "int"),
    "bitrate": ("bitrate", "int"),
    "fps": ("fps", "uint"),
    "fpsDen": ("fps_den", "uint"),
    "profile": ("profile", "text"),
    "gop": ("gop", "text"),
    "encoder": ("encoder", "text"),
    "colorDepth": ("color_depth", "int"),
    "chromaFormat": ("chroma_format", "int"),
    "quality": ("quality", "uint"),
}
