"""Input features beside the model: exact, in the smallest form, and never above what the plan models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sgq
from quantizers import ObserverSpec, QuantizerError, QuantizerSpec, create, pack
from sgq.cost.memory import bucket_id_bits, site_memory
from sgq.errors import CheckpointError
from sgq.graph.swap import ROOT_BUCKETS
from sgq.graph.wrap import quantizer_at
from sgq.pipeline.checkpoint import read
from sgq.pipeline.packed_state import stored_bucket
from sgq.pipeline.tasks import workload_of
from sgq.recipe.plan import Plan
from tests.pipeline.broken_checkpoints import METADATA, forged, sealed
from tests.pipeline.trained_models import CHANNELS, EDGES, community_graph, float_model

SITE = "convs.0:input"
SIGNED = {"symmetric": True, "signed": True}


def specs() -> Iterator[QuantizerSpec]:
    widths = [1, 4, 8, 12, (8, 4, 1), (32, 4, 2), (12, 8, 3)]
    signs: list[dict[str, bool]] = [{}, {"signed": True}, SIGNED]
    for bits, granularity, signed in product(widths, ("tensor", "channel", "node", "bucket"), signs):
        observer = ObserverSpec("mse" if granularity == "node" else "minmax")
        try:
            spec = QuantizerSpec(bits, granularity=granularity, observer=observer, **signed)
            create(spec, channel_shape=(1, CHANNELS))
        except QuantizerError:  # widths by bucket for a tensor, one width by bucket
            continue
        yield spec


def quantized(x: Tensor, spec: QuantizerSpec | None) -> tuple[nn.Module, Plan, Tensor | None]:
    """A calibrated GCN whose input features have one spec, its plan, and the bucket ids."""
    data = community_graph()
    data.x = x
    edges = EDGES if spec is not None and spec.bucketed else ()
    plan = sgq.plan(float_model(), "int8", data).with_specs({SITE: spec})
    plan = replace(plan, bucket_edges=edges, workload=workload_of(data, edges))
    if edges:
        data = sgq.DegreeBuckets(edges)(data)
    bucket = data.bucket if edges else None
    wrapped = sgq.wrap(float_model(), plan, bucket=bucket)
    sgq.calibrate(wrapped, plan, data)
    return wrapped.eval(), plan, bucket


def bags_of_words() -> dict[str, Tensor]:
    """Features as they come: binary, with signs and many levels, and with one level a row."""
    generator = torch.Generator().manual_seed(5)
    x = community_graph().x
    x[7] = 0.0
    return {
        "binary": x,
        "dense": x.sum(1, keepdim=True) * torch.randn(x.shape, generator=generator),
        "normalised": x / x.sum(1, keepdim=True).clamp(min=1),
    }


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: f"{spec}-{spec.signed}")
def test_features_come_back_as_the_quantizer_makes_them_and_weigh_no_more_than_modelled(
    tmp_path: Path, spec: QuantizerSpec, layout: str
) -> None:
    if layout == "csr" and spec.symmetric and 1 in spec.widths:
        return  # codes without a zero have no sparse matrix
    for x in bags_of_words().values():
        wrapped, plan, bucket = quantized(x, spec)
        features = x.to_sparse_csr() if layout == "csr" else x
        path = sgq.save(tmp_path / "model.safetensors", wrapped, plan, features=features)
        contents = read(path)
        assert contents.features is not None
        quantizer = quantizer_at(wrapped, plan[SITE].site)
        wanted = quantizer(features, bucket) if spec.bucketed else quantizer(features)
        assert torch.equal(contents.features.dequantized(), wanted.to_dense())
        if contents.features.form != "dense":
            assert torch.equal(contents.features.to_csr().to_dense(), wanted.to_dense())
        assert contents.features.nbytes <= site_memory(plan[SITE], plan).total_bytes
        assert contents.payload_bytes == sgq.memory_of(plan).file_bytes + contents.features.nbytes
        path.unlink()


def test_a_binary_bag_of_words_is_a_pattern_and_its_level_is_in_the_header(tmp_path: Path) -> None:
    data = community_graph()
    x = torch.zeros(data.num_nodes, CHANNELS)
    x[:, 3] = 1.0
    for features, level in ((x, 255), (-x, 1)):
        wrapped, plan, _ = quantized(features, QuantizerSpec(8))
        path = sgq.save(tmp_path / f"{level}.safetensors", wrapped, plan, features=features)
        stored = read(path).features
        assert stored is not None
        assert stored.form == "pattern delta"
        # A count and a column a row; -1 lies 255 codes below its zero point, which is 1 modulo 256.
        assert stored.nbytes == 2 * data.num_nodes
        assert stored.encoded.levels == (level,)


def test_a_model_and_its_features_run_from_the_file_alone(tmp_path: Path) -> None:
    data = community_graph()
    wrapped, plan, _ = quantized(data.x, QuantizerSpec(4))
    path = sgq.save(tmp_path / "model.safetensors", wrapped, plan, features=data.x)
    stored = read(path).features
    assert stored is not None
    again = sgq.load(path)(stored.dequantized(), data.edge_index)
    assert torch.equal(again, wrapped(data.x, data.edge_index))


def test_features_that_the_plan_leaves_in_float_or_of_another_size_are_not_saved(tmp_path: Path) -> None:
    data, path = community_graph(), tmp_path / "model.safetensors"
    wrapped, plan, _ = quantized(data.x, None)
    with pytest.raises(CheckpointError, match=r"one quantized site of input features in the plan \(got 0\)"):
        sgq.save(path, wrapped, plan, features=data.x)
    wrapped, plan, _ = quantized(data.x, QuantizerSpec(4))
    with pytest.raises(CheckpointError, match=r"\[90, 16\] \(got \[89, 16\]\)"):
        sgq.save(path, wrapped, plan, features=data.x[1:])
    with pytest.raises(CheckpointError, match=r"sgq\.save\(path, model, plan\)"):
        sgq.save(path, float_model(), features=data.x)


def test_dense_codes_of_another_size_are_refused_when_the_file_is_read(tmp_path: Path) -> None:
    x = bags_of_words()["dense"]
    wrapped, plan, _ = quantized(x, QuantizerSpec((8, 4, 1), granularity="bucket"))
    path = sgq.save(tmp_path / "model.safetensors", wrapped, plan, features=x)
    whole = read(path)
    assert whole.features is not None
    assert whole.features.form == "dense"

    def longer(header: dict[str, Any], payload: bytes) -> bytes:
        end = header["features/codes"]["data_offsets"][1]
        header["features/codes"]["shape"][0] += 1
        header["features/codes"]["data_offsets"][1] += 1
        for name, record in header.items():
            if name not in (METADATA, "features/codes") and record["data_offsets"][0] >= end:
                record["data_offsets"] = [offset + 1 for offset in record["data_offsets"]]
        return sealed(header, payload[:end] + b"x" + payload[end:])

    path.write_bytes(forged(path.read_bytes(), longer))
    with pytest.raises(CheckpointError, match=r'features that cannot be used: "codes": expected \d+ bytes'):
        read(path)


def test_bucket_ids_are_unpacked_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = community_graph()
    _, plan, bucket = quantized(data.x, QuantizerSpec((8, 4, 1), granularity="bucket"))
    assert bucket is not None
    monkeypatch.setattr("sgq.pipeline.packed_state._CHUNK_CODES", 16)
    packed = pack(bucket, bucket_id_bits(plan))
    found = stored_bucket(plan, {ROOT_BUCKETS: packed}, bucket.numel())
    assert found is not None
    assert found.dtype is torch.uint8
    assert torch.equal(found, bucket.to(torch.uint8))
