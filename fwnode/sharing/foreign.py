"""The stream keys of other nodes that this one accepts, by what their makers say. Pure."""

from collections.abc import Callable, Iterable

from fwnode.keys import StreamKey
from fwnode.sharing.pages import parse_page_untrusted, stream_keys
from mesh.errors import WireError
from mesh.identity.notice import Notice, Rank
from mesh.model import NodeId

FOREIGN_MAX = 20_000  # held in memory, about 400 bytes each: twice what 10 nodes can share


class ForeignKeys:
    """Keys by notice: a page is read once."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._pages: dict[Rank, tuple[Notice, list[StreamKey]]] = {}

    def accepted(
        self, in_force: Iterable[Notice], is_revoked: Callable[[bytes], bool], most: int = FOREIGN_MAX
    ) -> list[StreamKey]:
        """The keys of the notices in force, without those that the network's owner revoked.

        Of more than `most`, the first by the rank of their notices.
        """
        pages: dict[Rank, tuple[Notice, list[StreamKey]]] = {}
        found: list[StreamKey] = []
        for notice in in_force:
            if notice.author == self._node:
                continue
            read = self._pages.get(notice.rank)
            if read is None or read[0] is not notice:
                read = notice, _keys_of(notice)
            pages[notice.rank] = read
            found += [key for key in read[1] if not is_revoked(key.digest)]
        self._pages = pages
        return found[:most]


def _keys_of(notice: Notice) -> list[StreamKey]:
    """The keys that a notice speaks of; none when it is not understood."""
    try:
        page = parse_page_untrusted(notice.payload)
    except WireError:
        return []
    return stream_keys(page, notice.author, notice.chain.claim.name)
