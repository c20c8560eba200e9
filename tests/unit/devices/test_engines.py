"""Which engines are tried on which GPUs."""

from devices.engines import ENGINES, TARGETS_MAX, targets
from devices.gpu import Gpu
from devices.model import CODECS, CPU, Choice, Kind

FIRST = Gpu("0000:01:00.0", "nvidia", "RTX 3060", "GPU-11111111", order=0)
SECOND = Gpu("0000:02:00.0", "nvidia", "RTX A2000", "", order=1)
INTEL = Gpu("0000:00:02.0", "intel", "UHD", render_node="/dev/dri/renderD128")
AMD = Gpu("0000:03:00.0", "amd", "Navi", render_node="/dev/dri/renderD129")


def chosen(name: str, *gpus: Gpu) -> list[Choice]:
    return [target.choice for target in targets(gpus) if target.engine.name == name]


def test_names_are_unique_and_codecs_known() -> None:
    keys = [(engine.kind, engine.name) for engine in ENGINES]
    assert len(keys) == len(set(keys))
    assert {engine.codec for engine in ENGINES} == set(CODECS)


def test_every_codec_can_be_done_in_software() -> None:
    for kind in Kind:
        found = {engine.codec for engine in ENGINES if engine.kind is kind and engine.maker == "software"}
        assert found == set(CODECS)


def test_software_runs_on_the_cpu_whatever_else_there_is() -> None:
    (choice,) = chosen("libx264", FIRST, INTEL)
    assert (choice.device, choice.pixel_format, choice.options) == (CPU, "yuv420p", {"preset": "veryfast"})


def test_each_nvidia_card_is_told_apart_by_what_does_not_change() -> None:
    first, second = chosen("h264_nvenc", FIRST, SECOND, INTEL)
    assert first.device == "GPU-11111111"
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "GPU-11111111"
    assert second.device == "pci-0000:02:00.0"
    assert second.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}


def test_a_single_card_without_uuid_needs_no_telling() -> None:
    (choice,) = chosen("h264_nvenc", SECOND)
    assert choice.environment == {}


def test_vaapi_goes_by_render_node_on_intel_and_amd() -> None:
    nodes = {choice.device: choice.device_name for choice in chosen("h264_vaapi", FIRST, INTEL, AMD)}
    assert nodes == {INTEL.id: "/dev/dri/renderD128", AMD.id: "/dev/dri/renderD129"}
    assert {choice.hwaccel for choice in chosen("hevc-vaapi", INTEL)} == {"vaapi"}
    assert {choice.engine for choice in chosen("hevc-vaapi", INTEL)} == {"hevc"}


def test_without_hardware_everything_is_still_tried_once() -> None:
    found = targets([])
    assert len(found) == len(ENGINES)
    assert {target.choice.device for target in found if target.engine.maker == "intel"} == {"intel"}
    assert len({target.key for target in found}) == len(found)


def test_more_cards_than_there_can_be_are_left_out() -> None:
    cards = [Gpu(f"0000:{bus:02x}:00.0", "nvidia", uuid=f"GPU-{bus:08d}") for bus in range(64)]
    assert len(targets(cards)) == TARGETS_MAX
