"""Data sets by name: names, the cache, layouts, errors, and the published counts of the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch_geometric import datasets
from torch_geometric.data import Data

from sgq.data import dataset_names, load
from sgq.data.cache import cache_root
from sgq.data.registry import find_record
from sgq.errors import DataError, UsageError

REAL_DATA = os.environ.get("SGQ_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="SGQ_DATA is not set")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("SGQ_CACHE", str(cache))
    return cache


def write_tiny_tu(root: Path, name: str = "MUTAG") -> Path:
    """Write ten graphs of two nodes and one edge, without node labels."""
    raw = root / "TUDataset" / name / "raw"
    raw.mkdir(parents=True)
    pairs = [(2 * graph + 1, 2 * graph + 2) for graph in range(10)]
    lines = [f"{a}, {b}\n{b}, {a}\n" for a, b in pairs]
    (raw / f"{name}_A.txt").write_text("".join(lines))
    (raw / f"{name}_graph_indicator.txt").write_text("".join(f"{g + 1}\n{g + 1}\n" for g in range(10)))
    (raw / f"{name}_graph_labels.txt").write_text("".join(f"{g % 2}\n" for g in range(10)))
    return raw


def test_importing_the_package_does_not_import_pyg() -> None:
    code = (
        "import sys, sgq.data, sgq.models; print([m for m in ('torch_geometric', 'ogb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_offers_the_nearest_one() -> None:
    with pytest.raises(DataError, match='Did you mean "citeseer"'):
        load("citeser")


@pytest.mark.parametrize(
    "name", ["CORA", "Reddit_Binary", "tolokers", "tu/NCI109", "Tu/whatever", "ogbn-arxiv"]
)
def test_names_are_found_in_any_case(name: str) -> None:
    assert find_record(name).reader


def test_every_known_name_is_listed_once() -> None:
    assert len(set(dataset_names())) == len(dataset_names())
    with pytest.raises(DataError, match=r"Known: .*\bsynthetic, synthetic-graphs, synthie\b"):
        load("tu/")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UsageError, match="adjacency"):
        load("synthetic", adjacency="coo")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="features"):
        load("synthetic", features="sparse")  # type: ignore[arg-type]


def test_raw_files_are_processed_in_the_cache_and_never_beside_the_raw_ones(
    tmp_path: Path, empty_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = write_tiny_tu(tmp_path / "raw-root")
    dataset = load("Mutag", root=tmp_path / "raw-root")
    assert (dataset.task, len(dataset.graphs), dataset.num_classes) == ("graph", 10, 2)
    assert dataset.graphs[0].x.tolist() == [[1.0], [1.0]]
    assert [entry.name for entry in raw.parent.iterdir()] == ["raw"]
    assert sorted(entry.name for entry in empty_cache.iterdir()) == ["TUDataset"]
    assert capfd.readouterr().err == ""


def test_a_second_load_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_tu(tmp_path / "raw-root")
    load("mutag", root=tmp_path / "raw-root")

    def process(self: object) -> None:
        raise RuntimeError("processed again")

    monkeypatch.setattr(datasets.TUDataset, "process", process)
    assert len(load("mutag").graphs) == 10


def test_a_build_that_another_one_overtakes_still_gets_the_data(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_tu(tmp_path / "raw-root")
    process = datasets.TUDataset.process
    overtaking = []

    def slow_process(self: datasets.TUDataset) -> None:
        if not overtaking:
            overtaking.append(True)
            overtaking.append(load("mutag", root=tmp_path / "raw-root"))
        process(self)

    monkeypatch.setattr(datasets.TUDataset, "process", slow_process)
    assert len(load("mutag", root=tmp_path / "raw-root").graphs) == 10
    assert len(overtaking[1].graphs) == 10
    assert [entry.name for entry in empty_cache.iterdir()] == ["TUDataset"]
    assert len(load("mutag", root=tmp_path / "raw-root").graphs) == 10


def test_without_files_and_download_the_error_names_both_variables(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    def download(self: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets.TUDataset, "download", download)
    monkeypatch.delenv("SGQ_DATA", raising=False)
    with pytest.raises(DataError, match=r"(?s)enzymes.*no network.*SGQ_DATA.*SGQ_CACHE"):
        load("enzymes")
    assert list(empty_cache.glob(".building-*")) == []


def test_broken_raw_files_are_named(tmp_path: Path, empty_cache: Path) -> None:
    raw = write_tiny_tu(tmp_path / "raw-root")
    (raw / "MUTAG_A.txt").write_text("not, numbers\n")
    with pytest.raises(DataError, match="cannot process the raw files of mutag"):
        load("mutag", root=tmp_path / "raw-root")
    assert not (empty_cache / "TUDataset" / "MUTAG").exists()


def test_a_broken_cache_says_which_folder_to_remove(tmp_path: Path, empty_cache: Path) -> None:
    write_tiny_tu(tmp_path / "raw-root")
    load("mutag", root=tmp_path / "raw-root")
    (empty_cache / "TUDataset/MUTAG/processed/data.pt").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"remove .*TUDataset/MUTAG"):
        load("mutag", root=tmp_path / "raw-root")


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SGQ_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="SGQ_CACHE"):
        load("mutag")


def test_a_missing_ogb_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ogb", None)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    with pytest.raises(DataError, match=r"sgq\[ogb\]"):
        load("ogbn-arxiv")


class OgbLike:
    """Reads its split when asked for it, from a file beside raw/, as ogb's data sets do; it also talks."""

    def __init__(self, name: str, root: str) -> None:
        print("Processing")
        self.folder = Path(root, name.replace("-", "_"))
        labels = (self.folder / "raw" / "labels.txt").read_text().split()
        (self.folder / "processed").mkdir(exist_ok=True)
        self.y = torch.tensor([[int(label)] for label in labels])

    def __getitem__(self, index: int) -> Data:
        edges = torch.tensor([[0, 1], [1, 2]])
        return Data(x=torch.ones(len(self.y), 1), edge_index=edges, y=self.y)

    def get_idx_split(self) -> dict[str, torch.Tensor]:
        order = (self.folder / "split" / "order.txt").read_text().split()
        return {part: torch.tensor([int(node)]) for part, node in zip(PARTS, order, strict=True)}


PARTS = ("train", "valid", "test")


def test_a_split_beside_the_raw_files_of_a_read_only_root_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("ogb.nodeproppred")
    module.PygNodePropPredDataset = OgbLike  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ogb", ModuleType("ogb"))
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", module)
    folder = tmp_path / "raw-root" / "ogb" / "ogbn_arxiv"
    for name, text in (("raw/labels.txt", "0 1 0"), ("split/order.txt", "2 0 1"), ("processed/old.pt", "")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    for path in (folder, folder / "raw", folder / "split"):
        path.chmod(0o555)
    for _ in ("made", "read from the cache"):
        dataset = load("ogbn-arxiv", root=tmp_path / "raw-root")
        assert dataset.train_mask.tolist() == [False, False, True]
        assert dataset.split == "public 1/1/1"
    assert not (cache_root() / "ogb" / "ogbn_arxiv" / "processed" / "old.pt").exists()
    assert (cache_root() / "ogb" / "ogbn_arxiv").stat().st_mode & 0o200
    assert capsys.readouterr().out == ""


def test_the_cache_defaults_to_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SGQ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_root() == Path("/somewhere/sgq")


def test_csr_adjacency_replaces_edge_index_and_keeps_every_edge() -> None:
    plain, csr = load("synthetic"), load("synthetic", adjacency="csr")
    assert "edge_index" not in csr.data
    assert csr.num_edges == plain.num_edges
    source, target = plain.data.edge_index
    dense = csr.data.adj_t.to_dense()
    assert (dense[target, source] == 1).all()
    assert dense.sum() == plain.num_edges


def test_feature_layouts_hold_the_same_numbers() -> None:
    dense, csr = load("synthetic", features="dense"), load("synthetic", features="csr")
    torch.testing.assert_close(csr.data.x.to_dense(), dense.data.x)
    assert csr.feature_nonzeros == dense.feature_nonzeros
    assert f"{csr.feature_nonzeros} non-zeros" in repr(csr)


@needs_real_data
def test_cora_has_its_published_counts_and_split() -> None:
    cora = load("Cora")
    assert (cora.num_nodes, cora.num_edges, cora.num_features, cora.num_classes) == (2708, 10556, 1433, 7)
    assert cora.split == "public 140/500/1000"
    assert cora.data.x.layout == torch.sparse_csr
    torch.testing.assert_close(cora.data.x.to_dense().sum(dim=1), torch.ones(2708))


@needs_real_data
def test_computers_has_its_published_counts_and_a_seeded_split() -> None:
    computers = load("computers", seed=3)
    assert (computers.num_nodes, computers.num_edges) == (13752, 491722)
    assert (computers.num_features, computers.num_classes) == (767, 10)
    assert computers.split == "seed 3, 20/30 a class, rest test"
    assert [int(mask.sum()) for mask in (computers.train_mask, computers.val_mask)] == [200, 300]
    assert computers.data.x.layout == torch.strided


@needs_real_data
def test_actor_takes_the_split_column_of_the_seed() -> None:
    third, thirteenth = load("actor", seed=3), load("actor", seed=13)
    assert third.split == "public, column 3 of 10 (seed 3)"
    assert torch.equal(third.train_mask, thirteenth.train_mask)
    assert not torch.equal(third.train_mask, load("actor", seed=4).train_mask)


@needs_real_data
@pytest.mark.parametrize(
    ("name", "graphs", "features", "classes"),
    [("MUTAG", 188, 7, 2), ("ENZYMES", 600, 3, 6), ("PROTEINS", 1113, 3, 2)],
)
def test_tu_sets_have_their_published_counts(name: str, graphs: int, features: int, classes: int) -> None:
    dataset = load(name)
    assert (dataset.task, len(dataset.graphs)) == ("graph", graphs)
    assert (dataset.num_features, dataset.num_classes) == (features, classes)
    parts = torch.cat([dataset.train, dataset.val, dataset.test])
    assert parts.sort().values.tolist() == list(range(graphs))
