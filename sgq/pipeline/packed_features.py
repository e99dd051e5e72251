"""The quantized input features of a whole graph, as a packed checkpoint may hold them beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantizers import FLOAT_BITS, Quantizer
from quantizers.affine import quantize
from quantizers.groups import stored_rows as rows_of_values
from quantizers.spec import QuantizerSpec
from sgq.errors import CheckpointError
from sgq.graph.swap import ROOT_BUCKETS
from sgq.graph.wrap import quantizer_at
from sgq.pipeline.code_ranges import CodeRanges, bounds_of, from_stored, group_widths, to_stored
from sgq.pipeline.packed_layout import FEATURES, SiteParts, zero_point_dtype
from sgq.recipe.plan import Plan, PlanEntry
from sgq.runtime.sparse_encoding import (
    CODES,
    COLUMNS,
    ROW_COUNTS,
    EncodedCodes,
    Form,
    SparseRows,
    check_dense,
    decode,
    decode_dense,
    encode,
)

PREFIX = f"{FEATURES}/"
ROW_SCALE, ROW_ZERO_POINT = SiteParts.of(FEATURES).scale, SiteParts.of(FEATURES).zero_point


@dataclass(frozen=True)
class FeatureRecord:
    """What the header says of stored features; see `EncodedCodes`."""

    form: Form
    shape: tuple[int, ...]
    levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class PackedFeatures:
    """Quantized input features of a checkpoint; nothing is unpacked before it is asked for.

    `widths` is the width of all rows, or one a row; `ranges` have one scale a row where the plan reads
    ranges off the rows, else those of the plan's granularity.
    """

    entry: PlanEntry
    encoded: EncodedCodes
    ranges: CodeRanges
    bucket: Tensor | None
    nbytes: int

    @property
    def form(self) -> Form:
        """In which form the codes are held."""
        return self.encoded.form

    def dequantized(self) -> Tensor:
        """Return the values that the model's quantizer makes of the features, in their dense shape, fp32."""
        if self.form != "dense":
            return self.to_csr().to_dense().view(self.entry.site.shape)
        rows, columns = self.encoded.shape
        distances = decode_dense(self.encoded, self._row_widths)
        fields = self._laid_out(torch.arange(rows).unsqueeze(1), torch.arange(columns).unsqueeze(0))
        return self._values(distances, *fields).view(self.entry.site.shape)

    def to_csr(self) -> Tensor:
        """Return the same values as a sparse CSR matrix [nodes, columns], without those that are 0."""
        found = decode(self.encoded, self._row_widths)
        values = self._values(found.codes, *self._laid_out(found.rows, found.columns))
        return torch.sparse_csr_tensor(
            found.pointers, found.columns, values, size=self.encoded.shape, check_invariants=False
        )

    @property
    def _row_widths(self) -> Tensor | int:
        assert self.entry.spec is not None
        return _row_widths(self.entry.spec, self.bucket)

    def _laid_out(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scale, zero point and width at rows and columns."""
        assert self.entry.spec is not None
        match self.entry.spec.granularity:
            case "node":
                group = rows
            case "bucket":
                assert self.bucket is not None
                group = self.bucket.long()[rows]
            case "channel":
                group = columns
            case "tensor":
                group = torch.zeros_like(columns[:1])
        return self.ranges.scale[group], self.ranges.zero_point[group], self.ranges.widths[group]

    def _values(self, distances: Tensor, scale: Tensor, zero_point: Tensor, widths: Tensor) -> Tensor:
        assert self.entry.spec is not None
        in_float = widths == FLOAT_BITS
        least, _ = bounds_of(widths, self.entry.spec)
        whole = torch.floor(zero_point)
        # A distance from the zero point is held modulo 2^width; the least code tells which one is meant.
        start = torch.where(in_float, 0.0, least - whole)
        codes = torch.remainder(distances - start, 2.0 ** widths.clamp(max=FLOAT_BITS - 1)) + start + whole
        values = (codes - zero_point) * scale
        return torch.where(in_float, distances.to(torch.int32).view(torch.float32), values)


@torch.no_grad()
def packed_features(
    model: nn.Module, plan: Plan, features: Tensor
) -> tuple[dict[str, Tensor], FeatureRecord]:
    """Return the input features of a quantized model as tensors of a checkpoint, and how to read them.

    `features` [nodes, channels] is what the model is called with, dense or sparse CSR. Raises CheckpointError
    where the plan does not quantize them, or quantized others.
    """
    entry = feature_entry(plan)
    spec, site = entry.spec, entry.site
    assert spec is not None
    if tuple(features.shape) != site.shape:
        raise CheckpointError(
            f"expected the features that the plan was made with, {list(site.shape)} "
            f"(got {list(features.shape)})"
        )
    quantizer = quantizer_at(model, site)
    bucket = _bucket(model, spec)
    distances, ranges = _distances(quantizer, features, bucket)
    widths = _row_widths(spec, bucket)
    encoded = encode(distances, widths, sparse=not (spec.symmetric and spec.signed and 1 in spec.widths))
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in encoded.tensors.items()}
    if ranges is not None:
        tensors[ROW_SCALE], zero_point = to_stored(ranges, spec, owner=str(site.name))
        if zero_point is not None:
            tensors[ROW_ZERO_POINT] = zero_point
    return tensors, FeatureRecord(encoded.form, encoded.shape, encoded.levels)


def stored_features(
    plan: Plan, record: FeatureRecord, tensors: Mapping[str, Tensor], bucket: Tensor | None
) -> PackedFeatures:
    """Return the features among a checkpoint's tensors; raise CheckpointError where parts are wrong."""
    entry = feature_entry(plan)
    spec, site = entry.spec, entry.site
    assert spec is not None
    shape = (site.shape[0], site.row_values)
    if record.shape != shape:
        raise CheckpointError(f"expected shape {list(shape)} (got {list(record.shape)})")
    if spec.bucketed and (bucket is None or bucket.numel() != shape[0]):
        raise CheckpointError("expected a bucket id for each row (got others)")
    own = {name: tensor for name, tensor in tensors.items() if is_feature_tensor(name)}
    faults = _misfits(own, record, spec, rows=shape[0])
    if faults:
        raise CheckpointError("; ".join(faults))
    names = SiteParts.of(FEATURES if spec.granularity == "node" else site.name)
    scale = tensors[names.scale]
    widths = group_widths(spec, scale.numel())
    if spec.granularity == "node" and spec.bucketed and bucket is not None:
        widths = torch.tensor(spec.widths)[bucket.long()]
    codes = {name.removeprefix(PREFIX): tensor for name, tensor in own.items()}
    encoded = EncodedCodes(record.form, shape, record.levels, codes)
    check_dense(encoded, _row_widths(spec, bucket))
    return PackedFeatures(
        entry,
        encoded,
        from_stored(scale, tensors.get(names.zero_point), spec, widths),
        bucket if spec.bucketed else None,
        sum(tensor.nbytes for tensor in own.values()),
    )


def is_feature_tensor(name: str) -> bool:
    """Whether a checkpoint's tensor belongs to the features."""
    return name.startswith(PREFIX)


def _misfits(
    own: Mapping[str, Tensor], record: FeatureRecord, spec: QuantizerSpec, *, rows: int
) -> list[str]:
    whole = {torch.uint8, torch.uint16, torch.uint32}
    wanted = {} if record.form == "dense" else {ROW_COUNTS: whole, COLUMNS: whole}
    if not record.form.startswith("pattern"):
        wanted[CODES] = {torch.uint8}
    wanted = {f"{PREFIX}{name}": dtypes for name, dtypes in wanted.items()}
    if spec.granularity == "node":
        wanted[ROW_SCALE] = {torch.float32}
        if not spec.symmetric:
            wanted[ROW_ZERO_POINT] = {zero_point_dtype(spec)}
    faults = [f'tensor "{name}" is missing' for name in wanted if name not in own]
    faults += [f'tensor "{name}" is not of form "{record.form}"' for name in own if name not in wanted]
    for name, dtypes in wanted.items():
        if name in own and (own[name].dtype not in dtypes or own[name].dim() != 1):
            faults.append(
                f'tensor "{name}": expected a row of whole numbers or scales (got {own[name].dtype})'
            )
        by_row = name in (ROW_SCALE, ROW_ZERO_POINT, f"{PREFIX}{ROW_COUNTS}")
        if by_row and name in own and own[name].numel() != rows:
            faults.append(f'tensor "{name}" shape: expected [{rows}] (got {list(own[name].shape)})')
    return faults


def feature_entry(plan: Plan) -> PlanEntry:
    """Return the entry of the input features of the nodes; raise CheckpointError where it is not one."""
    entries = [entry for entry in plan.quantized if entry.site.features and entry.site.rows == "node"]
    if len(entries) != 1:
        raise CheckpointError(
            f"expected one quantized site of input features in the plan (got {len(entries)}): "
            "save without features, or quantize the input of the first layer"
        )
    return entries[0]


def _bucket(model: nn.Module, spec: QuantizerSpec) -> Tensor | None:
    if not spec.bucketed:
        return None
    bucket: Tensor = getattr(model, ROOT_BUCKETS)
    return bucket.cpu()


def _row_widths(spec: QuantizerSpec, bucket: Tensor | None) -> Tensor | int:
    return spec.widths[0] if bucket is None else torch.tensor(spec.widths)[bucket.long()]


def _distances(
    quantizer: Quantizer, features: Tensor, bucket: Tensor | None
) -> tuple[Tensor | SparseRows, CodeRanges | None]:
    """Return codes less their zero points, modulo 2^width, and the range of each row if rows have their own.

    Of rows in float, the distance is the value's bits.
    """
    spec = quantizer.spec
    sparse = features.layout is torch.sparse_csr
    own = None if bucket is None else bucket.to(features.device)
    parameters = quantizer.parameters_of(features, own)
    x = features.values() if sparse else features
    codes = quantize(x, parameters)
    rows = rows_of_values(features) if sparse else None
    widths = _spread(_row_widths(spec, bucket), rows, x)
    zero_point = torch.floor(parameters.zero_point)
    distances = (codes - zero_point).long().bitwise_and(2 ** widths.clamp(max=FLOAT_BITS - 1) - 1)
    if FLOAT_BITS in spec.widths:
        bits = x.float().contiguous().view(torch.int32).long().bitwise_and(2**FLOAT_BITS - 1)
        distances = torch.where(widths == FLOAT_BITS, bits, distances)
    found = _row_ranges(parameters.scale, parameters.zero_point, rows, features.size(0))
    by_row = torch.as_tensor(_row_widths(spec, bucket)).expand(features.size(0))
    ranges = CodeRanges(*found, by_row) if spec.granularity == "node" else None
    distances = distances.cpu()
    if rows is None:
        return distances.reshape(features.size(0), -1), ranges
    order = torch.argsort(rows.cpu() * features.size(1) + features.col_indices().cpu())
    columns, kept = features.col_indices().cpu()[order], distances[order]
    counts = torch.bincount(rows.cpu()[order][kept != 0], minlength=features.size(0))
    return SparseRows(features.size(1), counts, columns[kept != 0], kept[kept != 0]), ranges


def _spread(widths: Tensor | int, rows: Tensor | None, x: Tensor) -> Tensor:
    """Return row widths in a shape that broadcasts to the values."""
    if isinstance(widths, int):
        return torch.tensor(widths, device=x.device)
    widths = widths.to(x.device)
    return widths[rows] if rows is not None else widths.view(-1, *[1] * (x.dim() - 1))


def _row_ranges(scale: Tensor, zero_point: Tensor, rows: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of each row; a row without stored values has the range of nothing but 0."""
    if rows is None:
        return scale.reshape(-1), zero_point.reshape(-1)
    by_row = scale.new_ones(count), scale.new_zeros(count)
    for kept, of_value in zip(by_row, (scale, zero_point), strict=True):
        kept[rows] = of_value
    return by_row
