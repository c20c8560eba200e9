"""Structured logs on standard error: text for people, JSON lines for machines, never a secret."""

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Literal, TextIO

import structlog

SECRET_FIELDS = frozenset(("authorization", "cookie", "key", "passphrase", "password", "secret", "token"))
MASK = "***"
# Stream keys anywhere, and what follows key= or token= in a URL or a list of fields.
SECRET_TEXT = re.compile(r"sk_[a-z2-7]{6,}|(?<=[?&;, ]key=)[^&\s\"']+|(?<=[?&;, ]token=)[^&\s\"']+")

REPEATS_FREE = 5  # of one message within REPEATS_S; a flood of bad clients must not fill the disk
REPEATS_S = 10.0
REPEATS_TRACKED = 256  # different messages counted at a time

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Event = MutableMapping[str, Any]


class Repeats:
    """Drops warnings and errors that repeat; the next one let through says how many were dropped."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # message -> start of its period, times since

    def __call__(self, logger: object, method: str, event: Event) -> Event:
        """A structlog processor; raises DropEvent for a repeated one."""
        if method in ("debug", "info"):
            return event
        message, now = str(event.get("event")), self._clock()
        since, times = self._seen.pop(message, (now, 0))
        if now - since >= REPEATS_S:
            if times > REPEATS_FREE:
                event["suppressed"] = times - REPEATS_FREE
            since, times = now, 0
        while len(self._seen) >= REPEATS_TRACKED:
            del self._seen[next(iter(self._seen))]
        self._seen[message] = (since, times + 1)
        if times >= REPEATS_FREE:
            raise structlog.DropEvent
        return event


def redact(logger: object, method: str, event: Event) -> Event:
    """A structlog processor that hides secrets, by the name of their field or by their look."""
    for name, value in event.items():
        if name in SECRET_FIELDS and value:
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = redact_text(value)
    return event


def redact_text(text: str) -> str:
    """The text without stream keys and without what `key=` and `token=` hold."""
    return SECRET_TEXT.sub(MASK, text)


def configure(
    level: str,
    form: Literal["auto", "text", "json"],
    clock: Callable[[], float],
    out: TextIO | None = None,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Set logging up for this process; libraries that use `logging` come out the same way.

    `about` stands in every line.
    """
    out = out or sys.stderr
    people = form == "text" or (form == "auto" and out.isatty())
    structlog.configure(
        processors=[
            lambda logger, method, event: {**about, **event},
            structlog.processors.add_log_level,
            Repeats(clock),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
            _renderer(people, out),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[_Bridge()], force=True)


def _renderer(people: bool, out: TextIO) -> Any:
    if people:
        return structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=32)
    return structlog.processors.JSONRenderer(default=str)


class _Bridge(logging.Handler):
    """Hands records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record, with its traceback when it has one."""
        log = structlog.get_logger()
        method = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(log, method)(record.getMessage(), logger=record.name, exc_info=record.exc_info)
