from __future__ import annotations

import pytest

from sgq.cost.profile_file import load_profile, shipped_profiles

NAMES = (
    "core-i7-8700k",
    "gtx-1060",
    "jetson-tx2",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4b",
    "rtx-3080",
)
NEEDED = {"rates.operations_per_s.fp32", "rates.bandwidth_bytes_per_s", "power.active_w"}


def test_the_devices_of_the_papers_ship() -> None:
    assert shipped_profiles() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_data_sheet_has_a_source_for_every_number(name: str) -> None:
    profile = load_profile(name)
    assert (profile.name, profile.kind) == (name, "data sheet")
    assert profile.price_label == "modelled from the data sheet"
    assert profile.fingerprint is None
    numbers = dict(profile.numbers())
    assert numbers.keys() >= NEEDED
    assert all(number > 0 for number in numbers.values())
    assert sorted(source.number for source in profile.sources) == sorted(numbers)
    assert all(source.url.startswith("https://") and source.title for source in profile.sources)


@pytest.mark.parametrize("name", NAMES)
def test_units_are_plausible(name: str) -> None:
    # A slip of a factor of 1,000 is what happens to data sheets.
    profile = load_profile(name)
    rates = profile.rates
    assert 1e10 < profile.required("rates.operations_per_s.fp32") < 1e14
    assert 1e9 < profile.required("rates.bandwidth_bytes_per_s") < 1e12
    assert 2**30 <= (profile.memory_bytes or 2**30) <= 2**40
    assert 1.0 < (profile.power.idle_w or 2.0) < profile.required("power.active_w") < 1000.0
    assert rates.peak_operations_per_s(8) == max(
        peak.operations_per_s for peak in rates.peaks if peak.bits >= 8
    )


def test_the_tx2_has_gcodes_constants() -> None:
    tx2 = load_profile("jetson-tx2")
    assert (tx2.power.idle_w, tx2.radio.sending_w) == (1.450, 3.004)
    sources = {source.number: source for source in tx2.sources}
    for number in ("power.idle_w", "radio.sending_w"):
        assert "GCoDE-Predictor (MIT)" in sources[number].title


def test_figures_follow_from_what_their_source_states() -> None:
    def fp32(name: str) -> float:
        return load_profile(name).required("rates.operations_per_s.fp32")

    assert fp32("rtx-3080") == pytest.approx(2 * 8704 * 1.71e9, rel=1e-3)
    assert fp32("gtx-1060") == pytest.approx(2 * 1280 * 1.708e9, rel=1e-3)
    assert fp32("jetson-tx2") == pytest.approx(2 * 256 * 1.3e9)
    assert fp32("core-i7-8700k") == pytest.approx(6 * 32 * 3.7e9)
    assert fp32("raspberry-pi-3b-plus") == pytest.approx(4 * 8 * 1.4e9)
    assert fp32("raspberry-pi-4b") == pytest.approx(4 * 8 * 1.5e9, rel=1e-2)
