"""Input features as codes, in the form that a lowered model reads them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from quantizers import Quantizer
from quantizers.affine import quantize
from quantizers.groups import stored_rows
from quantizers.spec import FLOAT_BITS
from sgq.errors import DataError
from sgq.runtime import kernels
from sgq.runtime.features import BitFeatures, SparseFeatures, sparse_features
from sgq.runtime.packed import PackedTensor
from sgq.runtime.quantization import code_ranges, quantization_of

FeatureForm = Literal["dense", "sparse", "bits"]

SPARSE_DENSITY = 0.5
"""Share of non-zeros from which on features are not tried in a sparse form."""


def pack_features(
    x: Tensor,
    quantizer: Quantizer,
    *,
    rows: tuple[int, ...],
    bucket: Tensor | None,
    form: FeatureForm | None = None,
    gathered: bool = False,
) -> PackedTensor | SparseFeatures | BitFeatures:
    """Return features [nodes, channels], dense or sparse CSR, as a quantizer's codes in their smallest form.

    `form` asks for one; `gathered` features, which are aggregated before any product, are dense. Raise
    DataError where the features cannot have the form.
    """
    rule = quantization_of(quantizer)
    if gathered or form == "dense" or (form is None and not _may_be_sparse(x, quantizer)):
        dense = x.to_dense() if x.layout == torch.sparse_csr else x
        return kernels.quantize(dense, rule, rows=rows)
    found = _sparse(x, quantizer, bucket, as_bits=form != "sparse")
    wanted = {"sparse": SparseFeatures, "bits": BitFeatures}.get(form or "")
    if wanted is not None and not isinstance(found, wanted):
        raise DataError(
            "the model was lowered on features of one level a row, and these have several or too few "
            "non-zeros: lower it on this data"
        )
    if form is None:
        packed_bytes = rule.layout(rows, x.size(1)).nbytes
        if sum(tensor.numel() * tensor.element_size() for tensor in found.tensors()) > packed_bytes:
            return pack_features(x, quantizer, rows=rows, bucket=bucket, form="dense")
    return found


def form_of(features: PackedTensor | SparseFeatures | BitFeatures) -> FeatureForm:
    """Return the form that features have."""
    if isinstance(features, PackedTensor):
        return "dense"
    return "bits" if isinstance(features, BitFeatures) else "sparse"


def _may_be_sparse(x: Tensor, quantizer: Quantizer) -> bool:
    spec = quantizer.spec
    if spec.granularity == "channel" or max(spec.widths) > 8 or FLOAT_BITS in spec.widths:
        return False
    if spec.symmetric and spec.signed and 1 in spec.widths:
        return False
    if x.layout == torch.sparse_csr:
        return True
    return int(torch.count_nonzero(x)) < SPARSE_DENSITY * x.numel()


def _sparse(
    x: Tensor, quantizer: Quantizer, bucket: Tensor | None, *, as_bits: bool
) -> SparseFeatures | BitFeatures:
    matrix = x if x.layout == torch.sparse_csr else x.to_sparse_csr()
    parameters = quantizer.parameters_of(matrix, bucket)
    values = matrix.values()
    row = stored_rows(matrix)
    least = values.new_tensor(code_ranges(quantizer.spec)[0])
    shift = least[bucket.long()][row] if quantizer.spec.bucketed and bucket is not None else least[0]
    codes = (quantize(values, parameters) - shift).to(torch.uint8)
    pairs = torch.zeros(x.size(0), 2, device=x.device)
    pairs[:, 0] = 1.0
    pairs[row, 0] = parameters.scale.expand_as(values)
    pairs[row, 1] = (parameters.zero_point - shift).expand_as(values)
    return sparse_features(
        matrix.crow_indices(), matrix.col_indices(), codes, pairs, x.size(1), as_bits=as_bits
    )
