"""Memory of a plan, modelled: bytes by site and bucket with every overhead, and average bits.

`packed_bytes` is what a packed model keeps while it runs: parameters, buffers, input features and every
node- and edge-level tensor that is stored, once, at its bits. `file_bytes` is the payload of a packed
checkpoint without features: parameters, buffers, scales, zero points and bucket ids. Both are modelled
from the plan, never measured; the graph's own structure is in neither, nor in the fp32 baselines. A tensor
that is not stored (see `sgq.graph.sites.Site`) costs no codes when it is quantized, as it costs no floats
in the baselines: only the scales and zero points that its quantizer keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from quantizers import packed_nbytes
from quantizers.packing import BYTE_BITS
from quantizers.spec import FLOAT_BITS, QuantizerSpec
from sgq.graph.sites import Site
from sgq.recipe.plan import Plan, PlanEntry

FLOAT_BYTES = 4
INDEX_BYTES = 4
SHORT_INDEX_BYTES = 2
SCALE_BYTES = 4


@dataclass(frozen=True)
class SiteMemory:
    """The bytes of one site: codes (or floats) by bucket, then scales, zero points and sparse indices.

    `bits` is the mean over the tensor's values. `form` is "float" or "dense" (a value, or a code,
    everywhere), "sparse float" or "sparse" (at the non-zeros only, with indices), "pattern" (one-bit
    features: indices alone) or "not stored" (a quantized intermediate: no codes).
    """

    site: Site
    bits: float
    code_bytes: tuple[int, ...]
    scale_bytes: int
    zero_point_bytes: int
    index_bytes: int
    form: str

    @property
    def total_bytes(self) -> int:
        """All bytes of the site."""
        return sum(self.code_bytes) + self.scale_bytes + self.zero_point_bytes + self.index_bytes


@dataclass(frozen=True)
class MemoryReport:
    """What a plan needs, against the two fp32 baselines, and its average bits under three definitions.

    `sites` are the stored tensors and what else is quantized. `dense_fp32_bytes` counts every stored
    tensor dense at 4 bytes; `sparse_fp32_bytes` keeps the input features as CSR (fp32 values, int32
    indices). `sgquant_bits`, `a2q_bits` (None without hidden features) and `mixq_bits` (the mean over
    `sites`, whatever their size) are average bits; `sgquant_ratio` is 32 over SGQuant's, the figure that
    its paper calls memory saving (arXiv 2007.05100).
    """

    sites: tuple[SiteMemory, ...]
    packed_bytes: int
    file_bytes: int
    bucket_id_bytes: int
    float_parameter_bytes: int
    buffer_bytes: int
    dense_fp32_bytes: int
    sparse_fp32_bytes: int
    sgquant_bits: float
    a2q_bits: float | None
    mixq_bits: float

    @property
    def ratio_dense(self) -> float:
        """Dense fp32 bytes over packed bytes."""
        return self.dense_fp32_bytes / self.packed_bytes

    @property
    def ratio_sparse(self) -> float:
        """Sparse fp32 bytes over packed bytes."""
        return self.sparse_fp32_bytes / self.packed_bytes

    @property
    def sgquant_ratio(self) -> float:
        """32 bits over SGQuant's average bits."""
        return FLOAT_BITS / self.sgquant_bits


def memory_of(plan: Plan) -> MemoryReport:
    """Return the modelled memory of a plan, on the workload that it was made with."""
    stored = [entry.site for entry in plan.entries if entry.site.stored]
    counted = [entry for entry in plan.entries if entry.site.stored or not _is_float(entry.spec)]
    sites = tuple(site_memory(entry, plan) for entry in counted)
    bucket_ids = _bucket_id_bytes(plan)
    parameters = FLOAT_BYTES * sum(parameter.values for parameter in plan.float_parameters)
    buffers = sum(buffer.total_bytes for buffer in plan.buffers)
    kept = parameters + buffers
    in_file = sum(_file_bytes(memory, entry.spec) for memory, entry in zip(sites, counted, strict=True))
    return MemoryReport(
        sites=sites,
        packed_bytes=sum(memory.total_bytes for memory in sites) + bucket_ids + kept,
        file_bytes=in_file + kept + (0 if plan.workload.sampled else bucket_ids),
        bucket_id_bytes=bucket_ids,
        float_parameter_bytes=parameters,
        buffer_bytes=buffers,
        dense_fp32_bytes=FLOAT_BYTES * sum(site.values for site in stored) + kept,
        sparse_fp32_bytes=sum(_sparse_float_bytes(site) for site in stored) + kept,
        sgquant_bits=_sgquant_bits(counted, plan),
        a2q_bits=_a2q_bits(plan),
        mixq_bits=sum(mean_bits(entry, plan) for entry in counted) / len(counted),
    )


def site_memory(entry: PlanEntry, plan: Plan) -> SiteMemory:
    """Return the bytes of one site of a plan, in the smallest form that holds its numbers exactly."""
    site, spec = entry.site, entry.spec
    bits = mean_bits(entry, plan)
    if spec is None or _is_float(spec):
        dense, sparse = FLOAT_BYTES * site.values, _sparse_float_bytes(site)
        if sparse < dense:
            values = FLOAT_BYTES * (site.nonzeros or 0)
            return SiteMemory(site, bits, (values,), 0, 0, sparse - values, "sparse float")
        return SiteMemory(site, bits, (dense,), 0, 0, 0, "float")
    scales = scale_count(site, spec)
    zero_points = scales * zero_point_bytes(spec)
    if not site.stored:
        return SiteMemory(
            site, bits, (0,) * len(spec.widths), SCALE_BYTES * scales, zero_points, 0, "not stored"
        )
    rows = _bucket_rows(site, spec, plan)
    dense_codes = tuple(
        _code_bytes(n * site.row_values, width) for n, width in zip(rows, spec.widths, strict=True)
    )
    nonzeros = _nonzeros_by_width(site, spec, plan)
    if nonzeros is not None:
        pattern = spec.widths == (1,)
        codes = tuple(
            0 if pattern else _code_bytes(n, width) for n, width in zip(nonzeros, spec.widths, strict=True)
        )
        index_bytes = _pattern_bytes(site)
        if sum(codes) + index_bytes < sum(dense_codes):
            form = "pattern" if pattern else "sparse"
            return SiteMemory(site, bits, codes, SCALE_BYTES * scales, zero_points, index_bytes, form)
    return SiteMemory(site, bits, dense_codes, SCALE_BYTES * scales, zero_points, 0, "dense")


def _code_bytes(count: int, width: int) -> int:
    return FLOAT_BYTES * count if width == FLOAT_BITS else packed_nbytes(count, width)


def _nonzeros_by_width(site: Site, spec: QuantizerSpec, plan: Plan) -> tuple[int, ...] | None:
    """Return how many non-zeros of sparse features have each width; None where a sparse form cannot be.

    One-bit symmetric codes have no zero to leave out.
    """
    if site.nonzeros is None or (1 in spec.widths and spec.symmetric and spec.signed):
        return None
    if not spec.bucketed:
        return (site.nonzeros,)
    counts = plan.workload.bucket_nonzeros
    return counts if sum(counts) == site.nonzeros else None


def mean_bits(entry: PlanEntry, plan: Plan) -> float:
    """Return the mean bits of a site's values, every row of the tensor counted once."""
    if entry.spec is None:
        return float(FLOAT_BITS)
    rows = _bucket_rows(entry.site, entry.spec, plan)
    return sum(n * width for n, width in zip(rows, entry.spec.widths, strict=True)) / max(1, sum(rows))


def _is_float(spec: QuantizerSpec | None) -> bool:
    return spec is None or spec.is_float


def _bucket_rows(site: Site, spec: QuantizerSpec, plan: Plan) -> tuple[int, ...]:
    return plan.workload.bucket_nodes if spec.bucketed else (site.shape[0],)


def scale_count(site: Site, spec: QuantizerSpec) -> int:
    """Return how many scales are kept; those of a row go with the row, so an unstored one keeps none."""
    counts = {
        "tensor": 1,
        "channel": prod(site.channel_shape),
        "node": site.shape[0] if site.stored else 0,
        "bucket": len(spec.widths),
    }
    return counts[spec.granularity]


def zero_point_bytes(spec: QuantizerSpec) -> int:
    """Return the bytes of one zero point: none of symmetric codes, two of codes of more than a byte."""
    widest = max(width for width in spec.widths if width != FLOAT_BITS)
    return 0 if spec.symmetric else 1 if widest <= BYTE_BITS else 2


def _bucket_id_bytes(plan: Plan) -> int:
    if not any(entry.spec is not None and entry.spec.bucketed for entry in plan.quantized):
        return 0
    return packed_nbytes(plan.workload.nodes, bucket_id_bits(plan))


def bucket_id_bits(plan: Plan) -> int:
    """Return the bits of a bucket id: 1, 2, 4 or 8."""
    return next(bits for bits in (1, 2, 4, 8) if 2**bits >= plan.buckets)


def _file_bytes(memory: SiteMemory, spec: QuantizerSpec | None) -> int:
    """A checkpoint holds parameters whole, and of activations the scales that do not depend on the data."""
    if memory.site.rows == "parameter":
        return memory.total_bytes
    if spec is None or spec.granularity == "node":
        return 0
    return memory.scale_bytes + memory.zero_point_bytes


def _pattern_bytes(site: Site) -> int:
    """Row pointers and column indices of a sparse matrix; columns take 2 bytes where they fit."""
    column = SHORT_INDEX_BYTES if site.row_values <= 2**16 else INDEX_BYTES
    return INDEX_BYTES * (site.shape[0] + 1) + column * (site.nonzeros or 0)


def _sparse_float_bytes(site: Site) -> int:
    dense = FLOAT_BYTES * site.values
    if site.nonzeros is None:
        return dense
    return min(dense, INDEX_BYTES * (site.shape[0] + 1) + (INDEX_BYTES + FLOAT_BYTES) * site.nonzeros)


def _sgquant_bits(counted: list[PlanEntry], plan: Plan) -> float:
    """Average over every tensor instance, edge-expanded copies of gathered rows included.

    A gathered message counts as its copies on the edges, a layer input that is also gathered as itself
    and its copies. Every quantized tensor counts, stored or not, outputs too; of those left in float the
    stored ones count 32 bits, but for the model's outputs, which are no part of its sum (SGQuant, arXiv
    2007.05100, as its released code counts).
    """
    bits = values = 0.0
    for entry in counted:
        site = entry.site
        if _is_float(entry.spec) and site.name.component == "output":
            continue
        widths = (FLOAT_BITS,) if entry.spec is None else entry.spec.widths
        rows = [0.0] * len(widths)
        if not (site.messages and site.name.component == "message"):
            own = (site.shape[0],) if entry.spec is None else _bucket_rows(site, entry.spec, plan)
            rows = [total + n for total, n in zip(rows, own, strict=True)]
        if site.messages:
            copies = _copies_by_bucket(site, plan) if len(widths) > 1 else (site.messages,)
            rows = [total + n for total, n in zip(rows, copies, strict=True)]
        bits += site.row_values * sum(n * width for n, width in zip(rows, widths, strict=True))
        values += site.row_values * sum(rows)
    return bits / values


def _copies_by_bucket(site: Site, plan: Plan) -> tuple[float, ...]:
    """Spread a site's edge copies over the buckets of their source nodes, self-loops one a node."""
    workload = plan.workload
    times = max(1, round(site.messages / (workload.edges + workload.nodes)))
    loops = max(0.0, site.messages / times - workload.edges) / workload.nodes
    weights = [
        edges + loops * nodes
        for edges, nodes in zip(workload.bucket_messages, workload.bucket_nodes, strict=True)
    ]
    return tuple(site.messages * weight / (sum(weights) or 1.0) for weight in weights)


def _a2q_bits(plan: Plan) -> float | None:
    """Mean over nodes of the bits of hidden node features, without the sign (A2Q, arXiv 2302.00193)."""
    hidden = [
        mean_bits(entry, plan) - (1 if entry.spec is not None and entry.spec.signed else 0)
        for entry in plan.entries
        if entry.site.name.component == "input" and entry.site.rows == "node" and not entry.site.features
    ]
    return sum(hidden) / len(hidden) if hidden else None
