"""Who takes which stream from whom in the whole network, as members say in the directory. Pure."""

from collections.abc import Callable, Iterable

from fwnode.replication.model import StreamTree, TreeList, TreeNode
from mesh.directory.facts import CarriedStream, Load
from mesh.model import NodeId
from mesh.routing.owners import Publication, precedence, publication_of
from mesh.routing.parents import parent_of

ENTRIES_MAX = 5000  # nodes of all trees in one answer: 1 MB of JSON


def stream_trees(
    said: Iterable[tuple[str, NodeId, CarriedStream]],
    current: Callable[[str], Publication | None],
    name_of: Callable[[NodeId], str],
    load_of: Callable[[NodeId], Load | None],
) -> TreeList:
    """All publications by stream and then by precedence. `current`: what a stream's name means now."""
    found: dict[tuple[str, Publication], list[tuple[NodeId, CarriedStream]]] = {}
    count = left_out = 0
    for stream, node, carried in said:
        publication = publication_of(node, carried)
        if publication is None:
            continue
        count += 1
        if count > ENTRIES_MAX:
            left_out += 1
        else:
            found.setdefault((stream, publication), []).append((node, carried))
    order = sorted(found, key=lambda key: (key[0], precedence(key[1])))
    trees = [
        StreamTree(
            stream,
            publication.origin.hex(),
            name_of(publication.origin),
            publication.epoch_unix_us,
            current(stream) == publication,
            [
                _tree_node(node, carried, name_of(node), load_of(node))
                for node, carried in sorted(
                    found[stream, publication], key=lambda row: (row[1].depth, row[0])
                )
            ],
        )
        for stream, publication in order
    ]
    return TreeList(trees, left_out)


def _tree_node(node: NodeId, carried: CarriedStream, name: str, load: Load | None) -> TreeNode:
    parent = parent_of(carried)
    return TreeNode(
        node.hex(),
        name,
        carried.depth,
        parent.hex() if parent is not None else "",
        carried.bitrate_bps,
        carried.tracks,
        load.uplink_bps if load is not None else None,
        load.uplink_budget_bps if load is not None else None,
    )
