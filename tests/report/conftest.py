from __future__ import annotations

import pytest

from sgq.report import Report, ReportRow, RuntimeRow, SiteRow


@pytest.fixture
def report() -> Report:
    """Three models and two sites with easy numbers, and text that would break unescaped HTML."""
    rows = (
        ReportRow(
            name="float",
            family="float",
            accuracy_val=0.8,
            accuracy_test=0.815,
            accuracy_std=0.006,
            sgquant_bits=32.0,
            a2q_bits=32.0,
            mixq_bits=32.0,
            packed_bytes=4096,
            file_bytes=2048,
            ratio_dense=1.0,
            ratio_sparse=0.25,
        ),
        ReportRow(
            name="int8",
            family="uniform",
            accuracy_val=0.79,
            accuracy_test=0.81,
            sgquant_bits=8.0,
            a2q_bits=8.0,
            mixq_bits=8.0,
            packed_bytes=1024,
            file_bytes=512,
            ratio_dense=4.0,
            ratio_sparse=1.0,
        ),
        ReportRow(
            name="mixed <b>&</b>",
            accuracy_val=0.78,
            accuracy_test=0.8,
            sgquant_bits=3.5,
            a2q_bits=None,
            mixq_bits=3.25,
            packed_bytes=512,
            file_bytes=300,
            ratio_dense=8.0,
            ratio_sparse=2.0,
        ),
    )
    sites = (
        SiteRow(
            name="conv:input",
            component="input",
            rows="node",
            shape=(8, 16),
            spec="8/4 bucket",
            origin="recipe.yaml:4",
            packed_bytes=96,
            values=128,
            clip_share=0.0125,
        ),
        SiteRow(
            name="conv:weight",
            component="weight",
            rows="parameter",
            shape=(4, 16),
            spec="4 channel symmetric",
            origin="recipe.yaml:7",
            packed_bytes=48,
            values=64,
        ),
    )
    settings = (("model", "gcn"), ("data", "<script>alert(1)</script>"))
    return Report("mixed & <i>bold</i>", rows, sites, settings, ("attention is hidden in message",))


@pytest.fixture
def runtime() -> tuple[RuntimeRow, ...]:
    """A float baseline and the integer runtime, four times as fast."""
    return tuple(
        RuntimeRow(
            name=name,
            file_bytes=4096 // factor,
            peak_bytes=8192 // factor,
            peak_without_features_bytes=2048 // factor,
            median_s=0.008 / factor,
            lower_quartile_s=0.006 / factor,
            upper_quartile_s=0.02 / factor,
            times_integer=4.0 / factor,
            repeats=9,
            threads=2,
            device="cpu",
        )
        for name, factor in (("fp32 <csr>", 1), ("integer", 4))
    )
