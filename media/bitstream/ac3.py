"""AC-3 and E-AC-3: syncframe headers, dac3 and dec3. Pure. ETSI TS 102 366 4.3, E.1.2, F.4, F.6."""

from dataclasses import dataclass

from media.bitstream.bits import BitReader
from media.errors import WireError

SAMPLES_PER_BLOCK = 256
AC3_SAMPLES = 1_536  # six blocks always
MAX_SYNCFRAMES = 64  # 8 independent substreams with 7 dependent ones; one of six blocks is usual

_RATES = (48_000, 44_100, 32_000)
_BLOCKS = (1, 2, 3, 6)
_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)  # by acmod
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_DEPENDENT = 1
_MIN_SYNCFRAME_BYTES = 7
# chan_loc's bits (table F.2) by the bit of chanmap (table E.1.4) that means the same.
_CHAN_LOC = {10: 0, 9: 1, 8: 2, 7: 3, 6: 4, 5: 5, 4: 6, 3: 7, 1: 8}
_PAIRS = 0b001110011  # Lc/Rc, Lrs/Rrs, Lsd/Rsd, Lw/Rw, Lvh/Rvh in chan_loc


@dataclass(frozen=True, slots=True)
class SyncFrame:
    enhanced: bool
    dependent: bool
    substream: int
    frame_bytes: int
    rate_code: int
    sample_rate: int
    blocks: int
    bsid: int
    bsmod: int
    acmod: int
    lfe: bool
    bit_rate_code: int  # AC-3 only
    chan_loc: int  # dependent substreams only

    @property
    def samples(self) -> int:
        return self.blocks * SAMPLES_PER_BLOCK


@dataclass(frozen=True, slots=True)
class SurroundConfig:
    """What dac3 or dec3 say."""

    sample_rate: int
    channels: int
    low_frequency: bool

    @property
    def profile(self) -> str:
        """For people: `5.1`."""
        return f"{self.channels - self.low_frequency}.{int(self.low_frequency)}"


def parse_dac3_untrusted(config: bytes) -> SurroundConfig:
    """Parse a dac3 body."""
    bits = BitReader(config[:3])
    rate = _rate(bits.u(2))
    bits.skip(8)
    acmod, lfe = bits.u(3), bits.flag()
    return SurroundConfig(rate, _CHANNELS[acmod] + lfe, lfe)


def parse_dec3_untrusted(config: bytes) -> SurroundConfig:
    """The first independent substream and what its dependent ones add."""
    bits = BitReader(config[:64])
    bits.skip(16)
    rate = _rate(bits.u(2))
    bits.skip(10)
    acmod, lfe = bits.u(3), bits.flag()
    bits.skip(3)
    chan_loc = bits.u(9) if bits.u(4) else 0
    extra = chan_loc.bit_count() + (chan_loc & _PAIRS).bit_count()
    return SurroundConfig(rate, _CHANNELS[acmod] + lfe + extra, lfe)


def config_from_syncframe_untrusted(data: bytes) -> bytes:
    """A dac3 body from an AC-3 syncframe, a dec3 body from the E-AC-3 syncframes of one access unit."""
    frames = parse_syncframes_untrusted(data)
    first = frames[0]
    if not first.enhanced:
        fields = first.rate_code << 22 | first.bsid << 17 | first.bsmod << 14 | first.acmod << 11
        return (fields | first.lfe << 10 | first.bit_rate_code << 5).to_bytes(3, "big")
    independent = [frame for frame in frames if not frame.dependent]
    programs = len({frame.substream for frame in independent})
    octets = sum(frame.frame_bytes for frame in frames)
    samples = sum(frame.samples for frame in independent if frame.substream == first.substream)
    kbps = min(octets * 8 * first.sample_rate // samples // 1_000, (1 << 13) - 1)
    return (kbps << 3 | (programs - 1)).to_bytes(2, "big") + b"".join(_dec3_substreams(frames))


def access_unit_samples_untrusted(data: bytes) -> int:
    """How long an access unit sounds, in samples: the blocks of its first independent substream."""
    frames = parse_syncframes_untrusted(data)
    substream = frames[0].substream
    return sum(frame.samples for frame in frames if not frame.dependent and frame.substream == substream)


def parse_syncframes_untrusted(data: bytes) -> list[SyncFrame]:
    """The headers of an access unit's syncframes, at least one; whether the last is whole is not checked."""
    frames: list[SyncFrame] = []
    at = 0
    while at + _MIN_SYNCFRAME_BYTES <= len(data) and len(frames) < MAX_SYNCFRAMES:
        frame = parse_syncframe_untrusted(data, at)
        frames.append(frame)
        at += frame.frame_bytes
    if not frames or frames[0].dependent:
        raise WireError("an AC-3 access unit does not begin with an independent syncframe")
    return frames


def parse_syncframe_untrusted(data: bytes, at: int = 0) -> SyncFrame:
    """Parse the syncframe header at `at`; the frame itself need not be there in full."""
    # bsi() up to chanmap takes 15 bytes at most.
    bits = BitReader(data[at : at + 16])
    if bits.u(16) != 0x0B77:
        raise WireError("not an AC-3 syncframe")
    bsid = data[at + 5] >> 3 if len(data) > at + 5 else 0
    if bsid > 16:
        raise WireError(f"AC-3 has no bit stream identification {bsid}")
    return _parse_enhanced(bits) if bsid > 10 else _parse_plain(bits)


def _parse_plain(bits: BitReader) -> SyncFrame:
    bits.skip(16)  # crc1
    rate_code, size_code, bsid, bsmod, acmod = bits.u(2), bits.u(6), bits.u(5), bits.u(3), bits.u(3)
    rate = _rate(rate_code)
    if size_code >> 1 >= len(_AC3_KBPS):
        raise WireError("an AC-3 syncframe has a reserved size")
    words = _AC3_KBPS[size_code >> 1] * 96_000 // rate + (size_code & 1 if rate_code == 1 else 0)
    # cmixlev with three front channels, surmixlev with surround ones, dsurmod in stereo.
    bits.skip(2 * (acmod & 1 and acmod != 1) + 2 * (acmod >> 2) + 2 * (acmod == 2))
    return SyncFrame(
        False, False, 0, words * 2, rate_code, rate, 6, bsid, bsmod, acmod, bits.flag(), size_code >> 1, 0
    )


def _parse_enhanced(bits: BitReader) -> SyncFrame:
    stream_type, substream, words = bits.u(2), bits.u(3), bits.u(11) + 1
    rate_code, blocks_code = bits.u(2), bits.u(2)
    blocks = 6 if rate_code == 3 else _BLOCKS[blocks_code]
    rate = _rate(blocks_code) // 2 if rate_code == 3 else _rate(rate_code)
    acmod, lfe, bsid = bits.u(3), bits.flag(), bits.u(5)
    for _ in range(1 if acmod else 2):
        bits.skip(5)  # dialnorm
        if bits.flag():
            bits.skip(8)  # compr
    dependent = stream_type == _DEPENDENT
    chan_loc = 0
    if dependent and bits.flag():
        chanmap = bits.u(16)
        chan_loc = sum(1 << to for bit, to in _CHAN_LOC.items() if chanmap >> bit & 1)
    return SyncFrame(
        True, dependent, substream, words * 2, rate_code, rate, blocks, bsid, 0, acmod, lfe, 0, chan_loc
    )


def _dec3_substreams(frames: list[SyncFrame]) -> list[bytes]:
    """One entry for each independent substream, with what the dependent frames after it add."""
    groups: dict[int, list[SyncFrame]] = {}
    current = 0
    for frame in frames:
        if frame.dependent:
            groups[current].append(frame)
            continue
        current = frame.substream
        if current in groups:  # frames of fewer than six blocks: the first round names every substream
            break
        groups[current] = [frame]
    return [_dec3_entry(group[0], group[1:]) for group in groups.values()]


def _dec3_entry(frame: SyncFrame, dependents: list[SyncFrame]) -> bytes:
    fields = frame.rate_code << 22 | frame.bsid << 17 | frame.bsmod << 12 | frame.acmod << 9
    fields |= frame.lfe << 8 | min(len(dependents), 15) << 1
    if not dependents:
        return fields.to_bytes(3, "big")
    chan_loc = 0
    for dependent in dependents:
        chan_loc |= dependent.chan_loc
    return (fields << 8 | chan_loc).to_bytes(4, "big")


def _rate(code: int) -> int:
    if code >= len(_RATES):
        raise WireError("AC-3 has a reserved sample rate code")
    return _RATES[code]
