from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sgq.errors import DataError


def pairwise_part_by_least_squares(values: np.ndarray, counts: tuple[int, ...]) -> float:
    """Return the share of variance that products of two axes' indicators explain beyond the axes alone."""
    rows = list(product(*map(range, counts)))
    single = [
        [float(row[axis] == code) for row in rows]
        for axis, count in enumerate(counts)
        for code in range(count)
    ]
    double = [
        [float(row[left] == one and row[right] == other) for row in rows]
        for left in range(len(counts))
        for right in range(left)
        for one in range(counts[left])
        for other in range(counts[right])
    ]

    def explained(columns: list[list[float]]) -> float:
        design = np.array(columns).T
        return float((design @ np.linalg.lstsq(design, values, rcond=None)[0]).var())

    return (explained(single + double) - explained(single)) / float(values.var())


def test_the_share_of_pairs_is_what_least_squares_finds() -> None:
    from benches.bit_tables import pair_share

    from sgq.bits import Space

    space = Space.of({"a": (2, 4, 8), "b": (1, 2), "c": (2, 4, 8), "d": (4, 8)})
    values = np.random.default_rng(0).normal(size=space.size)
    assert pair_share(space, values) == pytest.approx(pairwise_part_by_least_squares(values, space.counts))


@pytest.mark.parametrize("axes", [4, 5])
def test_pairs_of_a_drawn_table_carry_a_third_of_the_variance(axes: int) -> None:
    from benches.bit_tables import synthetic_table

    table = synthetic_table(3, axes=axes)
    assert pairwise_part_by_least_squares(table.accuracy, table.space.counts) >= 0.32


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_table_is_what_it_says(seed: int) -> None:
    from benches.bit_tables import pair_share, synthetic_table

    table = synthetic_table(seed)
    assert table.space.size == len(table.accuracy) == 3**9
    assert pair_share(table.space, table.accuracy) >= 0.32
    cube = table.accuracy.reshape(table.space.counts)
    assert all((np.diff(cube, axis=axis) >= -1e-12).all() for axis in range(9)), "more bits hurt"
    assert table.accuracy[-1] == pytest.approx(0.82)
    assert np.quantile(0.82 - table.accuracy, 0.9) == pytest.approx(0.2)
    assert table.memory[-1] == pytest.approx(1.1e6)
    assert table.memory.min() == table.memory[0] > 1e5
    assert table.accuracy.min() > 0.0


def test_an_assignment_is_found_by_its_codes_and_measured_the_same_each_time() -> None:
    from benches.bit_tables import synthetic_table

    table = synthetic_table(axes=3)
    space = table.space
    every = list(space.every())
    assert table.places(every).tolist() == list(range(27))
    assert [table.place(space.assignment(codes)) for codes in every] == list(range(27))
    assert table.of_codes(np.array(every[4:6])).tolist() == table.memory[4:6].tolist()
    assert table(space.assignment(every[7])) == table.memory[7]
    measured = np.array([[table.measured(place, seed=seed) for place in range(27)] for seed in range(40)])
    again = [table.measured(place, seed=2) for place in range(27)]
    assert measured[2].tolist() == again
    errors = measured - table.accuracy
    assert len(np.unique(errors)) == errors.size
    assert errors.std() == pytest.approx(0.01, rel=0.1)


def test_the_trained_table_has_all_assignments_once_and_measurements_of_several_seeds() -> None:
    from benches.bit_tables import TRAINED_CSV, trained_table

    assert TRAINED_CSV.stat().st_size < 200_000
    table = trained_table()
    rows = [line.split(",")[:6] for line in TRAINED_CSV.read_text().splitlines()[1:]]
    assert len({tuple(row) for row in rows}) == len(rows) == table.space.size == 3**6
    assert table.repeats is not None
    assert table.repeats.shape[1] >= 2
    assert table.accuracy == pytest.approx(table.repeats.mean(axis=1))
    assert all(table.measured(place, seed=1) in table.repeats[place] for place in range(0, 729, 50))
    drops = table.float_accuracy - table.accuracy
    assert ((drops > 0.0) & (drops < 0.1)).mean() > 0.4, "most is outside of what a search looks at"
    assert 0.01 < table.inside.mean() < 0.5
    assert table.memory.argmin() == 0
    assert table.memory.argmax() == 728


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "expected a table of tools/record_table.py"),
        ("a,packed_bytes,float_val,val_seed_0\n2,x,0.8,0.8\n", "expected a table of tools/record_table.py"),
        (
            "a,packed_bytes,float_val,val\n2,10,0.8,0.8\n",
            "expected columns packed_bytes, float_val, val_seed_0",
        ),
        ("a,packed_bytes,float_val\n2,10,0.8\n", "expected columns"),
        (
            "a,packed_bytes,float_val,val_seed_0\n4,20,0.8,0.8\n2,10,0.8,0.7\n",
            "expected all 2 assignments in order",
        ),
        (
            "a,b,packed_bytes,float_val,val_seed_0\n2,2,20,0.8,0.8\n4,4,10,0.8,0.7\n",
            r"expected all 4 assignments in order \(got 2 rows\)",
        ),
    ],
)
def test_a_file_that_is_no_table_is_told(content: str, told: str, tmp_path: Path) -> None:
    from benches.bit_tables import trained_table

    file = tmp_path / "table.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=told):
        trained_table(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    from benches.bit_tables import trained_table

    with pytest.raises(DataError, match=r"absent\.csv: expected a table"):
        trained_table(tmp_path / "absent.csv")


def test_repeats_give_mean_and_noise(tmp_path: Path) -> None:
    from benches.bit_tables import trained_table

    file = tmp_path / "table.csv"
    lines = ["a,packed_bytes,float_val,val_seed_0,val_seed_1", "2,10,0.8,0.6,0.7", "4,20,0.8,0.81,0.81"]
    file.write_text("\n".join(lines))
    table = trained_table(file)
    assert table.accuracy.tolist() == pytest.approx([0.65, 0.81])
    assert table.noise == pytest.approx(0.05)
    assert table.float_accuracy == 0.8
    assert table.inside.tolist() == [False, True]
    assert table.best_saving_bytes == 0.0
    assert table.best_hypervolume == 0.0
