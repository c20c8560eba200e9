"""Two directories compared message by message until nothing is left to say."""

import hashlib

import pytest

from mesh.directory import reconcile
from mesh.directory.record import Kind, sign_record
from mesh.directory.table import Directory
from mesh.membership.message import RANGES_MAX, Compare, Content, Have, Range


class Signer:
    def __init__(self, number: int) -> None:
        self.node_id = number.to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(self.node_id + message).digest()


RECORDS = [sign_record(Signer(number), b"n" * 32, 1, Kind.WHO, 1, b"") for number in range(3000)]


def directory(without: set[int]) -> Directory:
    table = Directory(lambda record: True)
    for number, record in enumerate(RECORDS):
        if number not in without:
            table.offer(record, 0.0)
    return table


def compare(left: Directory, right: Directory) -> tuple[set[int], set[int], int]:
    """What each learned that it lacks, and how many messages it took."""
    learned: list[set[int]] = [set(), set()]
    tables = [left, right]
    queue: list[tuple[int, object]] = [(1, reconcile.opening(left))]
    messages = 0
    while queue:
        at, message = queue.pop(0)
        messages += 1
        answers: list[object] = []
        if isinstance(message, Compare):
            answers += reconcile.on_compare(tables[at], message)
        elif isinstance(message, Content):
            answers += reconcile.on_content(tables[at], message)
            learned[at] |= {i for i in message.ids if not tables[at].has(i)}
        elif isinstance(message, Have):
            learned[at] |= {i for i in message.ids if not tables[at].has(i)}
        queue += [(1 - at, answer) for answer in answers]
    return learned[0], learned[1], messages


@pytest.mark.parametrize(
    ("left", "right", "messages"),
    [
        (set(), set(), 1),
        ({5}, set(), 6),
        ({5, 6, 7}, {100, 2000}, 20),
        (set(range(0, 3000, 100)), set(range(50, 3000, 100)), 150),
        (set(range(3000)), set(), 10),
        (set(), set(range(3000)), 10),
    ],
    ids=["same", "one", "few", "many", "nothing there", "nothing here"],
)
def test_both_learn_what_they_lack(left: set[int], right: set[int], messages: int) -> None:
    lacks_left, lacks_right, count = compare(directory(left), directory(right))
    assert lacks_left == {RECORDS[number].id for number in left}
    assert lacks_right == {RECORDS[number].id for number in right}
    assert count <= messages


def test_nonsense_ranges_are_passed_over() -> None:
    table = directory(set())
    odd = [Range(3, 1, 0, 1), Range(4, 16, 0, 1), Range(0, 1, 0, 1)]
    assert reconcile.on_compare(table, Compare(odd)) == []
    assert reconcile.on_content(table, Content(8, 256, [])) == []


def test_answer_to_many_ranges_is_bounded() -> None:
    table = directory(set())
    answers = reconcile.on_compare(table, Compare([Range(0, 0, 1, 9999)] * RANGES_MAX))
    assert sum(len(answer.ranges) for answer in answers if isinstance(answer, Compare)) <= RANGES_MAX
