"""What drivers and the kernel say of GPUs, as recorded on machines that have them."""

import pytest

from devices.errors import WireError
from devices.gpu import (
    TEXT_MAX,
    Gpu,
    merged,
    parse_drm_untrusted,
    parse_nvidia_information_untrusted,
    parse_nvidia_smi_untrusted,
    parse_nvidia_version_untrusted,
    parse_pci_untrusted,
)

UUID = "GPU-4c4a5a2e-9f5b-6f0e-6a4e-3f6a6f7f1c2d"
INFORMATION = f"""\
Model: \t\t NVIDIA GeForce RTX 3060
IRQ:   \t\t 134
GPU UUID: \t {UUID}
Video BIOS: \t 94.06.2f.00.88
Bus Type: \t PCIe
DMA Size: \t 47 bits
DMA Mask: \t 0x7fffffffffff
Bus Location: \t 0000:01:00.0
Device Minor: \t 0
GPU Firmware: \t 535.183.01
GPU Excluded:\t No
"""
ASLEEP = INFORMATION.replace(UUID, "GPU-????????-????-????-????-????????????")
VERSION = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN_VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.16  Release Build\n"
SMI = f"""\
{UUID}, 00000000:01:00.0, NVIDIA GeForce RTX 3060, 535.183.01, 12288
GPU-77777777-0000-0000-0000-000000000001, 00000000:0A:00.0, NVIDIA RTX A2000, 535.183.01, [N/A]
"""
INTEL = """\
DRIVER=i915
PCI_CLASS=30000
PCI_ID=8086:9A49
PCI_SUBSYS_ID=1028:0A24
PCI_SLOT_NAME=0000:00:02.0
MODALIAS=pci:v00008086d00009A49sv00001028sd00000A24bc03sc00i00
"""
AMD = "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:1638\nPCI_SLOT_NAME=0000:04:00.0\n"
NVIDIA_DRM = "DRIVER=nvidia\nPCI_CLASS=30000\nPCI_ID=10DE:2504\nPCI_SLOT_NAME=0000:01:00.0\n"
RASPBERRY = "DRIVER=v3d\nOF_NAME=gpu\nOF_FULLNAME=/v3dbus/gpu@7ec04000\nOF_COMPATIBLE_0=brcm,2711-v3d\n"
VIRTIO = "DRIVER=virtio-pci\nPCI_CLASS=38000\nPCI_ID=1AF4:1050\nPCI_SLOT_NAME=0000:00:01.0\n"


def test_pci_addresses_come_in_one_form() -> None:
    assert parse_pci_untrusted("00000000:0A:00.0\n") == "0000:0a:00.0"
    assert parse_pci_untrusted("01:00.1") == "0000:01:00.1"
    for bad in ("", "1:0.0", "0000:01:00.9", "0000:01:00.0 x", "GPU"):
        with pytest.raises(WireError):
            parse_pci_untrusted(bad)


def test_nvidia_by_the_kernel() -> None:
    gpu = parse_nvidia_information_untrusted(INFORMATION, parse_nvidia_version_untrusted(VERSION))
    assert gpu == Gpu("0000:01:00.0", "nvidia", "NVIDIA GeForce RTX 3060", UUID, "nvidia", "535.183.01")
    assert gpu.id == UUID


def test_a_sleeping_card_has_no_uuid_yet() -> None:
    assert parse_nvidia_information_untrusted(ASLEEP).id == "pci-0000:01:00.0"


def test_versions() -> None:
    assert parse_nvidia_version_untrusted(OPEN_VERSION) == "570.86.16"
    assert parse_nvidia_version_untrusted("") == ""
    assert parse_nvidia_version_untrusted("NVRM version: soon\n") == ""


def test_nvidia_smi() -> None:
    first, second = parse_nvidia_smi_untrusted(SMI)
    assert (first.pci, first.memory_bytes) == ("0000:01:00.0", 12288 << 20)
    assert (second.pci, second.memory_bytes) == ("0000:0a:00.0", 0)
    assert parse_nvidia_smi_untrusted("") == []
    for bad in ("No devices were found", "NVIDIA-SMI has failed, because", f"{UUID}, x, y, z, 1"):
        with pytest.raises(WireError):
            parse_nvidia_smi_untrusted(bad)


def test_drm() -> None:
    intel = parse_drm_untrusted(INTEL, "/dev/dri/renderD128", "6.1.0")
    assert intel is not None
    assert (intel.vendor, intel.id, intel.driver) == ("intel", "pci-0000:00:02.0", "i915")
    assert parse_drm_untrusted(RASPBERRY) is None
    assert parse_drm_untrusted(VIRTIO) is None
    assert parse_drm_untrusted("") is None
    with pytest.raises(WireError):
        parse_drm_untrusted(INTEL.replace("0000:00:02.0", "here"))


def test_one_card_seen_three_times_is_one() -> None:
    drm = parse_drm_untrusted(NVIDIA_DRM, "/dev/dri/renderD129")
    amd = parse_drm_untrusted(AMD, "/dev/dri/renderD128")
    assert drm is not None
    assert amd is not None
    found = merged([drm, amd, parse_nvidia_information_untrusted(ASLEEP), *parse_nvidia_smi_untrusted(SMI)])
    assert [gpu.pci for gpu in found] == ["0000:01:00.0", "0000:04:00.0", "0000:0a:00.0"]
    assert [gpu.order for gpu in found] == [0, 0, 1]
    card = found[0]
    assert (card.id, card.name, card.render_node) == (UUID, "NVIDIA GeForce RTX 3060", "/dev/dri/renderD129")
    assert card.driver_version == "535.183.01"


def test_long_texts_are_refused() -> None:
    long = "x" * (TEXT_MAX + 1)
    for parse in (parse_nvidia_smi_untrusted, parse_nvidia_version_untrusted, parse_drm_untrusted):
        with pytest.raises(WireError):
            parse(long)
