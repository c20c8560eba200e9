from fwbench.profile import Hot, as_text, hottest

RAW = """main (a.py:1);send (t.py:5) 6
main (a.py:1);send (t.py:9) 2
main (a.py:2);walk (w.py:3);walk (w.py:4) 2
main (a.py:3);EpollIOManager.get_events (trio/_core/_io_epoll.py:200) 90
"""


def test_functions_are_summed_over_their_lines() -> None:
    assert hottest(RAW, 2) == [Hot("send (t.py)", 80.0, 80.0), Hot("walk (w.py)", 20.0, 20.0)]


def test_no_samples() -> None:
    assert hottest("") == []
    assert as_text([]).startswith("self %")
