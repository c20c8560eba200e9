"""Gives a process a part of a core, so that several of them have a core each on a machine that has few."""

import os
from pathlib import Path

PERIOD_US = 10_000  # short, so that one waits little for its next share
_ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup"))


class ShareError(OSError):
    """No process can be given less than a core here."""


class Share:
    """At most `share` of a core for those who enter; ends with its `with`."""

    _made = 0

    def __init__(self, share: float) -> None:
        Share._made += 1
        name = f"fwnode-share-{os.getpid()}-{Share._made}"
        for root in _ROOTS:
            self._folder = root / name
            try:
                self._folder.mkdir()
                self._limit(round(share * PERIOD_US))
            except OSError:
                self._folder.rmdir() if self._folder.exists() else None
                continue
            return
        raise ShareError("no cgroup that limits CPU time can be made here")

    def _limit(self, quota_us: int) -> None:
        period = self._folder / "cpu.cfs_period_us"
        if period.exists():
            period.write_text(str(PERIOD_US))
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (self._folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")

    def take(self, pid: int) -> None:
        """That process from now on, and the children that it starts later."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """When those who entered are gone."""
        if self._folder.exists():
            self._folder.rmdir()


def missing() -> str:
    """Why there is none here; empty when there is."""
    try:
        Share(0.5).remove()
    except ShareError as error:
        return str(error)
    return ""
