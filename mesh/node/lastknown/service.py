"""Keeps on disk where members can be dialled."""

from collections.abc import Callable, Iterable, Mapping

import trio

from mesh.discovery.candidates import is_lan
from mesh.discovery.store import PeersFile

KEEP_S = 60.0  # between writes; a crash loses that much, but the first addresses are kept within a second


class LastKnown:
    """Writes the peers file while the node runs."""

    def __init__(
        self,
        file: PeersFile,
        addresses: Callable[[], Iterable[str]],
        note: Callable[[str, Mapping[str, str]], None],
    ) -> None:
        """`addresses`: of every member that is known to be reachable somewhere, "" of others."""
        self._file = file
        self._addresses = addresses
        self._note = note
        self._kept: list[str] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(KEEP_S if self._kept else 1.0)
            await self.keep()

    async def keep(self) -> None:
        """Write them if they changed, public addresses first."""
        found = sorted(dict.fromkeys(filter(None, self._addresses())), key=is_lan)
        if found and found != self._kept:
            self._kept = found
            await trio.to_thread.run_sync(self._file.keep, found)
            self.say_trouble()

    def say_trouble(self) -> None:
        """Note what is wrong with the file."""
        if self._file.trouble:
            self._note("last known peers", {"trouble": self._file.trouble})
