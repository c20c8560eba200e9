"""Settings from file, environment and options; what a mistake is told."""

from collections.abc import Mapping

import pytest

from fwnode import config
from fwnode.config import SETTINGS, Config
from fwnode.errors import ConfigError
from fwnode.password import hash_password

FILE = "/etc/fwnode.toml"
HOST = {"name": "here", "data_dir": "/data"}


def load(
    text: str = "", environment: Mapping[str, str] | None = None, options: Mapping[str, object] | None = None
) -> Config:
    return config.load(HOST, FILE if text else "", text, environment or {}, options or {})


def test_defaults_come_from_the_declaration_and_the_host() -> None:
    loaded = load()
    assert (loaded.name, loaded.data_dir) == ("here", "/data")
    assert loaded.http == "0.0.0.0:8080"
    assert loaded.hls.part_s == 0.5
    assert all(loaded.origin(key) == "default" for key in SETTINGS)


def test_later_sources_win_and_every_value_knows_its_origin() -> None:
    text = '# comment\nname = "file"\nhttp = "1.1.1.1:1"\nrtmp = "off"\n\n[hls]\npart_s = 0.25\n'
    loaded = load(text, {"FWNODE_HTTP": "2.2.2.2:2", "FWNODE_NAME": "env"}, {"name": "option"})
    assert (loaded.rtmp, loaded.http, loaded.name, loaded.hls.part_s) == ("off", "2.2.2.2:2", "option", 0.25)
    assert loaded.origin("rtmp") == f"{FILE}:4"
    assert loaded.origin("hls.part_s") == f"{FILE}:7"
    assert loaded.origin("http") == "FWNODE_HTTP"
    assert loaded.origin("name") == "--name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('htpp = "x"', f'{FILE}:1: unknown key "htpp" (did you mean "http"?)'),
        ("[hls]\n\nparts = 1", f'{FILE}:3: unknown key "hls.parts" (did you mean "hls.part_s"?)'),
        ("[hsl]\npart_s = 1", f'{FILE}:1: unknown key "hsl" (did you mean "hls"?)'),
        ("ingest.opn = true", f'{FILE}:1: unknown key "ingest.opn" (did you mean "ingest.open"?)'),
        ("[hls]\npart_s = 3", f"{FILE}:2: hls.part_s = 3.0 must be seconds from 0.2 to 1"),
        ('demo = "yes"', f'{FILE}:1: demo = "yes" must be true or false'),
        ("[ingest]\nopen = 1", f"{FILE}:2: ingest.open = 1 must be true or false"),
        (
            '[ingest]\ntakeover = "no"',
            f"{FILE}:2: ingest.takeover = \"no\" must be 'takeover' or 'refuse'",
        ),
        (
            "[limits]\nconnections = 0",
            f"{FILE}:2: limits.connections = 0 must be a whole number from 1 to 100000",
        ),
        ("[limits]\nconnections = 1.5", "must be a whole number"),
        ("drain_s = nan", f"{FILE}:1: drain_s = null must be seconds"),
        ("http = 8080", f"{FILE}:1: http = 8080 must be an address like"),
        ('http = "0.0.0.0:70000"', "must be an address like"),
        ('http = "off"', "must be an address like"),
        ('http = "1::2:80"', "must be an address like"),
        ('name = "a\\nb"', "must be a line of text"),
        ("hls = 3", f'{FILE}:1: unknown key "hls"'),
        ("http = ", f"{FILE}: not valid TOML:"),
        ('https = "0.0.0.0:443"', "needs https_cert"),
        ('admin = "0.0.0.0:7078"', "needs admin_password_hash: make one with `fwnode config password`"),
        ('admin_password_hash = "hunter2"', "admin_password_hash = (hidden) must be a line that"),
        ("[hls]\npart_s = 1.0\nsegment_s = 1", f"{FILE}:2: hls.part_s = 1 must be at most half"),
        ("[hls]\nwindow_s = 6\nsegment_s = 4", "hls.window_s = 6 must be at least three times"),
    ],
)
def test_a_mistake_names_key_place_and_what_is_accepted(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ladder"),
    [
        ('[transcode]\nladder = ["720p@2500k", "480p"]\n', "720p@2500k, 480p"),
        ('[transcode]\nladder = "480p, 240p@300k"\n', "480p, 240p@300k"),
        ('[transcode]\nladder = "auto"\n', "auto"),
        ("[transcode]\nladder = []\n", "off"),
        ("", "off"),
    ],
)
def test_a_ladder_is_a_word_or_a_list(text: str, ladder: str) -> None:
    assert load(text).transcode.ladder == ladder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('ladder = ["720p", "huge"]', f'{FILE}:2: transcode.ladder: "huge" is no rung'),
        ('ladder = ["720p", "720p@1m"]', '"720p": there are two rungs of 720p'),
        ('ladder = "480p/av1"', "only h264"),
        ("ladder = [720]", "transcode.ladder = [720] must be a list like"),
        ("ladder = true", "transcode.ladder = true must be a list like"),
        ("threads = 65", "from 0 to 64"),
        ('latency = "lowest"', "'low' or 'quality'"),
    ],
)
def test_a_mistake_in_a_ladder_names_the_rung(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"[transcode]\n{text}\n")
    assert message in str(caught.value)


def test_environment_takes_words_and_numbers() -> None:
    loaded = load(
        "", {"FWNODE_INGEST_OPEN": "Yes", "FWNODE_HLS_SEGMENT_S": "4", "FWNODE_LIMITS_CONNECTIONS": "7"}
    )
    assert loaded.ingest.open is True
    assert loaded.hls.segment_s == 4.0
    assert loaded.limits.connections == 7


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_environment_refuses_what_is_no_boolean(value: str) -> None:
    with pytest.raises(ConfigError, match=r"FWNODE_DEMO: demo = .* must be true or false"):
        load("", {"FWNODE_DEMO": value})


def test_unknown_variables_are_warned_of_not_refused() -> None:
    loaded = load("", {"FWNODE_HTPP": "x", "FWNODE_CONFIG": "/x", "OTHER": "y"})
    assert loaded.warnings == (
        'environment variable FWNODE_HTPP is no setting of fwnode (did you mean "FWNODE_HTTP"?)',
    )


def test_set_takes_any_key_by_name_but_no_secret() -> None:
    assert load("", {}, {"hls.part_s": "0.3"}).origin("hls.part_s") == "--set hls.part_s"
    with pytest.raises(ConfigError, match=r"--set hls\.parts: unknown key"):
        load("", {}, {"hls.parts": "0.3"})
    with pytest.raises(ConfigError, match="secret is not taken from the command line"):
        load("", {}, {"admin_password_hash": "x"})


def test_paths_in_the_file_are_relative_to_it() -> None:
    loaded = load('https_cert = "tls/cert.pem"\nhttps_key = "/tls/key.pem"')
    assert loaded.https_cert == "/etc/tls/cert.pem"
    assert loaded.https_key == "/tls/key.pem"


def test_admin_beyond_loopback_with_a_password() -> None:
    encoded = hash_password("secret", b"s" * 16)
    assert load(f'admin = "0.0.0.0:7078"\nadmin_password_hash = "{encoded}"').admin == "0.0.0.0:7078"
    assert load('admin = "[::1]:0"').admin == "[::1]:0"


def test_every_setting_is_described() -> None:
    for setting in SETTINGS.values():
        assert setting.detail.help.endswith(".")
        assert setting.accepted
        if setting.kind in (int, float):
            assert setting.detail.lowest is not None and setting.detail.highest is not None
            assert setting.detail.lowest <= setting.default <= setting.detail.highest
