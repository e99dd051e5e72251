from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgq.cost.energy import Energy, Link, energy_j
from sgq.cost.profile import DeviceProfile, Power, Radio
from sgq.cost.profile_file import load_profile
from sgq.errors import ProfileError, UsageError

DEVICE = DeviceProfile("toy", "measured", "2020-01-01", power=Power(10.0, 2.0), radio=Radio(3.0))
AT_40_MBPS = Link(40e6)

amounts = st.floats(0.0, 1e6)


def test_computing_waiting_and_sending_add_up() -> None:
    # 0.5 s · 10 W, 2 s · 2 W, and 1 MB over 40 Mbit/s: 0.2 s · 3 W.
    found = energy_j(DEVICE, compute_s=0.5, waiting_s=2.0, sent_bytes=1_000_000, link=AT_40_MBPS)
    assert found == Energy(5.0, 4.0, pytest.approx(0.6), "modelled")
    assert found.total_j == pytest.approx(9.6)


def test_the_tx2_sends_and_waits_as_in_gcode() -> None:
    # energy_mn.py: latency in ms / 1000 · 3004 mW for what is sent, · 1450 mW while the edge computes.
    tx2 = load_profile("jetson-tx2")
    found = energy_j(tx2, compute_s=0.1, waiting_s=0.020, sent_bytes=50_000, link=AT_40_MBPS)
    assert found.compute_j == pytest.approx(1.5)
    assert found.waiting_j == pytest.approx(0.029)
    assert found.radio_j == pytest.approx(0.01 * 3.004)
    assert found.label == "modelled from the data sheet"


def test_a_link_carries_eight_bits_a_byte() -> None:
    assert Link(8.0).sending_s(3) == 3.0


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ({"compute_s": 1.0}, "power.active_w"),
        ({"compute_s": 0.0, "waiting_s": 1.0}, "power.idle_w"),
        ({"compute_s": 0.0, "sent_bytes": 1, "link": AT_40_MBPS}, "radio.sending_w"),
    ],
)
def test_a_power_that_is_needed_and_absent_is_named_with_the_profile(
    arguments: dict[str, object], number: str
) -> None:
    bare = DeviceProfile("bare", "measured", "2020-01-01")
    with pytest.raises(ProfileError, match=f"the device profile bare has no {number}: add it to the profile"):
        energy_j(bare, **arguments)  # type: ignore[arg-type]


def test_a_data_sheets_absent_power_has_no_public_source() -> None:
    with pytest.raises(ProfileError, match=r"gtx-1060 has no power\.idle_w: no public source gives it"):
        energy_j(load_profile("gtx-1060"), compute_s=1.0, waiting_s=1.0)


def test_a_power_that_is_not_needed_may_be_absent() -> None:
    assert energy_j(load_profile("gtx-1060"), compute_s=2.0).total_j == 240.0


@pytest.mark.parametrize("speed", [0.0, -1.0, math.inf, math.nan])
def test_a_link_that_carries_nothing_is_a_usage_error(speed: float) -> None:
    with pytest.raises(UsageError, match="expected a link of more than 0 bits a second"):
        Link(speed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compute_s": -1.0}, "expected compute_s of at least 0"),
        ({"compute_s": math.nan}, "expected compute_s of at least 0"),
        ({"compute_s": 1.0, "waiting_s": math.inf}, "expected waiting_s of at least 0"),
        ({"compute_s": 1.0, "sent_bytes": -1}, "expected sent_bytes of at least 0"),
        ({"compute_s": 1.0, "sent_bytes": 1}, "expected a link over which 1 bytes are sent"),
    ],
)
def test_times_and_bytes_that_cannot_be_are_usage_errors(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        energy_j(DEVICE, **arguments)  # type: ignore[arg-type]


@given(compute_s=amounts, waiting_s=amounts, sent_bytes=amounts, speed=st.floats(1.0, 1e12))
def test_energy_is_linear_and_never_negative(
    compute_s: float, waiting_s: float, sent_bytes: float, speed: float
) -> None:
    link = Link(speed)
    once = energy_j(DEVICE, compute_s=compute_s, waiting_s=waiting_s, sent_bytes=sent_bytes, link=link)
    twice = energy_j(
        DEVICE, compute_s=2 * compute_s, waiting_s=2 * waiting_s, sent_bytes=2 * sent_bytes, link=link
    )
    assert min(once.compute_j, once.waiting_j, once.radio_j) >= 0.0
    assert twice.total_j == pytest.approx(2 * once.total_j)
    assert once.radio_j == pytest.approx(sent_bytes * 8 / speed * 3.0)
