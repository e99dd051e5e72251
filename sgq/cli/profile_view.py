"""What `sgq profile` prints: the rates of a device as tables, or a profile as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sgq.cost.profile import width_name
from sgq.report.columns import ABSENT, byte_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sgq.cost.profile import DeviceProfile, ProductRate

NOISY = "noisy"


def profile_json(profile: DeviceProfile) -> dict[str, Any]:
    """Return a profile as plain data, its label of prices with it."""
    document = {name: value for name, value in asdict(profile).items() if name != "folder"}
    return {"profile": document, "price_label": profile.price_label}


def print_profile(profile: DeviceProfile, out: Console) -> None:
    """Print what the device is, its rates by width and shape, and its memory by size."""
    out.print(f"{profile.name}: {profile.kind}, {profile.date}, {profile.threads} threads", style="bold")
    if profile.fingerprint is not None:
        out.print(str(profile.fingerprint))
    rates = profile.rates
    out.print()
    out.print(_single_figures(profile))
    if rates.products:
        out.print()
        out.print(_products(rates.products))
    if rates.streams:
        out.print()
        streams = _table("memory: array", "read GB/s", "copy GB/s", "")
        for stream in rates.streams:
            streams.add_row(
                byte_text(stream.array_bytes),
                f"{stream.read_bytes_per_s / 1e9:.1f}",
                f"{stream.copy_bytes_per_s / 1e9:.1f}",
                NOISY if stream.noisy else "",
            )
        out.print(streams)
    noisy = sum(product.noisy for product in rates.products) + sum(stream.noisy for stream in rates.streams)
    if noisy:
        out.print(
            f"note: {noisy} rates did not settle: other programs are running; measure again with --restart"
        )


def _single_figures(profile: DeviceProfile) -> Table:
    rates = profile.rates
    table = _table("rate", "measured")
    for peak in rates.peaks:
        table.add_row(f"peak {width_name(peak.bits)}", f"{peak.operations_per_s / 1e9:.1f} G operations/s")
    figures = (
        ("memory bandwidth", rates.bandwidth_bytes_per_s, 1e-9, "GB/s"),
        ("first touch of memory", rates.first_touch_bytes_per_s, 1e-9, "GB/s"),
        ("allocation", rates.allocation_s, 1e6, "µs"),
        ("launch of a torch operation", rates.launch_s, 1e6, "µs"),
        ("launch of an integer kernel", rates.kernel_launch_s, 1e6, "µs"),
    )
    for name, value, scale, unit in figures:
        table.add_row(name, ABSENT if value is None else f"{value * scale:.3g} {unit}")
    return table


def _products(products: tuple[ProductRate, ...]) -> Table:
    """Return one line a shape, one column a width; a star marks what did not settle."""
    widths = sorted({product.bits for product in products}, reverse=True)
    table = _table("product, G operations/s", *(width_name(bits) for bits in widths))
    shapes = dict.fromkeys((product.rows, product.inputs, product.outputs) for product in products)
    by_place = {(one.rows, one.inputs, one.outputs, one.bits): one for one in products}
    for shape in shapes:
        cells = []
        for bits in widths:
            product = by_place.get((*shape, bits))
            star = "*" if product is not None and product.noisy else ""
            cells.append(ABSENT if product is None else f"{product.operations_per_s / 1e9:.1f}{star}")
        rows, inputs, outputs = shape
        table.add_row(f"{rows}×{inputs} · {inputs}×{outputs}", *cells)
    return table


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", overflow="fold")
    return table
