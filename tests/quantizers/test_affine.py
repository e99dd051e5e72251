from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers import QuantizerError, affine_parameters, code_bounds, dequantize, fake_quantize, quantize
from quantizers.affine import AffineParameters

KINDS = [(symmetric, signed) for symmetric in (False, True) for signed in (False, True)]
numbers = st.floats(-1e3, 1e3, width=32)
widths = st.integers(1, 16)
kinds = st.sampled_from(KINDS)


def parameters_for(
    lower: float, upper: float, bits: int, kind: tuple[bool, bool], dtype: torch.dtype = torch.float64
) -> AffineParameters:
    lower_end, upper_end = (torch.tensor(end, dtype=dtype) for end in (lower, upper))
    return affine_parameters(lower_end, upper_end, bits=bits, symmetric=kind[0], signed=kind[1])


def test_asymmetric_codes_by_hand() -> None:
    parameters = parameters_for(-1.0, 2.0, 2, (False, False))
    x = torch.tensor([-5.0, -1.0, 0.0, 0.4, 0.6, 2.0, 9.0])
    assert parameters.scale == 1.0
    assert parameters.zero_point == 1.0
    assert quantize(x, parameters).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert fake_quantize(x, parameters).tolist() == [-1, -1, 0, 0, 1, 2, 2]


def test_signed_asymmetric_codes_are_shifted() -> None:
    unsigned, signed = (parameters_for(-1.0, 2.0, 4, (False, signed)) for signed in (False, True))
    x = torch.linspace(-2, 3, 50)
    assert torch.equal(quantize(x, signed), quantize(x, unsigned) - 8)
    assert torch.equal(fake_quantize(x, signed), fake_quantize(x, unsigned))
    assert code_bounds(4, symmetric=False, signed=True) == (-8, 7)


def test_symmetric_signed_codes_by_hand() -> None:
    parameters = parameters_for(-7.0, 3.0, 4, (True, True))
    assert (parameters.scale, parameters.zero_point) == (1.0, 0.0)
    assert quantize(torch.tensor([-9.0, -7.0, 0.0, 7.0, 9.0]), parameters).tolist() == [-7, -7, 0, 7, 7]


def test_symmetric_unsigned_codes_cut_negatives() -> None:
    parameters = parameters_for(-7.0, 3.0, 2, (True, False))
    assert fake_quantize(torch.tensor([-2.0, 0.0, 1.2, 9.0]), parameters).tolist() == [0, 0, 1, 3]


def test_one_bit_symmetric_is_minus_s_and_plus_s() -> None:
    parameters = parameters_for(-0.5, 0.25, 1, (True, True))
    x = torch.tensor([-3.0, -0.1, 0.1, 3.0])
    assert quantize(x, parameters).tolist() == [0, 0, 1, 1]
    assert fake_quantize(x, parameters).tolist() == [-0.5, -0.5, 0.5, 0.5]


@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_range_of_zeros_gives_zeros(bits: int, kind: tuple[bool, bool]) -> None:
    parameters = parameters_for(0.0, 0.0, bits, kind)
    assert parameters.scale == 1.0
    assert fake_quantize(torch.zeros(3), parameters).tolist() == [0.0, 0.0, 0.0]


def test_a_denormal_range_stays_finite() -> None:
    parameters = parameters_for(0.0, 1e-42, 8, (False, False), torch.float32)
    assert fake_quantize(torch.tensor([0.0, 1e-42]), parameters).tolist() == [0.0, 0.0]


@settings(max_examples=150, deadline=None)
@given(lower=numbers, upper=numbers, fraction=st.floats(0, 1), bits=widths, kind=kinds)
def test_the_error_inside_the_range_is_at_most_half_a_step(
    lower: float, upper: float, fraction: float, bits: int, kind: tuple[bool, bool]
) -> None:
    lower, upper = min(lower, upper, 0.0), max(lower, upper, 0.0)
    if kind == (True, False):
        lower = 0.0
    parameters = parameters_for(lower, upper, bits, kind)
    x = torch.tensor(lower + fraction * (upper - lower), dtype=torch.float64)
    error = (fake_quantize(x, parameters) - x).abs()
    assert error <= parameters.scale / 2 * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(x=st.lists(numbers, min_size=1, max_size=8), bits=widths, kind=kinds)
def test_quantizing_twice_changes_nothing(x: list[float], bits: int, kind: tuple[bool, bool]) -> None:
    values = torch.tensor(x)
    parameters = parameters_for(min(x), max(x), bits, kind, torch.float32)
    once = fake_quantize(values, parameters)
    assert torch.equal(fake_quantize(once, parameters), once)
    codes = quantize(values, parameters)
    assert torch.equal(codes, codes.round())
    assert torch.equal(dequantize(codes, parameters), once)


@settings(max_examples=150, deadline=None)
@given(lower=numbers, upper=numbers, bits=widths, kind=kinds)
def test_zero_stays_exactly_zero(lower: float, upper: float, bits: int, kind: tuple[bool, bool]) -> None:
    if bits == 1 and kind == (True, True):
        return
    parameters = parameters_for(lower, upper, bits, kind, torch.float32)
    assert fake_quantize(torch.zeros(()), parameters) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_of_widths_equals_one_call_a_width(kind: tuple[bool, bool]) -> None:
    bits = torch.arange(1, 17)
    lower, upper = -torch.rand(16), torch.rand(16)
    together = affine_parameters(lower, upper, bits=bits, symmetric=kind[0], signed=kind[1])
    for row in range(16):
        alone = affine_parameters(lower[row], upper[row], bits=row + 1, symmetric=kind[0], signed=kind[1])
        assert together.scale[row] == alone.scale
        assert together.zero_point[row] == alone.zero_point
        assert (together.quant_min[row], together.quant_max[row]) == (alone.quant_min, alone.quant_max)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_32_bits_pass_bit_exact_in_a_mix(kind: tuple[bool, bool]) -> None:
    x = torch.randn(3, 5)
    parameters = affine_parameters(
        x.amin(1, keepdim=True),
        x.amax(1, keepdim=True),
        bits=torch.tensor([[32], [2], [32]], dtype=torch.uint8),
        symmetric=kind[0],
        signed=kind[1],
    )
    for tracked in (x, x.clone().requires_grad_()):
        got = fake_quantize(tracked, parameters)
        assert torch.equal(got[[0, 2]], x[[0, 2]])
        assert not torch.equal(got[1], x[1])
    assert torch.equal(dequantize(quantize(x, parameters), parameters)[[0, 2]], x[[0, 2]])


@pytest.mark.parametrize("bits", [0, 17, 32])
def test_a_width_out_of_range_is_an_error(bits: int) -> None:
    with pytest.raises(QuantizerError, match=f"expected bits in 1 to 16 .got {bits}"):
        parameters_for(-1.0, 1.0, bits, (False, False))


def test_the_gradient_is_one_inside_and_zero_outside_by_hand() -> None:
    parameters = parameters_for(-1.0, 2.0, 2, (False, False), torch.float32)
    x = torch.tensor([-5.0, -1.0, 0.3, 2.0, 2.4, 2.6], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    fake_quantize(x, parameters).backward(upstream)
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_all_three_routes_give_the_same_values_and_gradients(kind: tuple[bool, bool]) -> None:
    parameters = parameters_for(-1.0, 1.5, 3, kind, torch.float32)
    x = torch.randn(200)
    plain = fake_quantize(x, parameters)
    eager, traced = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(fake_quantize, backend="aot_eager", fullgraph=True)
    for tracked, function in ((eager, fake_quantize), (traced, compiled)):
        value = function(tracked, parameters)
        assert torch.equal(value, plain)
        (value * x).sum().backward()
    assert torch.equal(eager.grad, traced.grad)
    assert 0 < int((eager.grad == 0).sum()) < 200


def test_the_input_is_never_changed_in_place() -> None:
    x = torch.randn(20)
    kept = x.clone()
    parameters = parameters_for(0.0, 0.0, 4, (False, False), torch.float32)
    for tracked in (x, x.requires_grad_()):
        fake_quantize(tracked, parameters)
        quantize(tracked, parameters)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    parameters = parameters_for(-1.0, 1.0, 8, (False, False), torch.float32)
    x = torch.randn(50).to(dtype)
    got = fake_quantize(x, parameters)
    assert got.dtype is dtype
    assert torch.equal(got, fake_quantize(x.float(), parameters).to(dtype))
    assert quantize(x, parameters).dtype is torch.float32
