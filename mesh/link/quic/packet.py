"""Short-header packets (RFC 9000 17.3, RFC 9001 5) with aioquic's keys, sealed by the batch. Pure."""

from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.quic.packet import decode_packet_number

CONNECTION_ID_BYTES = 8  # of ours: 64 bits that a stranger would have to guess to be let in to a connection
SHORT_HEADER, FORM_MASK = 0x40, 0xC0
RESERVED_BITS, KEY_PHASE_BIT = 0x18, 0x04
NUMBER_BYTES = 2  # of what is sealed: 32,768 packets may be under way, 45 MB
ID_END = 1 + CONNECTION_ID_BYTES
HEADER_BYTES = ID_END + NUMBER_BYTES
SAMPLE_AT, SAMPLE_BYTES = ID_END + 4, 16  # RFC 9001 5.4.2
TAG_BYTES = 16
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES
MASK_BYTES = 5
PLAIN_BYTES_MIN = 4 - NUMBER_BYTES  # less would leave nothing to sample
VARIABLE_BYTES_MAX = 8


def seal(keys: CryptoPair, destination: bytes, number: int, plains: list[bytes]) -> list[bytes]:
    """Packets with the numbers from `number` on; `destination` has CONNECTION_ID_BYTES."""
    context = keys.send
    assert context.aead is not None
    encrypt = context.aead.encrypt
    start = bytes((SHORT_HEADER | context.key_phase << 2 | (NUMBER_BYTES - 1),)) + destination
    headers = [
        start + (each & 0xFFFF).to_bytes(NUMBER_BYTES, "big") for each in range(number, number + len(plains))
    ]
    sealed = [
        encrypt(plain, header, each)
        for each, (header, plain) in enumerate(zip(headers, plains, strict=True), number)
    ]
    return [
        b"%c%b%c%c%b"
        % (start[0] ^ (mask[0] & 0x1F), destination, header[-2] ^ mask[1], header[-1] ^ mask[2], body)
        for header, mask, body in zip(headers, _masks(context, sealed), sealed, strict=True)
    ]


def _masks(context: CryptoContext, sealed: list[bytes]) -> list[bytes]:
    """Of header protection: with AES one call makes them all."""
    hide = context.hp
    assert hide is not None
    samples = [body[4 - NUMBER_BYTES : 4 - NUMBER_BYTES + SAMPLE_BYTES] for body in sealed]
    if hide._is_chacha20:
        return [hide._mask(sample) for sample in samples]
    whole = hide._encryptor.update(b"".join(samples))
    return [whole[at : at + MASK_BYTES] for at in range(0, len(whole), SAMPLE_BYTES)]


def unseal_untrusted(context: CryptoContext, data: bytes, expected: int) -> tuple[int, bytes] | None:
    """Number and contents of a packet of at least SAMPLE_AT + SAMPLE_BYTES.

    None: it needs more than this, as one with the next keys does. Raises CryptoError when it is forged.
    """
    hide, aead = context.hp, context.aead
    if hide is None or aead is None:
        return None
    mask = hide._mask(data[SAMPLE_AT : SAMPLE_AT + SAMPLE_BYTES])
    first = data[0] ^ (mask[0] & 0x1F)
    if first & RESERVED_BITS or (first & KEY_PHASE_BIT) >> 2 != context.key_phase:
        return None
    length = (first & 3) + 1
    end = ID_END + length
    shown = int.from_bytes(data[ID_END:end], "big") ^ int.from_bytes(mask[1 : 1 + length], "big")
    number = decode_packet_number(shown, length * 8, expected)
    header = b"%c%b%b" % (first, data[1:ID_END], shown.to_bytes(length, "big"))
    return number, aead.decrypt(data[end:], header, number)


def variable_untrusted(data: bytes, at: int, size: int) -> tuple[int, int]:
    """An integer (RFC 9000 16) and where it ends: beyond `size` when it is not all there."""
    if at >= size:
        return 0, size + 1
    first = data[at]
    if first < 0x40:
        return first, at + 1
    end = at + (1 << (first >> 6))
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end


def as_variable(value: int) -> bytes:
    """An integer as RFC 9000 16 has it: in one byte, in four or in eight."""
    if value < 0x40:
        return bytes((value,))
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")


__all__ = [
    "CONNECTION_ID_BYTES",
    "FORM_MASK",
    "ID_END",
    "OVERHEAD_BYTES",
    "SAMPLE_AT",
    "SAMPLE_BYTES",
    "SHORT_HEADER",
    "VARIABLE_BYTES_MAX",
    "CryptoError",
    "as_variable",
    "seal",
    "unseal_untrusted",
    "variable_untrusted",
]
