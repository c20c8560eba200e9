"""What the system says about itself, from folders like its own."""

from pathlib import Path

from devices import probe

INTEL = "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:9A49\nPCI_SLOT_NAME=0000:00:02.0\n"
INFORMATION = "Model: \t RTX 3060\nGPU UUID: \t GPU-4c4a5a2e-9f5b\nBus Location: \t 0000:01:00.0\n"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_gpus_of_the_kernel(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/drm/renderD128/device/uevent", INTEL)
    write(tmp_path, "sys/class/drm/card0/device/uevent", INTEL)
    write(tmp_path, "sys/class/drm/renderD129/device/uevent", "PCI_ID=8086:0000\nPCI_SLOT_NAME=?\n")
    write(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA Kernel Module  535.183.01  Sun\n")
    write(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", INFORMATION)
    write(tmp_path, "proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: broken\n")
    intel, nvidia = probe.gpus(tmp_path)
    assert (intel.id, intel.render_node) == ("pci-0000:00:02.0", "/dev/dri/renderD128")
    assert intel.driver_version
    assert (nvidia.id, nvidia.driver_version) == ("GPU-4c4a5a2e-9f5b", "535.183.01")


def test_a_host_that_says_nothing(tmp_path: Path) -> None:
    assert probe.gpus(tmp_path) == []
    assert probe.cores(tmp_path) >= 1
    assert probe.memory_bytes(tmp_path) == 0
    assert probe.cpu_name(tmp_path)


def test_names_of_processors(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD Ryzen 5 5600G\n")
    assert probe.cpu_name(tmp_path) == "AMD Ryzen 5 5600G"
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nBogoMIPS: 108\nModel\t\t: Raspberry Pi 4 Model B\n")
    assert probe.cpu_name(tmp_path) == "Raspberry Pi 4 Model B"


def test_a_container_has_fewer_cores_than_its_machine(tmp_path: Path) -> None:
    all_of_them = probe.cores(tmp_path)
    write(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert probe.cores(tmp_path) == 0.5
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert probe.cores(tmp_path) == all_of_them


def test_a_container_of_the_first_version(tmp_path: Path) -> None:
    all_of_them = probe.cores(tmp_path)
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert probe.cores(tmp_path) == all_of_them
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "75000\n")
    assert probe.cores(tmp_path) == 0.75


def test_memory_of_a_container(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n")
    assert probe.memory_bytes(tmp_path) == 16_384_000_000
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert probe.memory_bytes(tmp_path) == 16_384_000_000
    write(tmp_path, "sys/fs/cgroup/memory.max", "1000000000\n")
    assert probe.memory_bytes(tmp_path) == 1_000_000_000
