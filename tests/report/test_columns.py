from __future__ import annotations

import pytest

from sgq.report.columns import (
    COMPARISON,
    RUNTIME,
    byte_text,
    clip_text,
    legend,
    milliseconds_text,
    percent_text,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (10 * 1024, "10.0 KiB"),
        (102_400, "100 KiB"),
        (1023 * 1024, "1.00 MiB"),
        (5 * 1024**3, "5.00 GiB"),
        (2 * 1024**4, "2.00 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_bytes_read_with_three_figures(count: int, text: str) -> None:
    assert byte_text(count) == text


def test_an_accuracy_reads_as_percent_with_one_decimal() -> None:
    assert percent_text(0.8149) == "81.5"
    assert percent_text(0.8149, spread=0.0061) == "81.5 ± 0.6"


def test_an_accuracy_that_was_not_measured_reads_as_a_dash_not_as_zero() -> None:
    assert percent_text(None) == "–"
    assert percent_text(0.0) == "0.0"


def test_a_small_clip_share_does_not_read_as_none() -> None:
    assert (clip_text(None), clip_text(0.0), clip_text(0.00001), clip_text(0.0125)) == (
        "–",
        "0",
        "<0.01",
        "1.25",
    )


def test_the_legend_keeps_simulated_and_modelled_columns_apart() -> None:
    simulated, modelled = legend(COMPARISON).split("; ")
    assert simulated == "simulated: val %, test %"
    assert "packed" in modelled
    assert "test" not in modelled


def test_measured_columns_are_neither_simulated_nor_modelled() -> None:
    text = legend(RUNTIME)
    assert text.startswith("measured: median ms, quartiles ms")
    assert {column.tier for column in RUNTIME} == {"", "measured"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0000012, "0.001"), (0.000512, "0.512"), (0.0065, "6.50"), (0.073, "73.0"), (1.25, "1250")],
)
def test_milliseconds_read_with_three_figures(seconds: float, text: str) -> None:
    assert milliseconds_text(seconds) == text
