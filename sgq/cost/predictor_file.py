"""A learned predictor in a file: safetensors, with its shape and what it was trained on in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sgq.cost.architecture_graph import COLUMNS, NOTHING_RUNS
from sgq.cost.predictor import Predictor, PredictorShape
from sgq.cost.workload import Workload
from sgq.errors import ProfileError

if TYPE_CHECKING:
    from sgq.cost.architectures import MeasuredArchitecture
    from sgq.models.genotype import Genotype

FORMAT = "sgq predictor 2"

Part = TypeVar("Part")


@dataclass(frozen=True)
class TrainedOn:
    """What a predictor was trained on: how many architectures, of how many nodes, on how many threads.

    `latency_mape` and `peak_mape` (0 to 1) are those of its validation part. `operations` are those that any
    of the architectures had, `common` those that all of them had.
    """

    architectures: int
    nodes: int
    features: int
    classes: int
    threads: int
    latency_mape: float
    peak_mape: float
    operations: frozenset[str]
    common: frozenset[str]

    @classmethod
    def of(
        cls,
        architectures: Sequence[MeasuredArchitecture],
        *,
        threads: int,
        validation_mape: tuple[float, float],
    ) -> TrainedOn:
        """Return what was trained on architectures, all measured on one workload, of single clouds."""
        [workload] = {one.workload for one in architectures}
        verbs = [{operation.verb for operation in one.genotype.positions} for one in architectures]
        return cls(
            len(architectures),
            workload.nodes,
            workload.features,
            workload.classes,
            threads,
            *validation_mape,
            operations=frozenset().union(*verbs),
            common=frozenset.intersection(*map(frozenset, verbs)),
        )

    def covers(self, genotype: Genotype, workload: Workload) -> bool:
        """Whether a predictor that was trained so knows a genotype's operations, on clouds of that size.

        It has none that the predictor never saw, and none is missing that it always saw. Going on at the
        other side is nothing that runs.
        """
        if workload != Workload(self.nodes, 0, self.features, 1, self.classes):
            return False
        verbs = {operation.verb for operation in genotype.positions}
        return self.common <= verbs <= self.operations | NOTHING_RUNS


def save_predictor(path: str | Path, predictor: Predictor, trained_on: TrainedOn) -> None:
    """Write a predictor, atomically."""
    from safetensors.torch import save

    from sgq.report.files import write_atomically

    header = {
        "format": FORMAT,
        "shape": json.dumps(asdict(predictor.shape)),
        "columns": json.dumps(COLUMNS),
        "trained_on": json.dumps(asdict(trained_on), default=sorted),
    }
    tensors = {name: tensor.contiguous() for name, tensor in predictor.state_dict().items()}
    write_atomically(Path(path), save(tensors, metadata=header))


def load_predictor(path: str | Path) -> tuple[Predictor, TrainedOn]:
    """Return a predictor and what it was trained on; raise ProfileError for a file that is none of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ProfileError(f"{path}: cannot read the predictor: {error}") from error
    if header.get("format") != FORMAT:
        raise ProfileError(
            f'{path}: expected a file of "{FORMAT}" (got {header.get("format")!r}): train it anew with sgq '
            "profile --predictor"
        )
    try:
        columns = _read(header, "columns", tuple[str, ...])
        shape = _read(header, "shape", PredictorShape)
        trained_on = _read(header, "trained_on", TrainedOn)
    except ValueError as error:
        raise ProfileError(f"{path}: the predictor's header is damaged: {error}") from error
    if columns != COLUMNS:
        raise ProfileError(
            f"{path}: the predictor reads other features of architectures than this version makes: "
            "train it anew with sgq profile --predictor"
        )
    try:
        predictor = Predictor(shape)
        predictor.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise ProfileError(f"{path}: the predictor is damaged: {str(error).splitlines()[0]}") from error
    return predictor.eval(), trained_on


def _read(header: Mapping[str, str], key: str, kind: type[Part]) -> Part:
    """Return what the header has as JSON under a key; raise ValueError for anything else."""
    from pydantic import TypeAdapter, ValidationError

    if key not in header:
        raise ValueError(f"it has no {key}")
    try:
        found = TypeAdapter(kind).validate_json(header[key])
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, (key, *fault['loc'])))}: {fault['msg']}") from None
    if is_dataclass(kind) and (unknown := set(json.loads(header[key])) - {one.name for one in fields(kind)}):
        raise ValueError(f'{key}: unknown key "{min(unknown)}"')
    return found
