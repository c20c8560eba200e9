"""Who may use the private listener."""

import base64

import pytest

from fwnode.admin.access import Access, Verdict, password_of

TOKEN = "t" * 43


def access(*, needs_password: bool = False) -> Access:
    return Access(needs_password=needs_password, token=TOKEN, memory_key=b"k" * 32)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:7078", "localhost:7078", "localhost", "[::1]:7078", "[::1]", "127.0.0.1", "127.9.9.9:1"],
)
def test_loopback_names_need_no_password(host: str) -> None:
    assert access().judge("GET", {"host": host}) is Verdict.ALLOWED


@pytest.mark.parametrize(
    "host",
    ["", "evil.example:7078", "evil.example", "127.0.0.1.evil.example", "10.0.0.1:7078", "localhost.evil:1"],
)
def test_rebinding_is_refused(host: str) -> None:
    assert access().judge("GET", {"host": host}) is Verdict.WRONG_HOST


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:7078", "sec-fetch-site": "cross-site"},
    ],
)
def test_changes_from_other_origins_are_refused(headers: dict[str, str]) -> None:
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        assert access().judge(method, {"host": "127.0.0.1:7078"} | headers) is Verdict.CROSS_ORIGIN
    assert access().judge("GET", {"host": "127.0.0.1:7078"} | headers) is Verdict.ALLOWED


def test_changes_from_the_own_page_and_from_programs() -> None:
    own = {"host": "127.0.0.1:7078", "origin": "http://127.0.0.1:7078", "sec-fetch-site": "same-origin"}
    assert access().judge("POST", own) is Verdict.ALLOWED
    assert access().judge("DELETE", {"host": "127.0.0.1:7078"}) is Verdict.ALLOWED


def test_passwords_are_checked_once() -> None:
    judge = access(needs_password=True)
    assert judge.judge("GET", {"host": "127.0.0.1"}) is Verdict.UNAUTHORIZED
    headers = {"host": "node.example", "authorization": basic("secret")}
    assert judge.judge("GET", headers) is Verdict.CHECK_PASSWORD
    judge.remember("secret")
    assert judge.judge("GET", headers) is Verdict.ALLOWED
    assert judge.judge("GET", headers | {"authorization": basic("secre")}) is Verdict.CHECK_PASSWORD
    assert judge.judge("POST", headers | {"origin": "https://evil.example"}) is Verdict.CROSS_ORIGIN


def test_the_token_of_this_start() -> None:
    headers = {"host": "anything", "authorization": f"Bearer {TOKEN}"}
    assert access(needs_password=True).judge("POST", headers) is Verdict.ALLOWED
    assert access().judge("POST", headers) is Verdict.ALLOWED
    wrong = headers | {"authorization": "Bearer nonsense"}
    assert access(needs_password=True).judge("POST", wrong) is Verdict.CHECK_PASSWORD
    assert access().judge("GET", wrong) is Verdict.WRONG_HOST


@pytest.mark.parametrize(
    ("header", "password"),
    [
        (basic("a:b"), "a:b"),
        ("bearer  x ", "x"),
        ("Basic ???", None),
        ("Basic /w==", None),
        ("Digest x", None),
        ("", None),
        ("Basic " + "A" * 2000, None),
    ],
)
def test_credentials(header: str, password: str | None) -> None:
    assert password_of({"authorization": header}) == password
