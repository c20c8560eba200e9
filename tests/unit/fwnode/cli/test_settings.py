"""Where settings are read from on this machine."""

from pathlib import Path

import pytest

from fwnode.cli import settings
from fwnode.errors import ConfigError, UsageError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FWNODE_DATA_DIR", "FWNODE_CONFIG", "FWNODE_HTTP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert settings.load(None, {}).data_dir == f"{tmp_path}/home/.local/share/fwnode"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert settings.load(None, {}).data_dir == "/data/fwnode"
    monkeypatch.setenv("XDG_DATA_HOME", "relative is to be ignored")
    assert settings.default_data_dir() == f"{tmp_path}/home/.local/share/fwnode"
    monkeypatch.setattr("sys.platform", "darwin")
    assert settings.default_data_dir().endswith("/home/Library/Application Support/fwnode")


def test_the_file_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "fwnode.toml").write_text('name = "file"')
    assert settings.load(None, {"data_dir": "d"}).name == "file"
    monkeypatch.setenv("FWNODE_DATA_DIR", "d")
    assert settings.load(None, {}).origin("name") == f"{tmp_path}/d/fwnode.toml:1"


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such settings file"):
        settings.load(Path("gone.toml"), {})
    monkeypatch.setenv("FWNODE_CONFIG", str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigError, match="no such settings file"):
        settings.load(None, {})
    (tmp_path / "x.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 8"):
        settings.load(Path("x.toml"), {})
    with pytest.raises(ConfigError, match="Is a directory"):
        settings.load(tmp_path, {})


def test_paths_are_absolute(tmp_path: Path) -> None:
    assert settings.load(None, {"data_dir": "~/n"}).data_dir == f"{tmp_path}/home/n"
    assert settings.load(None, {"data_dir": "a/../b"}).data_dir == f"{tmp_path}/b"


def test_assignments() -> None:
    assert settings.load(None, {}, ["hls.part_s=0.3", "name= x "]).hls.part_s == 0.3
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        settings.load(None, {}, ["hls"])
