"""FeatureDropout in both layouts."""

from __future__ import annotations

import torch

from sgq.models.dropout import FeatureDropout, densify


def test_eval_mode_returns_the_input_itself() -> None:
    x = torch.eye(3).to_sparse_csr()
    assert FeatureDropout(0.5).eval()(x) is x


def test_sparse_dropout_keeps_the_pattern_and_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    x = (torch.rand(50, 40) < 0.5).float()
    out = FeatureDropout(0.5).train()(x.to_sparse_csr())
    assert out.layout == torch.sparse_csr
    assert out.values().numel() == int(x.sum())
    assert set(out.values().unique().tolist()) == {0.0, 2.0}
    assert (densify(out)[x == 0] == 0).all()


def test_dense_dropout_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    out = FeatureDropout(0.75).train()(torch.ones(100, 10))
    assert set(out.unique().tolist()) == {0.0, 4.0}
