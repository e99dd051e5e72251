"""A learned predictor in a file: safetensors, with its shape and what it was trained on in the header."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sgq.cost.architecture_graph import COLUMNS
from sgq.cost.predictor import Predictor, PredictorShape
from sgq.errors import ProfileError

FORMAT = "sgq predictor 1"


@dataclass(frozen=True)
class TrainedOn:
    """What a predictor was trained on: how many architectures, of how many nodes, on how many threads.

    `latency_mape` and `peak_mape` (0 to 1) are those of its validation part.
    """

    architectures: int
    nodes: int
    threads: int
    latency_mape: float
    peak_mape: float


def save_predictor(path: str | Path, predictor: Predictor, trained_on: TrainedOn) -> None:
    """Write a predictor, atomically."""
    from safetensors.torch import save

    from sgq.report.files import write_atomically

    header = {
        "format": FORMAT,
        "shape": json.dumps(asdict(predictor.shape)),
        "columns": json.dumps(COLUMNS),
        "trained_on": json.dumps(asdict(trained_on)),
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
        raise ProfileError(f'{path}: expected a file of "{FORMAT}" (got {header.get("format")!r})')
    if tuple(json.loads(header["columns"])) != COLUMNS:
        raise ProfileError(
            f"{path}: the predictor reads other features of architectures than this version makes: "
            "train it anew with sgq profile --predictor"
        )
    predictor = Predictor(PredictorShape(**json.loads(header["shape"])))
    try:
        predictor.load_state_dict(tensors)
    except RuntimeError as error:
        raise ProfileError(f"{path}: the predictor is damaged: {str(error).splitlines()[0]}") from error
    return predictor.eval(), TrainedOn(**json.loads(header["trained_on"]))
