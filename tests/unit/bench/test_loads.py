import pytest
from fwbench.loads import LoadError, parse_wrk


def test_the_line_of_our_wrk_script() -> None:
    output = "Running 4s test\nfwbench requests=88902 bytes=290442834 us=4042223 failed=0\n"
    assert parse_wrk(output) == {"requests": 88902, "bytes": 290442834, "us": 4042223, "failed": 0}


def test_what_wrk_said_instead() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1: Connection refused")
