"""The survey on disk: `devices.json` in the data folder. A bad one is measured again, never an error."""

import contextlib
import os
import tempfile
from pathlib import Path

from devices.errors import WireError
from devices.survey import SURVEY_MAX_BYTES, Host, Survey, decode_survey_untrusted, encode_survey

FILE = "devices.json"
FILE_MODE = 0o644  # nothing in it is secret


def load(folder: Path, host: Host) -> Survey | None:
    """What was found out on just this host; None when there is nothing of use."""
    survey = last(folder)
    return survey if survey is not None and survey.host == host else None


def last(folder: Path) -> Survey | None:
    """What was found out last, also when the host has changed since."""
    try:
        with (folder / FILE).open("rb") as file:
            return decode_survey_untrusted(file.read(SURVEY_MAX_BYTES + 1))
    except (OSError, WireError):
        return None


def save(folder: Path, survey: Survey) -> None:
    """Write it whole: others see the old one or the new one. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_survey(survey))
            os.fchmod(file.fileno(), FILE_MODE)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(folder / FILE)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
