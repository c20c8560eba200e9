"""Packets on tracks of a stream: timeline repair, boundary marks, the ring that readers follow."""
