"""What a viewer's address tells without a database."""

import pytest

from mesh.routing.viewer_address import SeenAs, seen_as


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("8.8.4.4", SeenAs("8.8.4.0/24")),
        ("::ffff:8.8.4.4", SeenAs("8.8.4.0/24")),
        ("2a01:4f8:1:2::3", SeenAs("2a01:4f8:1::/48")),
        ("192.168.1.7", SeenAs(local=True)),
        ("::ffff:10.0.0.1", SeenAs(local=True)),
        ("127.0.0.1", SeenAs(local=True)),
        ("fe80::1%eth0", SeenAs(local=True)),
        ("fd00::1", SeenAs(local=True)),
        ("224.0.0.1", SeenAs()),
        ("0.0.0.0", SeenAs()),
        ("", SeenAs()),
        ("not an address", SeenAs()),
        ("1" * 1000, SeenAs()),
        ("8.8.4.4:80", SeenAs()),
    ],
)
def test_seen_as(address: str, seen: SeenAs) -> None:
    assert seen_as(address) == seen
