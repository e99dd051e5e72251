"""Names, factory paths and objects become a GraphDataset."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from sgq.data import GraphDataset, resolve_data
from sgq.errors import DataError, UsageError

RING = torch.stack([torch.arange(12), (torch.arange(12) + 1) % 12])


def ring(**fields: torch.Tensor) -> Data:
    return Data(**({"x": torch.ones(12, 3), "edge_index": RING, "y": torch.arange(12) % 2} | fields))


def masks(dtype: torch.dtype = torch.bool, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every third node is for training, the one after it for validation, the third for test."""
    names = ("train_mask", "val_mask", "test_mask")
    return {name: (torch.arange(12) % 3 == place).to(dtype) for place, name in enumerate(names)} | given


def graphs() -> list[Data]:
    return [ring(y=torch.tensor([label % 2])) for label in range(20)]


def test_a_name_loads_and_a_dataset_passes_through() -> None:
    dataset = resolve_data("synthetic", adjacency="csr")
    assert dataset.name == "synthetic"
    assert resolve_data(dataset) is dataset


def test_data_without_masks_gets_a_seeded_split_and_stays_as_it_was() -> None:
    data = ring()
    dataset = resolve_data(data, seed=5)
    assert (dataset.task, dataset.num_features, dataset.num_classes) == ("node", 3, 2)
    assert dataset.split.startswith("seed 5, 20/30")
    assert int(dataset.train_mask.sum()) == 4
    assert "train_mask" not in data


def test_data_with_masks_keeps_them() -> None:
    dataset = resolve_data(ring(**masks()))
    assert dataset.split == "given 4/4/4"
    assert torch.equal(dataset.val_mask, masks()["val_mask"])


def test_a_list_is_a_graph_task_and_its_loader_is_kept() -> None:
    assert resolve_data(graphs()).task == "graph"
    loader = DataLoader(graphs(), batch_size=4)
    dataset = resolve_data(loader)
    assert dataset.loader is loader
    assert (dataset.task, len(dataset.graphs), dataset.test.numel()) == ("graph", 20, 2)


def test_a_node_loader_is_a_node_task() -> None:
    class NodeLoader:
        data = ring()

    loader = NodeLoader()
    dataset = resolve_data(loader)
    assert (dataset.task, dataset.loader) == ("node", loader)


def test_a_sampler_over_sparse_features_is_told_to_load_them_dense() -> None:
    class NodeLoader:
        data = ring(x=torch.ones(12, 3).to_sparse_csr())

    with pytest.raises(DataError, match='load it with features="dense"'):
        resolve_data(NodeLoader())


def test_a_factory_path_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import torch\nfrom torch_geometric.data import Data\ndef make():\n"
        "    edges, labels = torch.tensor([[0], [1]]), torch.tensor([0, 1, 0])\n"
        "    return Data(x=torch.ones(3, 1), edge_index=edges, y=labels)\n"
    )
    (tmp_path / "own_data_in_a_file.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    dataset = resolve_data("own_data_in_a_file:make")
    assert (dataset.name, dataset.num_nodes) == ("own_data_in_a_file:make", 3)


def test_a_factory_may_return_a_dataset_or_be_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_data_for_tests")
    given = GraphDataset("mine", "node", 3, 2, "none", data=ring())
    module.factory, module.data = lambda: given, ring()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_data_for_tests", module)
    assert resolve_data("own_data_for_tests:factory") is given
    assert resolve_data("own_data_for_tests:data").num_nodes == 12


def test_a_bad_import_path_gives_a_hint() -> None:
    with pytest.raises(UsageError, match="install it"):
        resolve_data("no_such_package_here:make")
    with pytest.raises(UsageError, match='Did you mean "loads"'):
        resolve_data("json:lods")


def test_a_module_or_a_factory_that_fails_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_module_that_fails.py").write_text("1 / 0")
    (tmp_path / "own_factory_that_fails.py").write_text("def make():\n    1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="importing own_module_that_fails failed: ZeroDivisionError"):
        resolve_data("own_module_that_fails:make")
    with pytest.raises(DataError, match="own_factory_that_fails:make failed: ZeroDivisionError"):
        resolve_data("own_factory_that_fails:make")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "got int"),
        ([], "at least one graph"),
        (ring(y=torch.rand(12)), "integer class labels"),
        (ring(x=torch.full((12, 3), torch.nan)), "NaN"),
        (ring(train_mask=torch.ones(12, dtype=torch.bool)), "got train_mask"),
        (ring(**masks(dtype=torch.long)), "train_mask of type bool"),
        (ring(**masks(test_mask=torch.zeros(12, dtype=torch.bool))), "at least one node in test_mask"),
        (ring(**masks(), y=torch.arange(12) - 1), r"labels of at least 0 in train_mask .*got -1"),
        ([*graphs(), ring(x=torch.ones(12, 4), y=torch.tensor([0]))], "one number of features"),
    ],
)
def test_data_that_no_task_can_be_made_of_is_refused(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        resolve_data(given)


def test_masks_of_a_graph_task_are_an_error() -> None:
    with pytest.raises(DataError, match="expected a node task"):
        _ = resolve_data(graphs()).train_mask
