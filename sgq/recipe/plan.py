"""The Plan: what every site of one model becomes, and how the model is calibrated and finetuned.

Everything after a recipe takes a Plan and never the recipe: wrapping, cost, report, checkpoint header,
the key of a search's memo. It is immutable, hashable, printable and can be rebuilt from its JSON alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from quantizers.spec import QuantizerSpec
from sgq.errors import PlanError
from sgq.graph.sites import FloatParameter, KeptBuffer, Site, Workload

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """How ranges are found before finetuning: over how many batches."""

    batches: int = 16


@dataclass(frozen=True)
class Finetuning:
    """How a quantized model is trained on. `epochs` 0 means post-training quantization only.

    Observers follow the data during the first `observe` share of the epochs and are frozen after it.
    `lr` and `weight_decay` None mean the model's own training defaults. `distill` is the weight (0 to 1) of
    the float model's predictions beside the labels in the loss; they cover every node, labelled or not.
    Validation accuracy is read every `evaluate_every` epochs, and after the last.
    """

    epochs: int = 0
    lr: float | None = None
    weight_decay: float | None = None
    observe: float = 0.5
    distill: float = 0.0
    evaluate_every: int = 1
    select_on: Literal["val", "last"] = "val"


@dataclass(frozen=True)
class Limits:
    """What a result must hold: bytes at most, and a drop of validation accuracy (0 to 1) at most."""

    packed_bytes: int | None = None
    accuracy_drop: float | None = None


@dataclass(frozen=True)
class PlanEntry:
    """One site, its spec (None: stays in float) and the recipe line that made it so."""

    site: Site
    spec: QuantizerSpec | None
    origin: str = ""


@dataclass(frozen=True)
class Plan:
    """An immutable ordered map from site to spec.

    `bucket_edges` are the in-degree boundaries: bucket k holds edges[k-1] <= in-degree < edges[k].
    """

    recipe: str
    entries: tuple[PlanEntry, ...]
    float_parameters: tuple[FloatParameter, ...]
    workload: Workload
    bucket_edges: tuple[int, ...] = ()
    calibration: Calibration = Calibration()
    finetuning: Finetuning = Finetuning()
    limits: Limits = Limits()
    notes: tuple[str, ...] = field(default=())
    buffers: tuple[KeptBuffer, ...] = ()

    def __iter__(self) -> Iterator[PlanEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> PlanEntry:
        for entry in self.entries:
            if any(str(alias) == name for alias in entry.site.names):
                return entry
        raise KeyError(name)

    @property
    def quantized(self) -> tuple[PlanEntry, ...]:
        """The entries that are really quantized: a spec, and fewer than 32 bits somewhere."""
        return tuple(entry for entry in self.entries if entry.spec is not None and not entry.spec.is_float)

    @property
    def buckets(self) -> int:
        """How many degree buckets there are; 0 without."""
        return len(self.bucket_edges) + 1 if self.bucket_edges else 0

    @cached_property
    def digest(self) -> str:
        """A stable hash (hex) over everything that decides the result: the key of memos and checkpoints.

        Where a rule stands in its file, and what the plan remarks on, decide nothing.
        """
        data = self.to_json()
        del data["notes"]
        for entry in data["entries"]:
            del entry["origin"]
            del entry["site"]["notes"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_specs(self, specs: Mapping[str, QuantizerSpec | None]) -> Plan:
        """Return a plan in which the named sites have other specs; unknown names are an error."""
        left = dict(specs)
        entries = []
        for entry in self.entries:
            name = next((str(alias) for alias in entry.site.names if str(alias) in left), None)
            entries.append(
                entry if name is None else replace(entry, spec=left.pop(name), origin="with_specs")
            )
        if left:
            raise PlanError(f"the plan has no site {', '.join(sorted(left))}")
        return replace(self, entries=tuple(entries))

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` is its exact inverse. A model without buffers has no such key."""
        data = {
            "format": FORMAT_VERSION,
            "recipe": self.recipe,
            "entries": [
                {
                    "site": entry.site.to_json(),
                    "spec": None if entry.spec is None else entry.spec.to_json(),
                    "origin": entry.origin,
                }
                for entry in self.entries
            ],
            "float_parameters": [asdict(parameter) for parameter in self.float_parameters],
            "workload": self.workload.to_json(),
            "bucket_edges": list(self.bucket_edges),
            "calibration": asdict(self.calibration),
            "finetuning": asdict(self.finetuning),
            "limits": asdict(self.limits),
            "notes": list(self.notes),
        }
        if self.buffers:
            data["buffers"] = [asdict(buffer) for buffer in self.buffers]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Rebuild a plan from what `to_json` gave; raise PlanError on anything else."""
        if data.get("format") != FORMAT_VERSION:
            raise PlanError(f"expected a plan of format {FORMAT_VERSION} (got {data.get('format')!r})")
        workload = dict(data["workload"])
        for key in ("bucket_nodes", "bucket_messages", "bucket_nonzeros"):
            workload[key] = tuple(workload[key])
        return cls(
            recipe=data["recipe"],
            entries=tuple(
                PlanEntry(
                    site=Site.from_json(entry["site"]),
                    spec=None if entry["spec"] is None else QuantizerSpec.from_json(entry["spec"]),
                    origin=entry["origin"],
                )
                for entry in data["entries"]
            ),
            float_parameters=tuple(FloatParameter(**parameter) for parameter in data["float_parameters"]),
            workload=Workload(**workload),
            bucket_edges=tuple(data["bucket_edges"]),
            calibration=Calibration(**data["calibration"]),
            finetuning=Finetuning(**data["finetuning"]),
            limits=Limits(**data["limits"]),
            notes=tuple(data["notes"]),
            buffers=tuple(KeptBuffer(**buffer) for buffer in data.get("buffers", ())),
        )

    def __str__(self) -> str:
        width = max((len(str(entry.site.name)) for entry in self.entries), default=4)
        lines = [f"Plan of {self.recipe}: {len(self.quantized)} of {len(self.entries)} sites quantized"]
        for entry in self.entries:
            spec = "float" if entry.spec is None else str(entry.spec)
            lines.append(f"  {entry.site.name!s:<{width}}  {spec:<20}  {entry.origin}")
        return "\n".join(lines)
