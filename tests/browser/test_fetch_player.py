"""scripts/fetch-player without a network: what it does when npm is missing or gives something else."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fetch-player"
TOOLS = ("bash", "dirname", "mkdir", "mktemp", "mv", "rm", "sha256sum", "sha512sum", "tail", "tar", "gzip")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the programs that the script needs, and no npm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def fetch(tools: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": str(tools), "FWNODE_PLAYER_DIR": str(target)}
    return subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)


def test_without_npm_it_says_so_in_one_line_and_is_content(tools: Path, tmp_path: Path) -> None:
    done = fetch(tools, tmp_path / "player")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "npm is not installed" in done.stderr
    assert not (tmp_path / "player").exists()


def test_another_package_than_the_pinned_one_is_not_used(tools: Path, tmp_path: Path) -> None:
    npm = tools / "npm"
    npm.write_text('#!/bin/sh\necho other > "$5/hls.js-${2#hls.js@}.tgz"\n')
    npm.chmod(0o755)
    done = fetch(tools, tmp_path / "player")
    assert done.returncode == 1
    assert "SHA-512 differs" in done.stderr
    assert list((tmp_path / "player").iterdir()) == []


def test_what_npm_says_is_passed_on_when_it_fails(tools: Path, tmp_path: Path) -> None:
    npm = tools / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network unreachable' >&2\nexit 1\n")
    npm.chmod(0o755)
    done = fetch(tools, tmp_path / "player")
    assert done.returncode == 1
    assert "network unreachable" in done.stderr
