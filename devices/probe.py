"""Reads what the system says about itself: processor, cores, memory, GPUs."""

import os
import platform
import subprocess
from pathlib import Path

from devices.errors import WireError
from devices.gpu import (
    GPUS_MAX,
    NVIDIA_SMI_QUERY,
    TEXT_MAX,
    Gpu,
    merged,
    parse_drm_untrusted,
    parse_nvidia_information_untrusted,
    parse_nvidia_smi_untrusted,
    parse_nvidia_version_untrusted,
)

NVIDIA_SMI_S = 10.0  # it wakes the cards, which takes some seconds
CPU_INFO_MAX = 1 << 20  # 256 cores say 400 kB
UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2^63 for none


def gpus(root: Path = Path("/")) -> list[Gpu]:
    """GPUs of this host by every source that there is; a source that makes no sense is left out."""
    found = [*_nvidia_kernel(root), *_drm(root)]
    return merged([*_nvidia_smi(), *found] if root == Path("/") else found)


def cpu_name(root: Path = Path("/")) -> str:
    """The processor as it is sold, or its architecture."""
    for line in _text(root / "proc/cpuinfo", CPU_INFO_MAX).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():
            return value.strip()[:100]
    return platform.processor() or platform.machine() or "unknown"


def cores(root: Path = Path("/")) -> float:
    """Cores that this process may use: by affinity, and by the quota of its container (cgroup v2 and v1)."""
    try:
        count = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on this system
        count = float(os.cpu_count() or 1)
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota.strip():
        quota = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    allowed = _ratio(quota, period)
    return min(count, allowed) if allowed else count


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use: the machine's, or less in a container. 0: not known."""
    found = 0
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            found = _number(line.split()[1]) * 1024
    for limit in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        allowed = _number(_text(root / limit))
        if 0 < allowed < UNLIMITED:
            found = min(found or allowed, allowed)
    return found


def resident_bytes(process: int) -> int | None:
    """Memory that a process has in use; None when it has ended, or on a system that says it otherwise."""
    fields = _text(Path(f"/proc/{process}/statm")).split()
    return _number(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None


def _nvidia_smi() -> list[Gpu]:
    command = ["nvidia-smi", f"--query-gpu={NVIDIA_SMI_QUERY}", "--format=csv,noheader,nounits"]
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=NVIDIA_SMI_S,
            check=True,
        )
        return parse_nvidia_smi_untrusted(ran.stdout.decode("utf-8", "replace"))
    except (OSError, subprocess.SubprocessError, WireError):
        return []


def _nvidia_kernel(root: Path) -> list[Gpu]:
    found = []
    try:
        version = parse_nvidia_version_untrusted(_text(root / "proc/driver/nvidia/version"))
    except WireError:
        version = ""
    for path in _listed(root / "proc/driver/nvidia/gpus"):
        try:
            found.append(parse_nvidia_information_untrusted(_text(path / "information"), version))
        except WireError:
            pass
    return found


def _drm(root: Path) -> list[Gpu]:
    found = []
    for path in _listed(root / "sys/class/drm"):
        if not path.name.startswith("renderD"):
            continue
        driver = path / "device/driver/module/version"
        version = _text(driver).strip() or platform.release()  # drivers in the kernel are as old as it
        try:
            gpu = parse_drm_untrusted(_text(path / "device/uevent"), f"/dev/dri/{path.name}", version)
        except WireError:
            gpu = None
        if gpu is not None:
            found.append(gpu)
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[: 4 * GPUS_MAX]  # a card has up to four nodes
    except OSError:
        return []


def _text(path: Path, limit: int = TEXT_MAX) -> str:
    """The beginning of a small file, "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.strip().isascii() and text.strip().isdigit() else 0


def _ratio(quota: str, period: str) -> float:
    return _number(quota) / _number(period) if _number(period) else 0.0
