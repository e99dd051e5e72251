"""What a plan costs on a device, from its sites alone: no model, no data.

A plan knows every tensor that is stored, its shape and its bits, in the order of execution, but not the
program: which results are fused, what is padded, which forms of the edges layers share, what torch computes
in between. So a weight is a product of the last input that fits it, a site that is gathered a sum over its
edges, attention a softmax, and a stored value is alive until the layer after its own has made one. Peaks are
estimates: on integers within a sixth of what GCN, GAT, GIN and SAGE take, in float within a quarter, further
off for AGNN and GATv2. Latency in float leaves out what PyG does besides, and is about half of a walk's.
`sgq.cost.price_of_model` walks the program itself, and its peak is the measured one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from quantizers.spec import FLOAT_BITS
from sgq.cost.demand_pricing import price_of_demands
from sgq.cost.footprint import FLOAT_BYTES, INDEX_BYTES, LONG_BYTES, footprint_of
from sgq.cost.memory import memory_of, site_memory
from sgq.cost.pricing import Price
from sgq.cost.profile import DeviceProfile
from sgq.cost.roofline import ATTENTION_OPERATIONS, Demand
from sgq.cost.work import Runtime, Value, Work
from sgq.cost.workload import Workload
from sgq.errors import UsageError
from sgq.graph.sites import Site
from sgq.recipe.plan import Plan, PlanEntry
from sgq.runtime.csr import COLUMN_PADDING
from sgq.runtime.packed import layout_of

SOURCE = "roofline by site"
ROW_PARAMETER_BYTES = 2 * FLOAT_BYTES
"""A scale and a zero point, where each row has its own."""
ORDER_BYTES = LONG_BYTES + 1
"""Of a node that is numbered by its degree bucket: its number in the data, and its bucket."""
NIBBLE = 4
"""The fewest bits of a weight that sparse features gather rows of."""
MATRIX = 2
"""Dimensions of a weight that takes part in a product; others are vectors."""


def price_of_plan(plan: Plan, workload: Workload | None, profile: DeviceProfile) -> Price:
    """Return what a plan costs on a device; with anything quantized it runs on integers, else on torch.

    Its graph is the one that it was made on: a `workload` may say so again, and raises UsageError where it
    says otherwise. Raise ProfileError where the device's rates are not known.
    """
    if workload is not None:
        check_workload(plan, workload)
    walk = _Sites(plan, threads=profile.threads or 1)
    packed = memory_of(plan).packed_bytes
    return price_of_demands(walk.demands, profile, peak_bytes=walk.peak_bytes, packed_bytes=packed, by=SOURCE)


def check_workload(plan: Plan, workload: Workload) -> None:
    """Raise UsageError for a workload that is not the graph that a plan was made on."""
    own = plan.workload
    features = [entry.site.row_values for entry in plan.entries if entry.site.features]
    outputs = [entry.site for entry in plan.entries if entry.site.name.component == "output"]
    wanted = {"nodes": (own.nodes, workload.rows), "edges": (own.edges, workload.edges * workload.batch),
              "batch": (own.graphs, workload.batch)}  # fmt: skip
    if features:
        wanted["features"] = (features[0], workload.features)
    if outputs and outputs[-1].stored:
        wanted["classes"] = (outputs[-1].row_values, workload.classes)
    faults = [f"{name} {mine} (got {given})" for name, (mine, given) in wanted.items() if mine != given]
    if faults:
        raise UsageError(
            f"the plan of {plan.recipe} is of the graph that it was made on: expected {', '.join(faults)}; "
            "leave the workload out (None), or make the plan on the data that you mean"
        )


@dataclass(frozen=True)
class _Kept:
    """A stored value: of which module, and its bytes."""

    module: str
    nbytes: int


class _Sites:
    """Walks the sites of a plan in the order of execution."""

    def __init__(self, plan: Plan, *, threads: int) -> None:
        self.plan = plan
        self.threads = threads
        self.runtime: Runtime = "integer" if plan.quantized else "float"
        self.demands: list[Demand] = []
        self.resident_bytes = FLOAT_BYTES * sum(one.values for one in plan.float_parameters)
        self.resident_bytes += sum(one.total_bytes for one in plan.buffers)
        self.resident_bytes += sum(map(self._edge_bytes, {one.site.messages for one in plan.entries} - {0}))
        if plan.buckets:
            self.resident_bytes += ORDER_BYTES * plan.workload.nodes
        self.highest_bytes = 0
        self._kept: list[_Kept] = []
        self._read: list[PlanEntry] = []
        for entry in plan.entries:
            if entry.site.rows == "parameter":
                self._weight(entry)
            elif entry.site.stored:
                self._value(entry)

    @property
    def peak_bytes(self) -> int:
        """Bytes at the worst moment."""
        return round(self.resident_bytes + self.highest_bytes)

    def _value(self, entry: PlanEntry) -> None:
        """Take a stored value in: what wrote it, what is alive with it, and its sum over edges."""
        site, nbytes = entry.site, self._bytes(entry)
        self._read.append(entry)
        if site.features:
            self.resident_bytes += nbytes
        else:
            self._kept.append(_Kept(site.name.module, nbytes))
            self._add(moved=nbytes)
            self._alive(0)
        if site.name.component == "attention":
            self.demands.append(Demand(self.runtime, ATTENTION_OPERATIONS * site.values, 2 * nbytes))
        elif site.messages:
            weighed = site.name.component == "message"
            moved = site.messages * (nbytes / max(1, site.shape[0]) + INDEX_BYTES)
            operations = (1 + weighed) * site.messages * site.row_values
            if self.runtime == "float":
                # PyG makes a copy of every gathered row, and another one times its coefficient, to be read.
                copies = (1 + weighed) * FLOAT_BYTES * site.messages * site.row_values
                moved += 2 * copies
                self._alive(copies + FLOAT_BYTES * site.values)
            self.demands.append(Demand(self.runtime, operations, moved))

    def _weight(self, entry: PlanEntry) -> None:
        """Take a weight in: a product of the last input that fits it, or a vector that scores rows."""
        site = entry.site
        outputs = max(1, prod(site.channel_shape))
        inputs = site.values // outputs
        source = next((one for one in reversed(self._read) if one.site.row_values == inputs), None)
        rows = source.site.shape[0] if source is not None else self.plan.workload.nodes
        if len(site.shape) != MATRIX:
            self.resident_bytes += FLOAT_BYTES * site.values
            self._add(flops=2 * rows * site.values)
            return
        input_bits = FLOAT_BITS if source is None else _bits(source)
        work = Work(
            self.runtime, "linear", "none", rows, 0, inputs, outputs, input_bits, _bits(entry), FLOAT_BITS
        )
        need = footprint_of(work, Value(rows, outputs), threads=self.threads)
        held = need.weight_bytes
        if self.runtime == "integer" and source is not None and self._is_sparse(source):
            # Sparse features gather rows of the weight, which stay packed.
            held = (
                int(layout_of((inputs,), outputs, (max(NIBBLE, _bits(entry)),)).nbytes)
                + FLOAT_BYTES * outputs
            )
        read = 0 if source is None else self._bytes(source)
        operations = 2 * _products(source, rows, inputs) * outputs
        bits = max(input_bits, _bits(entry)) if self.runtime == "integer" else FLOAT_BITS
        self.demands.append(Demand(self.runtime, operations, read + held, bits))
        self.resident_bytes += held
        self._alive(need.scratch_bytes)

    def _alive(self, on_top_bytes: int) -> None:
        """Note what is held now: the values of the running layer and those of the one before."""
        modules = list(dict.fromkeys(kept.module for kept in reversed(self._kept)))[:2]
        alive = sum(kept.nbytes for kept in self._kept if kept.module in modules)
        self.highest_bytes = max(self.highest_bytes, alive + on_top_bytes)

    def _add(self, *, flops: int = 0, moved: float = 0) -> None:
        """Add to what was last called, which does it by the way."""
        if self.demands:
            last = self.demands[-1]
            self.demands[-1] = replace(last, flops=last.flops + flops, bytes_moved=last.bytes_moved + moved)

    def _bytes(self, entry: PlanEntry) -> int:
        """Return the bytes of a value as the runtime holds it."""
        site, spec = entry.site, entry.spec
        if self._is_sparse(entry):
            return site_memory(entry, self.plan).total_bytes
        if spec is None or spec.is_float or self.runtime == "float":
            return FLOAT_BYTES * site.values
        if site.rows == "edge":
            return site.values
        rows = self.plan.workload.bucket_nodes if spec.bucketed else (site.shape[0],)
        heads, channels = _heads(site)
        parameters = ROW_PARAMETER_BYTES * site.shape[0] if spec.granularity == "node" else 0
        return int(layout_of(rows, channels, spec.widths, heads=heads).nbytes) + parameters

    def _is_sparse(self, entry: PlanEntry) -> bool:
        """Whether features are held at their non-zeros; those that are gathered first are dense."""
        site = entry.site
        return (
            site.features
            and not site.messages
            and site_memory(entry, self.plan).form not in ("float", "dense")
        )

    def _edge_bytes(self, messages: int) -> int:
        """Return the bytes of the edges that so many messages run along."""
        if self.runtime == "float":
            return 2 * LONG_BYTES * messages
        pointers = self.plan.workload.nodes * max(1, self.plan.buckets) + 1
        return INDEX_BYTES * (pointers + messages + COLUMN_PADDING)


def _bits(entry: PlanEntry) -> int:
    return FLOAT_BITS if entry.spec is None else max(entry.spec.widths)


def _products(source: PlanEntry | None, rows: int, inputs: int) -> int:
    """Return how many numbers of the input are multiplied: of sparse features those that are not zero."""
    if source is None or source.site.nonzeros is None or source.site.messages:
        return rows * inputs
    return source.site.nonzeros


def _heads(site: Site) -> tuple[int, int]:
    """Return the heads and the channels of a head of node rows."""
    return (site.shape[1], prod(site.shape[2:])) if len(site.shape) > MATRIX else (1, site.row_values)
