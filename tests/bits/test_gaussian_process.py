"""The model of accuracy: its kernel against the written formula, and its posterior against the textbook."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.linalg import cho_solve
from scipy.optimize import approx_fprime

from sgq.bits import Space
from sgq.bits.gaussian_process import (
    ALL_TRAININGS,
    BOUNDS,
    CONSTANT,
    FEWEST_TO_TUNE,
    JITTER,
    NOISE,
    START,
    GaussianProcess,
    _kernel,
    _negative_evidence,
    _own_parts,
    _parts,
    features_of,
    training_shares,
)
from tests.bits.tables import SPACE, accuracy

MIXED = Space.of({"weight": (1, 2, 4, 8), "method": ("lsq", "affine"), "input": (4, 8), "fixed": (8,)})
ALL = np.array(list(MIXED.every()))
TABLE = np.array(list(SPACE.every()))
TABLE_ACCURACY = np.array([accuracy(SPACE.assignment(codes)) for codes in TABLE.tolist()])


def kernel_by_hand(left: np.ndarray, right: np.ndarray, logarithms: np.ndarray) -> float:
    """Return the kernel of two assignments of MIXED as the module's formula says it."""
    levels = features_of(MIXED)
    t, other = (
        [float(level[code]) for level, code in zip(levels, codes, strict=True)] for codes in (left, right)
    )
    single = [
        min(t[i], other[i]) if axis.ordered else float(left[i] == right[i])
        for i, axis in enumerate(MIXED.axes)
    ]
    trend, main, pairs = np.exp(logarithms[:3])
    second = np.mean([single[i] * single[j] for i, j in combinations(range(len(single)), 2)])
    return float(
        trend * np.mean(t) * np.mean(other) + main * np.mean(single) + pairs * second + CONSTANT,
    )


def test_narrowness_is_linear_in_one_over_bits() -> None:
    # 1/1, 1/2, 1/4 and 1/8 less 1/8, over 7/8.
    weight, method, given, fixed = features_of(MIXED)
    np.testing.assert_allclose(weight, [1.0, 3 / 7, 1 / 7, 0.0])
    np.testing.assert_array_equal(method, [0.0, 0.0])
    np.testing.assert_array_equal(given, [1.0, 0.0])
    np.testing.assert_array_equal(fixed, [0.0])


def test_the_kernel_is_the_formula_that_the_module_states() -> None:
    logarithms = np.array([0.3, -0.7, 0.4, -2.0])
    features = GaussianProcess(MIXED)._features(ALL)
    expected = [[kernel_by_hand(left, right, logarithms) for right in ALL] for left in ALL]
    kernel = _kernel(logarithms, _parts(features, features))
    np.testing.assert_allclose(kernel, expected, rtol=1e-12)
    np.testing.assert_allclose(_kernel(logarithms, _own_parts(features)), np.diag(kernel), rtol=1e-12)


def test_the_kernel_is_one_of_a_single_axis_too() -> None:
    space = Space.of({"weight": (2, 4, 8)})
    features = GaussianProcess(space)._features(np.array([[0], [1], [2]]))
    level = features_of(space)[0]
    expected = 2.0 * np.outer(level, level) + 3.0 * np.minimum(level[:, None], level) + CONSTANT
    logarithms = np.log([2.0, 3.0, 5.0, 1.0])
    np.testing.assert_allclose(_kernel(logarithms, _parts(features, features)), expected)


def test_the_posterior_is_that_of_the_textbook() -> None:
    chance = np.random.default_rng(0)
    codes, values = ALL[chance.permutation(len(ALL))[:7]], chance.normal(0.7, 0.1, 7)
    model = GaussianProcess(MIXED)
    model.fit(codes, values, tune=False)
    mean, spread = model.predict(ALL)
    known = np.array([[kernel_by_hand(left, right, START) for right in codes] for left in codes])
    across = np.array([[kernel_by_hand(left, right, START) for right in codes] for left in ALL])
    own = np.array([kernel_by_hand(codes, codes, START) for codes in ALL])
    inverse = np.linalg.inv(known + (np.exp(START[NOISE]) + JITTER) * np.eye(7))
    scaled = (values - values.mean()) / values.std()
    np.testing.assert_allclose(mean, values.mean() + values.std() * across @ inverse @ scaled, rtol=1e-4)
    variance = own - np.einsum("ij,jk,ik->i", across, inverse, across)
    np.testing.assert_allclose(spread, values.std() * np.sqrt(variance), rtol=1e-3)


def test_the_evidence_has_the_gradient_that_tuning_follows() -> None:
    chance = np.random.default_rng(1)
    codes = TABLE[chance.permutation(81)[:12]]
    levels = [level[codes[:, axis]] for axis, level in enumerate(features_of(SPACE))]
    trend, values = np.mean(levels, axis=0), chance.normal(size=12)
    own = np.array([np.minimum(level[:, None], level) for level in levels])
    shares = chance.uniform(0.1, 1.0, size=12)
    one = np.eye(3)[chance.integers(3, size=12)]

    def evidence(at: np.ndarray) -> tuple[float, np.ndarray]:
        return _negative_evidence(at, trend, own, one @ one.T, values, shares)

    for sizes, axes in ((START, np.zeros(4)), ([0.5, -1.0, 0.3, -0.4, -2.0], [0.4, -0.7, 1.2, 0.1])):
        logarithms = np.concatenate((sizes, axes))
        gradient = evidence(logarithms)[1]
        numeric = approx_fprime(logarithms, lambda at: evidence(at)[0], 1e-6)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-4)


def test_the_mean_alone_is_that_of_a_prediction() -> None:
    chance = np.random.default_rng(4)
    model = GaussianProcess(MIXED)
    model.fit(ALL[::2], chance.normal(0.7, 0.1, len(ALL[::2])))
    np.testing.assert_allclose(model.mean(ALL), model.predict(ALL)[0], rtol=1e-4)


def test_an_axis_that_does_nothing_is_found_to_matter_less() -> None:
    model = GaussianProcess(SPACE)
    model.fit(TABLE, 0.9 - 0.05 * (TABLE[:, 0] == 0) - 0.1 * (TABLE[:, 2] == 0))
    sizes = model._axis_logarithms
    assert min(sizes[0], sizes[2]) > max(sizes[1], sizes[3])


def test_effects_of_single_axes_add_up_in_what_was_never_measured() -> None:
    half = np.random.default_rng(2).permutation(81)[:40]
    model = GaussianProcess(SPACE)
    model.fit(TABLE[half], TABLE_ACCURACY[half])
    rest = np.setdiff1d(np.arange(81), half)
    mean, spread = model.predict(TABLE[rest])
    np.testing.assert_allclose(mean, TABLE_ACCURACY[rest], atol=0.01)
    assert model.noise < 0.01
    assert (spread < TABLE_ACCURACY.std()).all()


def test_what_is_only_noise_is_taken_for_it() -> None:
    values = np.random.default_rng(3).normal(0.8, 0.02, 81)
    model = GaussianProcess(SPACE)
    model.fit(TABLE, values)
    assert model.noise == pytest.approx(0.02, rel=0.3)
    mean, _ = model.predict(TABLE)
    assert mean.std() < values.std() / 2


def test_the_mean_of_repeats_counts_as_much_as_each_of_them_would() -> None:
    values = np.array([0.9, 0.7, 0.5])
    once, often = GaussianProcess(SPACE), GaussianProcess(SPACE)
    once.fit(TABLE[[80, 40, 40, 40, 0]], values[[0, 1, 1, 1, 2]], tune=False)
    often.fit(TABLE[[80, 40, 0]], values, repeats=np.array([1, 3, 1]), tune=False)
    # Both are exact about the same measurements; they differ in the unit that values are scaled to.
    often._centre, often._spread = once._centre, once._spread
    scaled = (values - once._centre) / once._spread
    often._weights = cho_solve(often._factor, scaled)
    for mine, other in zip(once.predict(TABLE), often.predict(TABLE), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3)


def test_the_luck_of_a_training_is_told_from_what_an_assignment_is_worth() -> None:
    chance = np.random.default_rng(5)
    trainings, luck = chance.integers(5, size=81), np.array([-0.04, -0.02, 0.0, 0.02, 0.04])
    values = TABLE_ACCURACY + luck[trainings] + chance.normal(0.0, 0.003, 81)
    knowing, unknowing = GaussianProcess(SPACE), GaussianProcess(SPACE)
    knowing.fit(TABLE, values, trainings=training_shares(trainings, 5))
    unknowing.fit(TABLE, values)
    errors = [np.abs(model.predict(TABLE)[0] - TABLE_ACCURACY).mean() for model in (knowing, unknowing)]
    assert errors[0] < errors[1] / 2
    assert knowing.noise < unknowing.noise / 2
    np.testing.assert_allclose(knowing.mean(TABLE), knowing.predict(TABLE)[0], rtol=1e-4)


def test_what_was_measured_on_all_trainings_has_the_mean_of_their_luck() -> None:
    model = GaussianProcess(SPACE)
    # Of one assignment on three trainings, and of another one on all of them.
    codes = TABLE[[80, 80, 80, 40]]
    shares = training_shares([0, 1, 2, ALL_TRAININGS], 3)
    model.fit(codes, np.array([0.7, 0.8, 0.9, 0.8]), trainings=shares, tune=False)
    mean, spread = model.predict(TABLE[[80, 40]])
    assert mean[0] == pytest.approx(0.8, abs=1e-3)
    assert mean[1] == pytest.approx(0.8, abs=1e-3)
    assert (spread < 0.05).all()


def test_what_was_measured_on_some_trainings_has_the_mean_of_theirs() -> None:
    # One assignment on three trainings, and another one on the two of more luck: it is no better for that.
    codes, values = TABLE[[80, 80, 80, 40]], np.array([0.7, 0.8, 0.9, 0.85])
    found = []
    for shares in ([0.0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]):
        model = GaussianProcess(SPACE)
        model.fit(codes, values, trainings=np.concatenate((np.eye(3), [shares])), tune=False)
        found.append(model.predict(TABLE[[40]])[0].item())
    assert found == sorted(found)
    assert found[0] < 0.83 < 0.84 < found[1]


def test_a_model_is_surer_of_what_was_measured_than_of_the_rest() -> None:
    model = GaussianProcess(SPACE)
    model.fit(TABLE[[80, 40, 0]], TABLE_ACCURACY[[80, 40, 0]])
    _, spread = model.predict(TABLE)
    # 62 is narrow in one axis alone, which was never measured; 80 is the widest.
    assert spread[80] < spread[62]
    assert (spread > 0.0).all()


def test_narrow_bits_are_expected_to_cost_on_axes_not_yet_tried() -> None:
    # Seen: all axes at once, from wide to narrow. Not seen: one axis alone.
    uniform = np.array([SPACE.uniform(8), SPACE.uniform(4), SPACE.uniform(2)])
    model = GaussianProcess(SPACE)
    model.fit(uniform, np.array([0.9, 0.7, 0.3]))
    alone = np.array([(2, 2, 2, 2), (1, 2, 2, 2), (0, 2, 2, 2)])
    mean, _ = model.predict(alone)
    assert mean[0] > mean[1] > mean[2]


def test_few_measurements_are_no_ground_to_tune_on() -> None:
    model = GaussianProcess(SPACE)
    model.fit(TABLE[: FEWEST_TO_TUNE - 1], TABLE_ACCURACY[: FEWEST_TO_TUNE - 1])
    np.testing.assert_array_equal(model._logarithms, START)
    model.fit(TABLE, TABLE_ACCURACY)
    assert not np.allclose(model._logarithms, START)
    assert all(low <= value <= high for value, (low, high) in zip(model._logarithms, BOUNDS, strict=True))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_equal_accuracies_everywhere_give_that_accuracy(count: int) -> None:
    model = GaussianProcess(MIXED)
    model.fit(ALL[:count], np.full(count, 0.5))
    mean, spread = model.predict(ALL)
    np.testing.assert_allclose(mean, 0.5, atol=1e-6)
    assert np.isfinite(spread).all()


def test_the_same_assignment_may_be_measured_again() -> None:
    model = GaussianProcess(SPACE)
    codes = np.repeat(TABLE[[80, 0]], 6, axis=0)
    model.fit(codes, np.array([0.9] * 6 + [0.5, 0.7] * 3))
    mean, _ = model.predict(TABLE[[80, 0]])
    np.testing.assert_allclose(mean, [0.9, 0.6], atol=0.03)
