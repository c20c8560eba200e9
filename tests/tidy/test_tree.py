"""The tree as a whole: scripts, what no tracked file may name, help and documents in step with settings."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from fwnode import config
from fwnode.cli.app import app
from fwnode.config import SETTINGS

ROOT = Path(__file__).parents[2]
# Addresses of package registries: clients know them, and a mirror must be possible.
REGISTRIES = re.compile(
    r"pypi\.(?:org|python\.org)|python"
    r"hosted\.org|registry\.npm"
    r"js\.org|(?:deb|security)\.debian\.org"
    r"|(?:archive|security)\.ubuntu\.com|registry\.yarn"
    r"pkg\.com"
)
TEXT_BYTES_MAX = 2_000_000
SETTINGS_DOCUMENT = ROOT / "docs" / "fwnode.toml"


def tracked() -> list[Path]:
    """Files that are in the repository or would be added to it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = sorted({name for name in listed.stdout.decode().split("\0") if name})
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def registry_faults(path: str, text: str) -> list[str]:
    """Lines that name a package registry's host."""
    return [
        f"{path}:{number} {found[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := REGISTRIES.search(line))
    ]


def test_no_file_names_a_registry() -> None:
    faults = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:1024] and len(data) < TEXT_BYTES_MAX:
            faults += registry_faults(str(path.relative_to(ROOT)), data.decode("utf-8", "replace"))
    assert not faults, "\n".join(faults)


def test_registry_rule_finds_what_it_is_for() -> None:
    host = ".".join(("registry", "npmjs", "org"))
    assert registry_faults("lock", f"https://{host}/hls.js")
    assert not registry_faults("lock", "hls.js 1.5.0 sha512-x")


def test_scripts_are_executable() -> None:
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix == ""]
    assert {"run", "test"} <= {path.name for path in scripts}
    for path in [*scripts, ROOT / ".ci" / "run"]:
        assert path.read_bytes().startswith(b"#!"), f"{path.name} has no interpreter line"
        assert os.access(path, os.X_OK), f"{path.name} is not executable"


def test_ci_runs_the_test_script_and_nothing_cleverer() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].endswith('/../scripts/test"')


def options_of(*command: str) -> set[str]:
    """Long options in a command's help, as typer prints it."""
    import typer
    from typer.testing import CliRunner

    assert isinstance(app, typer.Typer)
    printed = CliRunner().invoke(app, [*command, "--help"], prog_name="fwnode").output
    return set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", printed, re.MULTILINE))


def test_help_of_run_lists_every_option() -> None:
    expected = {setting.option for setting in SETTINGS.values() if setting.detail.option}
    assert options_of("run") == expected | {"--config", "--set", "--ready-file", "--help"}


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "streams",
        "version",
        "key new",
        "key list",
        "key revoke",
        "peers",
        "invite",
        "join",
        "leave",
        "revoke",
        "geoip update",
        "geoip lookup",
        "devices",
        "bench devices",
    ],
)
def test_commands_that_show_something_have_json(command: str) -> None:
    assert "--json" in options_of(*command.split())


def test_settings_document_is_in_step() -> None:
    if not SETTINGS_DOCUMENT.exists():
        pytest.skip("docs/fwnode.toml is not written")
    assert SETTINGS_DOCUMENT.read_text() == config.settings_as_toml(), (
        "run: fwnode config template > docs/fwnode.toml"
    )


def test_template_with_every_line_in_force_is_the_defaults() -> None:
    text = re.sub(r"^# (\w+ = (?!\().*)$", r"\1", config.settings_as_toml(), flags=re.MULTILINE)
    assert len(tomllib.loads(text)) > 5
    host = {"name": "here", "data_dir": "/data"}
    loaded = config.load(host, "/etc/fwnode.toml", text, {}, {})
    plain = config.load(host, "", "", {}, {})
    assert all(loaded.value(key) == plain.value(key) for key in SETTINGS)
