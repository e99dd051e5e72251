"""Codes as bytes: a dense little-endian bit stream of 1 to 8 bits a code, or 2 or 4 bytes a code."""

from __future__ import annotations

import torch
from torch import Tensor

from quantizers.errors import QuantizerError
from quantizers.spec import FLOAT_BITS, MAX_BITS, check_bits

BYTE_BITS = 8


def stored_bits(bits: int) -> int:
    """Return the bits that a code of so many bits takes in store: 9 to 15 take 16."""
    check_bits(bits)
    return bits if bits <= BYTE_BITS or bits == FLOAT_BITS else MAX_BITS


def packed_nbytes(count: int, bits: int) -> int:
    """Return the bytes that `pack` makes of `count` codes."""
    return -(-count * stored_bits(bits) // BYTE_BITS)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return integer codes of any shape as bytes, uint8 [packed_nbytes].

    Where a code is negative, all are taken as signed: -2^(b-1) to 2^(b-1)-1 in two's complement; else
    they are 0 to 2^b-1. At 32 bits, pass `x.view(torch.int32)`. Raises QuantizerError where a code does
    not fit into its bits.
    """
    width = stored_bits(bits)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype is torch.bool:
        raise QuantizerError(f"expected integer codes (got {codes.dtype})")
    flat = codes.reshape(-1).long()
    if flat.numel() == 0:
        return flat.to(torch.uint8)
    least, greatest = (int(end) for end in torch.aminmax(flat))
    signed = least < 0
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if least < low or greatest > high:
        raise QuantizerError(f"expected codes of {bits} bits, {low} to {high} (got {least} to {greatest})")
    flat = flat & ((1 << width) - 1)
    if width > BYTE_BITS:
        return _split(flat, BYTE_BITS, width // BYTE_BITS).to(torch.uint8).reshape(-1)
    # Eight codes fill `width` bytes exactly; a 64-bit word holds them.
    words = _join(_padded(flat, BYTE_BITS).view(-1, BYTE_BITS), width)
    packed = _split(words, BYTE_BITS, width).to(torch.uint8).reshape(-1)
    return packed[: packed_nbytes(flat.numel(), bits)].clone()


def unpack(packed: Tensor, bits: int, count: int, *, signed: bool = False) -> Tensor:
    """Return the codes that `pack` took, [count] int32 (int64 for unsigned codes of 32 bits).

    Raises QuantizerError where `packed` has not the bytes of `count` codes.
    """
    width = stored_bits(bits)
    nbytes = packed_nbytes(count, bits)
    if packed.dtype is not torch.uint8 or packed.numel() != nbytes:
        raise QuantizerError(
            f"expected {nbytes} bytes (uint8) for {count} codes of {bits} bits "
            f"(got {packed.numel()} values of {packed.dtype})"
        )
    content = packed.reshape(-1).long()
    if width > BYTE_BITS:
        codes = _join(content.view(-1, width // BYTE_BITS), BYTE_BITS)
    else:
        words = _join(_padded(content, width).view(-1, width), BYTE_BITS)
        codes = _split(words, width, BYTE_BITS).reshape(-1)[:count]
    if signed:
        codes = torch.where(codes >= 1 << (width - 1), codes - (1 << width), codes)
    return codes.clone() if width == FLOAT_BITS and not signed else codes.to(torch.int32)


def _padded(flat: Tensor, multiple: int) -> Tensor:
    return torch.nn.functional.pad(flat, (0, -flat.numel() % multiple))


def _join(parts: Tensor, width: int) -> Tensor:
    """Put parts [words, parts] of `width` bits each into words [words], the first part lowest."""
    words = torch.zeros_like(parts[:, 0])
    for index in range(parts.size(1)):
        words = words | (parts[:, index] << (width * index))
    return words


def _split(words: Tensor, width: int, count: int) -> Tensor:
    """Cut words [words] into parts [words, count] of `width` bits each, the lowest first."""
    shifts = torch.arange(count, device=words.device) * width
    return (words.unsqueeze(1) >> shifts) & ((1 << width) - 1)
