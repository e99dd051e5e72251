"""The data sets known by name: which PyG class reads each, where its raw files lie, how it is split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sgq.errors import DataError, nearest_name

Task = Literal["node", "graph"]
SplitRule = Literal["public", "columns", "per_class", "stratified"]
"""`public`: one given split; `columns`: ten given splits, the seed picks one; `per_class`: 20/30 nodes a
class for train/validation and the rest for test; `stratified`: 80/10/10 of the graphs, by class."""

RowNorm = Literal["sum", "length"]
"""What a feature row is divided by: its sum, or its Euclidean length."""


@dataclass(frozen=True)
class DatasetRecord:
    """One data set: the class that reads it and what we make of it.

    `reader` names a class in `torch_geometric.datasets` (or `ogb`); `arguments` are its keyword arguments.
    `folder` is the data set's folder under the raw root and under the cache, `reader_root` the part of it
    that the class takes as `root`. `row_norm` divides each feature row by its sum or by its length
    (bag-of-words sets; a row of hundreds of words is too small to train on after the former).
    `constant_feature` gives every node one feature of value 1 where the data has none.
    """

    name: str
    reader: str
    reader_root: str
    folder: str
    task: Task = "node"
    split: SplitRule = "per_class"
    arguments: Mapping[str, str] = field(default_factory=dict)
    row_norm: RowNorm | None = None
    constant_feature: bool = False


def _planetoid(name: str) -> DatasetRecord:
    return DatasetRecord(
        name=name.lower(),
        reader="Planetoid",
        reader_root="Planetoid",
        folder=f"Planetoid/{name}",
        split="public",
        arguments={"name": name},
        row_norm="sum",
    )


def _shchur(name: str, reader: str) -> DatasetRecord:
    return DatasetRecord(
        name=name.lower(),
        reader=reader,
        reader_root=reader,
        folder=f"{reader}/{name}",
        arguments={"name": name},
        row_norm="length",
    )


def tu_record(name: str) -> DatasetRecord:
    """Return the record of a TU data set; `name` is spelt as in the collection, e.g. `REDDIT-BINARY`."""
    return DatasetRecord(
        name=name.lower(),
        reader="TUDataset",
        reader_root="TUDataset",
        folder=f"TUDataset/{name}",
        task="graph",
        split="stratified",
        arguments={"name": name},
        constant_feature=True,
    )


TU_PREFIX = "tu/"
TU_NAMES = (
    *("AIDS", "BZR", "COIL-DEL", "COIL-RAG", "COLLAB", "COX2", "Cuneiform", "DD", "DHFR", "ENZYMES"),
    *("FIRSTMM_DB", "FRANKENSTEIN", "Fingerprint", "IMDB-BINARY", "IMDB-MULTI", "KKI", "Letter-high"),
    *("Letter-low", "Letter-med", "MSRC_21", "MSRC_9", "MUTAG", "Mutagenicity", "NCI1", "NCI109", "OHSU"),
    *("PROTEINS", "PROTEINS_full", "PTC_FM", "PTC_FR", "PTC_MM", "PTC_MR", "Peking_1", "REDDIT-BINARY"),
    *("REDDIT-MULTI-12K", "REDDIT-MULTI-5K", "Synthie", "deezer_ego_nets"),
    *("github_stargazers", "reddit_threads", "twitch_egos"),
)
"""The TU sets that are known without a prefix; any other one is named `tu/NAME`, and so is SYNTHETIC."""

SYNTHETIC_NAMES = ("synthetic", "synthetic-graphs")
"""The embedded sets, which need no file and no network."""


def one_spelling(name: str) -> str:
    """Return the spelling that all ways to write a data set's name share."""
    return name.strip().lower().replace("_", "-")


RECORDS: Mapping[str, DatasetRecord] = {
    one_spelling(record.name): record
    for record in (
        *(_planetoid(name) for name in ("Cora", "CiteSeer", "PubMed")),
        *(_shchur(name, "Amazon") for name in ("Computers", "Photo")),
        *(_shchur(name, "Coauthor") for name in ("CS", "Physics")),
        DatasetRecord("actor", "Actor", "Actor", "Actor", split="columns", row_norm="sum"),
        DatasetRecord(
            name="tolokers",
            reader="HeterophilousGraphDataset",
            reader_root="HeterophilousGraphDataset",
            folder="HeterophilousGraphDataset/tolokers",
            split="columns",
            arguments={"name": "Tolokers"},
        ),
        DatasetRecord("reddit", "Reddit", "Reddit", "Reddit", split="public"),
        DatasetRecord(
            name="ogbn-arxiv",
            reader="ogb:PygNodePropPredDataset",
            reader_root="ogb",
            folder="ogb/ogbn_arxiv",
            split="public",
            arguments={"name": "ogbn-arxiv"},
        ),
        *(tu_record(name) for name in TU_NAMES),
    )
}


def dataset_names() -> tuple[str, ...]:
    """Return every name that `load` knows, sorted; `tu/NAME` is accepted besides."""
    return tuple(sorted((*(record.name for record in RECORDS.values()), *SYNTHETIC_NAMES)))


def find_record(name: str) -> DatasetRecord:
    """Return the record of the data set called `name`, in any case; raise DataError where there is none."""
    if name.lower().startswith(TU_PREFIX) and len(name) > len(TU_PREFIX):
        return tu_record(name[len(TU_PREFIX) :])
    record = RECORDS.get(one_spelling(name))
    if record is None:
        known = dataset_names()
        raise DataError(
            f'unknown data set "{name}".{nearest_name(one_spelling(name), known)} Known: '
            f"{', '.join(known)}, tu/NAME for any TU set, or package.module:factory for your own"
        )
    return record
