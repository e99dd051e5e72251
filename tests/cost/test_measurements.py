from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.cost.measurements import Measurement, MeasurementStore, read_measurements
from sgq.cost.timing import Timing
from sgq.errors import ProfileError

COLUMNS = ("operation", "points", "bits")
HEADER = "operation,points,bits,count,median_s,lower_quartile_s,upper_quartile_s,noisy\n"
KNN = {"operation": "knn", "points": 1024, "bits": 32}
COMBINE = {"operation": "combine, wide", "points": 1024, "bits": 8}
FAST, SLOW = Timing(11, 0.25, 0.125, 0.5), Timing(3, 2.0, 1.0, 3.0, noisy=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two measurements."""
    path = tmp_path / "deep" / "host.operations.csv"
    with MeasurementStore(path, COLUMNS) as store:
        store.append(KNN, FAST)
        store.append(COMBINE, SLOW)
    return path


def test_a_file_is_plain_csv(path: Path) -> None:
    assert path.read_text() == (
        f'{HEADER}knn,1024,32,11,0.25,0.125,0.5,false\n"combine, wide",1024,8,3,2.0,1.0,3.0,true\n'
    )
    assert read_measurements(path) == [
        Measurement(COLUMNS, ("knn", 1024, 32), FAST),
        Measurement(COLUMNS, ("combine, wide", 1024, 8), SLOW),
    ]
    assert read_measurements(path, COLUMNS)[1].key == COMBINE


def test_what_is_there_is_known_and_the_rest_is_added(path: Path) -> None:
    other = KNN | {"points": 256}
    with MeasurementStore(path, COLUMNS) as store:
        assert len(store) == 2
        assert KNN in store
        assert dict(reversed(KNN.items())) in store
        assert other not in store
        store.append(other, FAST)
        assert other in store
        # On its way to the disk before the file is closed.
        assert read_measurements(path)[-1].key == other
    assert [row.values for row in read_measurements(path)] == [
        ("knn", 1024, 32),
        ("combine, wide", 1024, 8),
        ("knn", 256, 32),
    ]


@pytest.mark.parametrize("kept", range(1, len("knn,256,8,11,0.25,0.125,0.5,false")))
def test_a_torn_last_line_is_cut_off(path: Path, kept: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b"knn,256,8,11,0.25,0.125,0.5,false"[:kept])
    assert len(read_measurements(path)) == 2
    assert path.read_bytes() != whole
    with MeasurementStore(path, COLUMNS) as store:
        assert path.read_bytes() == whole
        store.append(KNN | {"points": 256}, FAST)
    assert len(read_measurements(path)) == 3


@pytest.mark.parametrize("kept", [0, 1, len(HEADER) - 1])
def test_a_torn_header_is_written_again(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "new.csv"
    path.write_text(HEADER[:kept])
    with MeasurementStore(path, COLUMNS) as store:
        assert len(store) == 0
    assert path.read_text() == HEADER


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("knn,256,32,11,0.25,0.125", "expected 8 cells (got 6)"),
        ("", "expected 8 cells (got 0)"),
        ("knn,256,32,eleven,0.25,0.125,0.5,false", "expected count, median_s"),
        ("knn,256,32,11,0.25,fast,0.5,false", "expected count, median_s"),
        ("knn,256,32,11,0.25,0.125,0.5,False", "expected count, median_s"),
        ("knn,256,32,0,0.25,0.125,0.5,false", "expected a count and seconds"),
        ("knn,256,32,11,0.75,0.125,0.5,false", "with the median between the quartiles"),
        ("knn,256,32,11,nan,nan,nan,false", "with the median between the quartiles"),
        ("knn,256,32,11,inf,0.1,inf,false", "with the median between the quartiles"),
        ("knn,256,32,11,0.25,-0.125,0.5,false", "with the median between the quartiles"),
        ("knn,1024,32,11,0.25,0.125,0.5,false", "measured twice, first on line 2"),
        ('"knn,256,32,11,0.25,0.125,0.5,false', "expected comma-separated values"),
        ("kn\udcff,256,32,11,0.25,0.125,0.5,false", "expected comma-separated values"),
    ],
)
def test_a_damaged_row_is_an_error_with_its_line(path: Path, line: str, message: str) -> None:
    content = path.read_bytes() + line.encode("utf-8", "surrogateescape") + b"\n"
    path.write_bytes(content)
    for read in (read_measurements, lambda path: MeasurementStore(path, COLUMNS)):
        with pytest.raises(ProfileError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}:4: ")
        assert message in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "text", ["operation,points\nknn,1\n", "count,median_s,lower_quartile_s,upper_quartile_s,noisy\n", "\n"]
)
def test_another_header_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ProfileError, match=r"other\.csv:1: expected measurements"):
        read_measurements(path)


def test_other_columns_are_an_error_that_names_both(path: Path) -> None:
    message = r"operations\.csv:1: expected the columns operation, width \(got operation, points, bits\)"
    with pytest.raises(ProfileError, match=message):
        MeasurementStore(path, ("operation", "width"))
    with pytest.raises(ProfileError, match=message):
        read_measurements(path, ("operation", "width"))


def test_a_file_without_a_line_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("to do: measure")
    for read in (read_measurements, lambda path: MeasurementStore(path, COLUMNS)):
        with pytest.raises(ProfileError, match=r"notes\.txt:1: expected a file of measurements"):
            read(path)
    assert path.read_text() == "to do: measure"


def test_a_second_writer_is_refused(path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        MeasurementStore(path, COLUMNS),
        pytest.raises(ProfileError, match="another process is measuring into this file"),
    ):
        MeasurementStore(path, COLUMNS)
    MeasurementStore(path, COLUMNS).__exit__(None, None, None)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (KNN, "expected a new measurement (got operation knn, points 1024, bits 32 again)"),
        ({"operation": "knn"}, "expected a key of operation, points, bits (got operation)"),
        (KNN | {"operation": "12"}, "expected text in the column operation, no number (got '12')"),
        (KNN | {"operation": "a\nb"}, "expected text in the column operation, no number"),
    ],
)
def test_a_key_that_cannot_be_kept_is_an_error(path: Path, key: dict[str, str | int], message: str) -> None:
    with MeasurementStore(path, COLUMNS) as store, pytest.raises(ProfileError) as caught:
        store.append(key, FAST)
    assert message in str(caught.value)
    assert len(read_measurements(path)) == 2


@pytest.mark.parametrize("columns", [(), ("bits", "bits"), ("bits", "noisy")])
def test_columns_that_cannot_be_told_apart_are_an_error(tmp_path: Path, columns: tuple[str, ...]) -> None:
    with pytest.raises(ProfileError, match="expected key columns that differ"):
        MeasurementStore(tmp_path / "a.csv", columns)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="expected a file of measurements that can be written"):
        MeasurementStore(tmp_path, COLUMNS)
    with pytest.raises(ProfileError, match=r"absent\.csv: cannot read the measurements"):
        read_measurements(tmp_path / "absent.csv")


texts = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8).filter(
    lambda text: not text.isdigit()
)
seconds = st.floats(0.0, 1e6)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.tuples(texts, st.integers()), st.tuples(seconds, seconds, seconds), max_size=5))
def test_every_key_and_every_second_comes_back_exactly(
    entries: dict[tuple[str, int], tuple[float, float, float]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        with MeasurementStore(path, ("text", "number")) as store:
            for (text, number), quartiles in entries.items():
                if text.removeprefix("-").isdecimal():
                    continue  # Such a text would come back as a number.
                lower, median, upper = sorted(quartiles)
                store.append({"number": number, "text": text}, Timing(5, median, lower, upper))
            rows = store.rows
        assert tuple(read_measurements(path)) == rows
        with MeasurementStore(path, ("text", "number")) as again:
            assert again.rows == rows
