from __future__ import annotations

from typing import Any

import pytest

from sgq.report import ReferenceRow, Report, ReportRow, RuntimeRow, SiteRow, StudyReport, TrialRow


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


@pytest.fixture(scope="session")
def study() -> StudyReport:
    """Six trials over three axes: three on the front, one collapsed, one stopped and one that failed.

    The smallest inside the limits is trial 3, of 600 bytes; texts would break unescaped HTML.
    """

    def trial(number: int, packed_bytes: float, accuracy_val: float | None, **more: Any) -> TrialRow:
        assignment = (("convs.0:message[0]", 8 - number), ("convs.0:weight", 4), ("quantizer", "a<b>"))
        return TrialRow(
            number=number,
            packed_bytes=packed_bytes,
            accuracy_val=accuracy_val,
            assignment=assignment,
            **({"state": "finished", "seconds": 0.5} | more),
        )

    return StudyReport(
        title="bits of <i>gat</i>",
        trials=(
            trial(0, 1024.0, 0.81, on_front=True),
            trial(1, 512.5, 0.25, holds=False),
            trial(2, 512.0, 0.78, on_front=True, holds=False),
            trial(3, 600.0, 0.80, on_front=True),
            trial(4, 320.0, 0.75, state="stopped", budget=1 / 9, holds=False),
            trial(5, 256.0, None, state="failed", seconds=None, reason='loss, "nan"', holds=False),
        ),
        references=(
            ReferenceRow(
                name="float", packed_bytes=8192.0, accuracy_val=0.8125, accuracy_test=0.815, family="float"
            ),
            ReferenceRow(
                name="int8 <u>", packed_bytes=2048.0, accuracy_val=0.8, accuracy_test=None, family="uniform"
            ),
        ),
        limit_accuracy=0.7975,
        best=3,
        hypervolume=((1, 0.5), (3, 0.625), (4, 0.75)),
        sampler="tpe",
        settings=(("data", "<script>alert(1)</script>"),),
        notes=("one & two",),
    )
