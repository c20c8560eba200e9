"""Which database is asked, and what happens to the damaged, the changed and the absent."""

import os
from pathlib import Path

import mmdb
import pytest

from mesh.geo import store
from mesh.geo.model import CITY, COUNTRY, GeoError, Located
from mesh.geo.store import COUNTRY_TABLE, FETCHED, GeoDatabase, open_database

IN_LONDON = "81.2.69.142"
IN_LINKOEPING = "89.160.20.112"
LONDON = {"81.2.69.0/24": mmdb.city(51.5, -0.1, "GB", "London")}
LEEDS = {"81.2.69.0/24": mmdb.city(53.8, -1.5, "GB", "Leeds")}


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    return put(tmp_path / "own.mmdb", mmdb.write(LONDON))


def put(path: Path, data: bytes) -> Path:
    """As `cp` writes: into the same file."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))  # the clock of a disk may be coarse
    return path


def opened(tmp_path: Path, own: Path | str = "", place: tuple[float, float] | None = None) -> GeoDatabase:
    database = GeoDatabase(tmp_path / "geoip", str(own), place)
    assert database.refresh() == []
    return database


def city_of(database: GeoDatabase, address: str = IN_LONDON) -> str:
    found = database.lookup(address)
    assert found is not None
    return found.city


def test_own_file_then_fetched_then_countries(tmp_path: Path, own_file: Path) -> None:
    fetched = put(
        tmp_path / "geoip" / FETCHED,
        mmdb.write(LEEDS | {"89.160.20.0/24": mmdb.city(58.4, 15.6, "SE", "Linköping")}),
    )
    database = opened(tmp_path, own_file)
    assert database.find(IN_LONDON) == (Located(51.5, -0.1, "GB", "London", CITY), str(own_file))
    assert database.find(IN_LINKOEPING) == (Located(58.4, 15.6, "SE", "Linköping", CITY), str(fetched))
    assert database.find("8.8.8.8") == (Located(38.0, -92.0, "US", "", COUNTRY), COUNTRY_TABLE)
    assert [facts.path for facts in database.databases()] == [str(own_file), str(fetched)]


def test_ipv6_and_mapped_ipv4(tmp_path: Path) -> None:
    own = put(
        tmp_path / "6.mmdb", mmdb.write({"2001:4860::/32": mmdb.city(37.4, -122.1, "US", "MTV")} | LONDON)
    )
    database = opened(tmp_path, own)
    assert city_of(database, "2001:4860:4860::8888") == "MTV"
    assert city_of(database, f"::ffff:{IN_LONDON}") == "London"


def test_a_database_of_ipv4_only(tmp_path: Path) -> None:
    database = opened(tmp_path, put(tmp_path / "4.mmdb", mmdb.write(LONDON, version=4)))
    assert city_of(database) == "London"
    assert database.find("2001:4860:4860::8888")[1] == COUNTRY_TABLE
    assert database.refresh() == []


@pytest.mark.parametrize(
    "address",
    # Texts that are no address, private ones, and others that nobody has.
    [
        *("", "x", "1.2.3.4.5", "1.2.3.4\0", "9" * 100_000, "٣.1.1.1"),
        *("10.0.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fe80::1%eth0", "fd00::1"),
        *("0.0.0.0", "255.255.255.255", "224.0.0.1", "ff0e::1"),
    ],
)
def test_private_addresses_and_garbage_have_no_place(tmp_path: Path, own_file: Path, address: str) -> None:
    assert opened(tmp_path, own_file).lookup(address) is None


def test_changed_file_is_taken_up(tmp_path: Path, own_file: Path) -> None:
    database = opened(tmp_path, own_file)
    put(own_file, mmdb.write(LEEDS))
    assert city_of(database) == "London"
    assert database.refresh() == []
    assert city_of(database) == "Leeds"


def test_first_fetched_file_is_taken_up(tmp_path: Path) -> None:
    database = opened(tmp_path)
    assert city_of(database) == ""
    put(tmp_path / "geoip" / FETCHED, mmdb.write(LEEDS))
    database.refresh()
    assert city_of(database) == "Leeds"


@pytest.mark.parametrize("damage", [b"", b"not a database", mmdb.write(LONDON)[:-30], mmdb.write({})])
def test_damaged_file_is_said_once_and_passed_over(tmp_path: Path, damage: bytes) -> None:
    own = put(tmp_path / "own.mmdb", damage)
    database = GeoDatabase(tmp_path / "geoip", str(own))
    (said,) = database.refresh()
    assert str(own) in said and "passed over" in said
    assert database.refresh() == []
    assert database.find(IN_LONDON)[1] == COUNTRY_TABLE


def test_file_that_becomes_damaged_leaves_the_one_read_before(tmp_path: Path, own_file: Path) -> None:
    database = opened(tmp_path, own_file)
    put(own_file, b"")  # mapped memory of the file itself would be gone now, and the process with it
    assert city_of(database) == "London"
    (said,) = database.refresh()
    assert "stays in use" in said
    assert city_of(database) == "London"
    put(own_file, mmdb.write(LEEDS))
    assert database.refresh() == []
    assert city_of(database) == "Leeds"


def test_removed_file_is_said_and_passed_over(tmp_path: Path, own_file: Path) -> None:
    database = opened(tmp_path, own_file)
    own_file.unlink()
    (said,) = database.refresh()
    assert "is gone" in said and database.refresh() == []
    assert database.find(IN_LONDON)[1] == COUNTRY_TABLE


def test_missing_own_file_is_said(tmp_path: Path) -> None:
    database = GeoDatabase(tmp_path / "geoip", str(tmp_path / "none.mmdb"))
    (said,) = database.refresh()
    assert "does not exist" in said and database.refresh() == []


def test_folder_in_place_of_the_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    database = GeoDatabase(tmp_path / "geoip", str(tmp_path / "own"))
    (said,) = database.refresh()
    assert "cannot be used" in said and database.refresh() == []


def test_damage_that_a_lookup_finds(tmp_path: Path) -> None:
    data = bytearray(mmdb.write(LONDON | {"1.0.0.0/24": mmdb.city(-27.5, 153.0, "AU", "Brisbane")}))
    at = data.index(b"\x42GB")  # Brisbane comes first in the tree, so that opening does not see it
    data[at : at + 3] = b"\x3f\xff\xff"  # a pointer to nowhere
    own = put(tmp_path / "own.mmdb", bytes(data))
    database = opened(tmp_path, own)
    assert city_of(database, "1.0.0.1") == "Brisbane"
    assert database.find(IN_LONDON)[1] == COUNTRY_TABLE
    (said,) = database.refresh()
    assert "damaged and no longer used" in said and database.refresh() == []


def test_copies_leave_nothing_behind(tmp_path: Path, own_file: Path) -> None:
    opened(tmp_path, own_file)
    assert list((tmp_path / "geoip").iterdir()) == []


def test_without_a_copy_no_folder_is_made(tmp_path: Path, own_file: Path) -> None:
    database = GeoDatabase(tmp_path / "geoip", str(own_file), private_copy=False)
    assert database.refresh() == []
    assert city_of(database) == "London" and not (tmp_path / "geoip").exists()


def test_own_place(tmp_path: Path, own_file: Path) -> None:
    assert opened(tmp_path, own_file).own_place(["10.0.0.1", IN_LONDON]) == Located(
        51.5, -0.1, "GB", "London", CITY
    )
    configured = opened(tmp_path, own_file, (52.5, 13.4))
    assert configured.own_place([]) == Located(52.5, 13.4)
    assert configured.own_place([IN_LONDON]) == Located(52.5, 13.4, "GB")
    assert opened(tmp_path).own_place(["10.0.0.1"]) is None


def test_answers_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REMEMBERED_MAX", 10)
    database = opened(tmp_path)
    for number in range(100):
        database.lookup(f"8.8.8.{number}")
    assert len(database._remembered) <= 10


def test_without_the_country_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_country_table", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    database = GeoDatabase(tmp_path / "geoip")
    (said,) = database.refresh()
    assert "iptocc" in said and database.refresh() == []
    assert database.lookup(IN_LONDON) is None


def test_database_without_places_is_refused(tmp_path: Path) -> None:
    path = put(
        tmp_path / "asn.mmdb", mmdb.write({"1.0.0.0/24": {"autonomous_system_number": 13335}}, "Test-ASN")
    )
    with pytest.raises(GeoError, match="no places, but Test-ASN"):
        open_database(path)
