"""How fast this machine is: memory, matrix products at every width, and what starting anything costs.

Streams are counted as STREAM counts them: a copy moves the bytes that it reads and those that it writes. A
product [rows, inputs] · [inputs, outputs] is 2 · rows · inputs · outputs operations, at fp32 torch's and at
8 bits and fewer that of our integer kernel, weights and activations at the same width, as a lowered model
runs it. Everything is measured on as many threads as torch is set to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from quantizers.spec import FLOAT_BITS
from sgq.cost.measurements import Key, Measurement
from sgq.cost.operation_sources import Deferred, Extent, operation_source
from sgq.cost.profile import PeakRate, ProductRate, Rates, StreamRate
from sgq.cost.timing import Call

if TYPE_CHECKING:
    from torch import Tensor

    from sgq.runtime.packed import PackedTensor

COLUMNS = ("what", "bits", "rows", "inputs", "outputs", "array_bytes")
"""What does not apply to a measurement is 0."""
WIDTHS = (FLOAT_BITS, 8, 4, 2, 1)
FLOAT_BYTES = 4
COPY_ARRAYS = 2
MOST_OF_MEMORY = 16
"""An array is at most this part of the memory."""
FIGURES = 6
"""Significant figures of a rate in a profile."""
SMALL_ALLOCATION_BYTES = 2**10
TOUCHED_BYTES = 2**26
"""More than what an allocator keeps for the next time: its pages are new at every allocation."""

STREAM_BYTES = tuple(2**power for power in (16, 18, 20, 22, 24, 26, 28))
QUICK_STREAM_BYTES = tuple(2**power for power in (18, 22, 26))
PRODUCTS = ((1024, 64, 64), (1024, 256, 256), (1024, 1024, 512), (20480, 128, 64))
"""Rows, inputs and outputs: layers on 1,024 points, and an edge network of DGCNN with 20 neighbours each."""
QUICK_PRODUCTS = ((1024, 64, 64), (1024, 256, 256))


@dataclass(frozen=True)
class RateSource:
    """The operations that a machine's rates are read off; see `sgq.cost.operation_sources`."""

    stream_bytes: tuple[int, ...] = STREAM_BYTES
    products: tuple[tuple[int, int, int], ...] = PRODUCTS
    touched_bytes: int = TOUCHED_BYTES

    @property
    def columns(self) -> Sequence[str]:
        """The columns of a key."""
        return COLUMNS

    def __len__(self) -> int:
        return 2 * len(self.stream_bytes) + len(WIDTHS) * len(self.products) + 4

    def __iter__(self) -> Iterator[tuple[Key, Call]]:
        yield _key("launch"), Deferred(_launch)
        yield _key("kernel launch", bits=8), Deferred(_kernel_launch)
        yield (
            _key("allocate", array_bytes=SMALL_ALLOCATION_BYTES),
            Deferred(partial(_allocation, SMALL_ALLOCATION_BYTES)),
        )
        yield (
            _key("first touch", array_bytes=self.touched_bytes),
            Deferred(partial(_first_touch, self.touched_bytes)),
        )
        for size in self.stream_bytes:
            yield _key("read", array_bytes=size), Deferred(partial(_read, size))
            yield _key("copy", array_bytes=size), Deferred(partial(_copy, size))
        for shape in self.products:
            rows, inputs, outputs = shape
            for bits in WIDTHS:
                key = _key("product", bits=bits, rows=rows, inputs=inputs, outputs=outputs)
                yield key, Deferred(partial(_product, bits, *shape))


@operation_source("rates")
def rate_source(extent: Extent) -> RateSource:
    """Return what is measured on a machine: no array takes more than a sixteenth of its memory."""
    most = max(QUICK_STREAM_BYTES[0], (extent.memory_bytes or STREAM_BYTES[-1]) // MOST_OF_MEMORY)
    sizes = QUICK_STREAM_BYTES if extent.quick else STREAM_BYTES
    return RateSource(
        stream_bytes=tuple(size for size in sizes if size <= most),
        products=QUICK_PRODUCTS if extent.quick else PRODUCTS,
        touched_bytes=min(TOUCHED_BYTES, most),
    )


def rates_of(measurements: Sequence[Measurement]) -> Rates:
    """Return the rates that measurements come to.

    The bandwidth is the better of reading and copying at the largest size, the peak at a width that of its
    fastest product.
    """
    by_what: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        by_what.setdefault(str(measurement.key["what"]), []).append(measurement)
    streams = tuple(_streams(by_what.get("read", []), by_what.get("copy", [])))
    products = tuple(_product_rate(measurement) for measurement in by_what.get("product", []))
    peaks = {
        bits: max(product.operations_per_s for product in products if product.bits == bits)
        for bits in sorted({product.bits for product in products}, reverse=True)
    }
    largest = max(streams, key=lambda stream: stream.array_bytes, default=None)
    bandwidth = None if largest is None else max(largest.read_bytes_per_s, largest.copy_bytes_per_s)
    return Rates(
        peaks=tuple(PeakRate(bits, rate) for bits, rate in peaks.items()),
        bandwidth_bytes_per_s=bandwidth,
        launch_s=_seconds(by_what.get("launch")),
        kernel_launch_s=_seconds(by_what.get("kernel launch")),
        allocation_s=_seconds(by_what.get("allocate")),
        first_touch_bytes_per_s=_bytes_per_s(by_what.get("first touch")),
        streams=streams,
        products=products,
    )


def _key(
    what: str, *, bits: int = 0, rows: int = 0, inputs: int = 0, outputs: int = 0, array_bytes: int = 0
) -> Key:
    return dict(zip(COLUMNS, (what, bits, rows, inputs, outputs, array_bytes), strict=True))


def _streams(reads: Sequence[Measurement], copies: Sequence[Measurement]) -> Iterator[StreamRate]:
    """Yield the rates of the sizes at which both were measured, the smallest first."""
    by_size = {read.key["array_bytes"]: read for read in reads}
    for copy in sorted(copies, key=lambda one: int(one.key["array_bytes"])):
        size = int(copy.key["array_bytes"])
        if size in by_size:
            read = by_size[size]
            yield StreamRate(
                size,
                _rate(size, read),
                _rate(COPY_ARRAYS * size, copy),
                noisy=read.timing.noisy or copy.timing.noisy,
            )


def _product_rate(measurement: Measurement) -> ProductRate:
    bits, rows, inputs, outputs = (
        int(measurement.key[column]) for column in ("bits", "rows", "inputs", "outputs")
    )
    rate = _rate(2 * rows * inputs * outputs, measurement)
    return ProductRate(bits, rows, inputs, outputs, rate, noisy=measurement.timing.noisy)


def _seconds(found: Sequence[Measurement] | None) -> float | None:
    return _rounded(found[0].timing.median_s) if found else None


def _bytes_per_s(found: Sequence[Measurement] | None) -> float | None:
    return _rate(int(found[0].key["array_bytes"]), found[0]) if found else None


def _rate(amount: int, measurement: Measurement) -> float:
    return _rounded(amount / max(measurement.timing.median_s, 1e-12))


def _rounded(number: float) -> float:
    return float(f"{number:.{FIGURES}g}")


def _launch() -> Call:
    import torch

    one, result = torch.ones(1), torch.empty(1)
    return partial(torch.add, one, one, out=result)


def _kernel_launch() -> Call:
    return _integer_product(8, 1, 8, 8)


def _allocation(size: int) -> Call:
    import torch

    return partial(torch.empty, size // FLOAT_BYTES)


def _first_touch(size: int) -> Call:
    import torch

    return partial(torch.full, (size // FLOAT_BYTES,), 1.0)


def _read(size: int) -> Call:
    import torch

    return torch.ones(size // FLOAT_BYTES).sum


def _copy(size: int) -> Call:
    import torch

    source = torch.ones(size // FLOAT_BYTES)
    return partial(torch.empty_like(source).copy_, source)


def _product(bits: int, rows: int, inputs: int, outputs: int) -> Call:
    if bits != FLOAT_BITS:
        return _integer_product(bits, rows, inputs, outputs)
    import torch

    x, weight = torch.rand(rows, inputs), torch.rand(inputs, outputs)
    return partial(torch.mm, x, weight, out=torch.empty(rows, outputs))


def _integer_product(bits: int, rows: int, inputs: int, outputs: int) -> Call:
    """Return the product of packed activations and a weight, both at so many bits, to fp32.

    It is bound to its result, as in a lowered model: what runs is the kernel, not what prepares it.
    """
    import torch

    from sgq.runtime.finish import Finish
    from sgq.runtime.kernels import linear
    from sgq.runtime.weights import tiled
    from sgq.runtime.workspace import Workspace

    class Collecting(Workspace):
        """Keeps what is to be launched instead of launching it."""

        def launch(self, call: Call) -> None:
            launches.append(call)

    launches: list[Call] = []
    generator = torch.Generator().manual_seed(0)
    largest = max(1, 2 ** (bits - 1) - 1)
    whole = torch.randint(-largest, largest + 1, (inputs, outputs), generator=generator).float()
    weight = tiled(whole, torch.full((outputs,), 0.01))
    x = _packed(torch.rand(rows, inputs, generator=generator), bits)
    result = linear(x, weight, Finish(), workspace=Collecting())

    def run() -> object:
        for launch in launches:
            launch()
        return result

    return run


def _packed(values: Tensor, bits: int) -> PackedTensor:
    """Return values from 0 to 1 as codes with one scale for all."""
    from quantizers import QuantizerSpec
    from sgq.runtime.kernels import quantize
    from sgq.runtime.quantization import Quantization

    rule = Quantization(QuantizerSpec(bits), values.new_tensor([[1.0 / (2**bits - 1), 0.0]]))
    return quantize(values, rule)
