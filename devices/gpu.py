"""Which GPUs this host has, from what the kernel and the drivers say in text. Pure.

A GPU is known by what does not change when cards are added or the machine restarts: NVIDIA's UUID,
else the PCI address.
"""

import re
from collections.abc import Iterable

import msgspec

from devices.errors import WireError

TEXT_MAX = 16_384  # letters of one such text; the longest seen has 1200
GPUS_MAX = 16  # of one host; more do not fit into machines that are sold
NAME_MAX = 100
VENDOR_IDS = {0x10DE: "nvidia", 0x8086: "intel", 0x1002: "amd"}
NVIDIA_SMI_QUERY = "uuid,pci.bus_id,name,driver_version,memory.total"
MEBIBYTE = 1 << 20

_PCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_UUID = re.compile(r"(?:GPU|MIG)-[0-9a-fA-F-]{8,64}")
_VERSION = re.compile(r"\d+(?:\.\d+){1,3}")


class Gpu(msgspec.Struct, frozen=True):
    """One GPU. `pci` as in "0000:01:00.0"; "" and 0 for what is not known.

    `order` is its place among the GPUs of its vendor by PCI address; memory is its own, not the host's.
    """

    pci: str
    vendor: str
    name: str = ""
    uuid: str = ""
    driver: str = ""
    driver_version: str = ""
    render_node: str = ""
    memory_bytes: int = 0
    order: int = 0

    @property
    def id(self) -> str:
        """What it is known by."""
        return self.uuid or f"pci-{self.pci}"


def parse_pci_untrusted(text: str) -> str:
    """The canonical form of a PCI address ("00000000:01:00.0", "01:00.0"). Raises WireError."""
    match = _PCI.fullmatch(text.strip())
    if match is None:
        raise WireError(f"not a PCI address: {text[:40]!r}")
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{bus}:{slot}.{function}".lower()


def parse_drm_untrusted(uevent: str, render_node: str = "", driver_version: str = "") -> Gpu | None:
    """The GPU of `/sys/class/drm/renderD*/device/uevent`; None when it is none of the known vendors'.

    Raises WireError.
    """
    fields = _fields_untrusted(uevent, "=")
    vendor_id, _, _ = fields.get("PCI_ID", "").partition(":")
    if not re.fullmatch(r"[0-9A-Fa-f]{4}", vendor_id):
        return None  # a platform device, as on a Raspberry Pi: its codecs are reached by V4L2
    vendor = VENDOR_IDS.get(int(vendor_id, 16))
    if vendor is None:
        return None
    return Gpu(
        pci=parse_pci_untrusted(fields.get("PCI_SLOT_NAME", "")),
        vendor=vendor,
        name=f"{vendor} {fields['PCI_ID'].lower()}",
        driver=fields.get("DRIVER", "")[:NAME_MAX],
        driver_version=driver_version[:NAME_MAX],
        render_node=render_node,
    )


def parse_nvidia_information_untrusted(text: str, driver_version: str = "") -> Gpu:
    """The GPU of `/proc/driver/nvidia/gpus/*/information`. Raises WireError."""
    fields = _fields_untrusted(text, ":")
    uuid = fields.get("GPU UUID", "")
    return Gpu(
        pci=parse_pci_untrusted(fields.get("Bus Location", "")),
        vendor="nvidia",
        name=fields.get("Model", "")[:NAME_MAX],
        uuid=uuid if _UUID.fullmatch(uuid) else "",  # question marks until the driver has woken the card
        driver="nvidia",
        driver_version=driver_version,
    )


def parse_nvidia_version_untrusted(text: str) -> str:
    """The version in `/proc/driver/nvidia/version`, "" when it names none. Raises WireError."""
    _limit(text)
    for line in text.splitlines():
        if line.startswith("NVRM version:"):
            found = _VERSION.search(line)
            return found[0] if found else ""
    return ""


def parse_nvidia_smi_untrusted(text: str) -> list[Gpu]:
    """GPUs of `nvidia-smi --query-gpu=NVIDIA_SMI_QUERY --format=csv,noheader,nounits`. Raises WireError."""
    _limit(text)
    found = []
    for line in text.splitlines()[:GPUS_MAX]:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != NVIDIA_SMI_QUERY.count(",") + 1 or not _UUID.fullmatch(cells[0]):
            raise WireError(f"not a line of nvidia-smi: {line[:80]!r}")
        uuid, pci, name, version, memory = cells
        megabytes = int(memory) if re.fullmatch(r"[0-9]{1,9}", memory) else 0
        found.append(
            Gpu(
                pci=parse_pci_untrusted(pci),
                vendor="nvidia",
                name=name[:NAME_MAX],
                uuid=uuid,
                driver="nvidia",
                driver_version=version[:NAME_MAX],
                memory_bytes=megabytes * MEBIBYTE,
            )
        )
    return found


def merged(found: Iterable[Gpu]) -> list[Gpu]:
    """One GPU for each PCI address, by address; what one source does not know is taken from another."""
    by_pci: dict[str, Gpu] = {}
    for gpu in found:
        known = by_pci.get(gpu.pci)
        by_pci[gpu.pci] = gpu if known is None else _both(known, gpu)
    ordered = [by_pci[pci] for pci in sorted(by_pci)][:GPUS_MAX]
    counts: dict[str, int] = {}
    numbered = []
    for gpu in ordered:
        numbered.append(msgspec.structs.replace(gpu, order=counts.get(gpu.vendor, 0)))
        counts[gpu.vendor] = counts.get(gpu.vendor, 0) + 1
    return numbered


def _both(first: Gpu, second: Gpu) -> Gpu:
    generic = re.fullmatch(r"\w+ [0-9a-f]{4}:[0-9a-f]{4}", first.name)
    return Gpu(
        pci=first.pci,
        vendor=first.vendor,
        name=second.name if generic and second.name else first.name or second.name,
        uuid=first.uuid or second.uuid,
        driver=first.driver or second.driver,
        driver_version=first.driver_version or second.driver_version,
        render_node=first.render_node or second.render_node,
        memory_bytes=first.memory_bytes or second.memory_bytes,
    )


def _fields_untrusted(text: str, separator: str) -> dict[str, str]:
    _limit(text)
    pairs = (line.partition(separator) for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}


def _limit(text: str) -> None:
    if len(text) > TEXT_MAX:
        raise WireError(f"a text of {len(text)} letters, limit {TEXT_MAX}")
