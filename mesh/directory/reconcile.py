"""Comparing directories with a neighbour: fingerprints of ranges, split where they differ, then ids.

One comparison costs 100 bytes when nothing differs, and steps that grow with the logarithm of the table's
size when something does. What is learned is announced or fetched like anything broadcast, after a delay in
which most of a difference between two live nodes (records still spreading) goes away by itself.
"""

from mesh.directory.table import Directory
from mesh.membership.message import BATCH_MAX, RANGES_MAX, Compare, Content, Have, Range

LEAF_IDS = 64  # a range with no more is listed, not split: 576 bytes against another round trip
STEP_BITS = 4
BITS_MAX = 60
HAVE_MESSAGES_MAX = 16  # 8192 ids at a time for a node that has nothing in a range; the rest next time


def opening(directory: Directory) -> Compare:
    """The first message: everything as one range."""
    fingerprint, count = directory.range_fingerprint(0, 0)
    return Compare([Range(0, 0, fingerprint, count)])


def on_compare(directory: Directory, message: Compare) -> list[Compare | Content | Have]:
    """Answers for the ranges in which we differ from the sender; nothing if there are none."""
    answers: list[Compare | Content | Have] = []
    split: list[Range] = []
    for theirs in message.ranges:
        bits, prefix = theirs.bits, theirs.prefix
        if bits % STEP_BITS or prefix >> bits:
            continue
        fingerprint, count = directory.range_fingerprint(bits, prefix)
        if fingerprint == theirs.fingerprint and count == theirs.count:
            continue
        if theirs.count == 0:
            answers += _batches(directory.range_ids(bits, prefix))
        elif count == 0 or bits >= BITS_MAX or max(count, theirs.count) <= LEAF_IDS:
            answers.append(Content(bits, prefix, directory.range_ids(bits, prefix)[:BATCH_MAX]))
        else:
            split += _split(directory, bits, prefix)
    answers += [Compare(split[:RANGES_MAX])] if split else []
    return answers


def on_content(directory: Directory, message: Content) -> list[Have]:
    """Announcements of what we have in the range and the sender has not."""
    if message.bits % STEP_BITS or message.prefix >> message.bits:
        return []
    theirs = set(message.ids)
    return _batches([i for i in directory.range_ids(message.bits, message.prefix) if i not in theirs])


def _batches(identities: list[int]) -> list[Have]:
    cut = identities[: BATCH_MAX * HAVE_MESSAGES_MAX]
    return [Have(cut[start : start + BATCH_MAX], True) for start in range(0, len(cut), BATCH_MAX)]


def _split(directory: Directory, bits: int, prefix: int) -> list[Range]:
    """The range in sixteen, in one pass over its ids."""
    below = bits + STEP_BITS
    first = prefix << STEP_BITS
    if below == STEP_BITS:
        return [Range(4, part, *directory.range_fingerprint(4, part)) for part in range(16)]
    fingerprints, counts = [0] * 16, [0] * 16
    shift = 64 - below
    for identity in directory.range_ids(bits, prefix):
        part = (identity >> shift) - first
        fingerprints[part] ^= identity
        counts[part] += 1
    return [Range(below, first + part, fingerprints[part], counts[part]) for part in range(16)]
