"""The machine measured on: cores, CPU clocks of process groups, memory."""

import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_CGROUP_ROOTS = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup"))


def cores() -> tuple[int, int]:
    """(server's core, load's core): the first two that we may use; the same one twice when there is one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 if len(usable) > 1 else 0]


def describe() -> dict[str, object]:
    """What a reader needs to judge the figures."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores used of {os.cpu_count()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "TCP congestion control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "python": platform.python_version(),
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
        "CPU clock": "cgroup" if CpuGroup.usable() else "/proc/PID/stat (10 ms steps)",
    }


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _version(program: str, option: str) -> str:
    if shutil.which(program) is None:
        return "not installed"
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return (done.stderr + done.stdout).strip().splitlines()[0]


class Bystanders:
    """CPU time of everything else on the machine: what makes latencies worthless when it is much.

    Valid between two moments at which none of our children is alive.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before_s = _everyone_cpu_s() - _our_cpu_s()

    def core_percent(self) -> float:
        """Mean since the start, % of one core."""
        spent_s = _everyone_cpu_s() - _our_cpu_s() - self._before_s
        return 100 * max(0.0, spent_s) / (time.monotonic() - self._started)


def _everyone_cpu_s() -> float:
    """User, nice and system time of all cores (proc(5)), and steal; not interrupts, which are mostly ours."""
    fields = _read("/proc/stat").split("\n", 1)[0].split()[1:]
    return sum(int(fields[number]) for number in (0, 1, 2, 7)) / CLOCK_TICKS


def _our_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + children_cpu_s()


def children_cpu_s() -> float:
    """CPU seconds of our children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def priority(nice: int) -> Iterator[None]:
    """Run us and our children at `nice`, also where time is shared out by session (autogroup, sched(7))."""
    group = Path("/proc/self/autogroup")
    before = _read(str(group)).rpartition(" ")[2]
    os.nice(nice)
    if nice and before.lstrip("-").isdigit():
        group.write_text(str(nice))
    try:
        yield
    finally:
        if nice and before.lstrip("-").isdigit():
            group.write_text(before)


class CpuGroup:
    """CPU seconds of a program and all its children, from a cgroup of its own where we may make one.

    Else from /proc/PID/stat of the live tree, which loses children that were reaped by others.
    """

    _made = 0

    def __init__(self) -> None:
        CpuGroup._made += 1
        self._folder = _make_cgroup(f"fwnode-bench-{os.getpid()}-{CpuGroup._made}")
        self.exact = self._folder is not None

    @classmethod
    def usable(cls) -> bool:
        group = cls()
        group.remove()
        return group.exact

    def enter(self) -> None:
        """Called in the child before it executes the program."""
        if self._folder is not None:
            (self._folder / "cgroup.procs").write_text("0")

    def cpu_s(self, pid: int) -> float:
        if self._folder is None:
            return sum(_process_cpu_s(member) for member in tree(pid))
        usage = self._folder / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        first = (self._folder / "cpu.stat").read_text().split("\n", 1)[0]  # usage_usec N
        return int(first.split()[1]) / 1e6

    def remove(self) -> None:
        if self._folder is None:
            return
        for _ in range(50):  # the kernel frees a group a moment after its last process
            try:
                self._folder.rmdir()
                return
            except OSError:
                time.sleep(0.02)


def _make_cgroup(name: str) -> Path | None:
    for root in _CGROUP_ROOTS:
        folder = root / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / "cpuacct.usage").exists() or (folder / "cpu.stat").exists():
            return folder
        folder.rmdir()
    return None


def tree(pid: int) -> list[int]:
    """`pid` and its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (proc(5) field 3); empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _process_cpu_s(pid: int) -> float:
    fields = _stat_fields(pid)
    return sum(int(value) for value in fields[11:15]) / CLOCK_TICKS if fields else 0.0


def memory_mb(pid: int) -> float:
    """PSS of the process tree, MB: pages shared between processes are counted once."""
    total = 0
    for member in tree(pid):
        for line in _read(f"/proc/{member}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total * 1024 / 1e6


class Program:
    """A child process on one core, its CPU clock and its memory. Ends with `stop`."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        self._group = CpuGroup()
        self.log = log
        pipe = subprocess.PIPE if pipes else None
        with log.open("ab") as output:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or output,
                stderr=output,
                env=None if env is None else {**os.environ, **env},
                preexec_fn=_prepare(self._group, core),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def cpu_s(self) -> float:
        return self._group.cpu_s(self.pid)

    def own_cpu_s(self) -> float:
        """Without its children."""
        return _process_cpu_s(self.pid)

    def memory_mb(self) -> float:
        return memory_mb(self.pid)

    def alive(self) -> bool:
        return self.process.poll() is None

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]

    def stop(self, grace_s: float = 10.0) -> float:
        """SIGTERM, after `grace_s` SIGKILL to the tree; seconds until it was gone."""
        started = time.monotonic()
        members = tree(self.pid)
        self.process.terminate()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            for member in members:
                _kill(member)
            self.process.wait()
        took = time.monotonic() - started
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._group.remove()
        return took


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def _prepare(group: CpuGroup, core: int) -> Callable[[], None]:
    def in_child() -> None:
        os.sched_setaffinity(0, {core})
        group.enter()

    return in_child
