"""The space of a recipe with choices on one model: its axes, the plan of an assignment, and its bytes.

Bytes of thousands of assignments have to come in milliseconds. A site's bytes depend on the axes of the one
rule that decides it, so they are tabled once for all choices of those; an assignment's are a sum of look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
from torch import nn

from quantizers import packed_nbytes
from quantizers.spec import QuantizerSpec
from sgq.bits.space import Assignment, Space
from sgq.cost.memory import bucket_id_bits, memory_of, site_memory
from sgq.errors import SearchError
from sgq.graph.sites import SiteTable
from sgq.pipeline.planning import bucket_edges_for, sites_of
from sgq.pipeline.tasks import Task
from sgq.recipe import LoadedRecipe, Plan, PlanEntry, load_recipe, resolve
from sgq.recipe.choices import Choosable, choosable
from sgq.recipe.filling import filled
from sgq.recipe.matching import matches


@dataclass(frozen=True)
class PackedBytes:
    """The packed bytes of assignments, as `sgq.cost.memory.memory_of` models those of their plans.

    Each table holds a site's bytes by the codes of some axes, flattened with the last axis fastest.
    """

    space: Space
    constant_bytes: float
    bucket_id_bytes: float
    tables: tuple[SiteBytes, ...]

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return packed bytes [assignments] of codes [assignments, axes]."""
        total = np.full(len(codes), self.constant_bytes)
        bucketed = np.zeros(len(codes), dtype=bool)
        for table in self.tables:
            place = codes[:, table.axes] @ table.strides
            total += table.packed_bytes[place]
            bucketed |= table.bucketed[place]
        return total + self.bucket_id_bytes * bucketed

    def __call__(self, assignment: Assignment) -> float:
        """Return the packed bytes of one assignment."""
        return float(self.of_codes(np.array([self.space.codes(assignment)]))[0])


@dataclass(frozen=True)
class SiteBytes:
    """A site's bytes, and whether it needs bucket ids, by the codes of the axes that decide it."""

    axes: list[int]
    strides: np.ndarray
    packed_bytes: np.ndarray
    bucketed: np.ndarray


@dataclass(frozen=True)
class PlannedSpace:
    """A recipe with choices on a model and its data: `space`, `memory`, and the plan of every assignment."""

    recipe: LoadedRecipe
    sites: SiteTable
    bucket_edges: tuple[int, ...]
    space: Space
    memory: PackedBytes

    def plan_of(self, assignment: Assignment) -> Plan:
        """Return the plan of an assignment; the model is not looked at again."""
        return resolve(filled(self.recipe, assignment), self.sites, bucket_edges=self.bucket_edges)


def planned_space(model: nn.Module, recipe: LoadedRecipe | str | Path, task: Task) -> PlannedSpace:
    """Return the space that a recipe with choices spans on a model and its data.

    `recipe` is a shipped name (`spaces/gat-lwq-cwq-taq`), a file or a loaded recipe. Raises SearchError for a
    recipe without choices, and RecipeError where it does not fit the model.
    """
    loaded = recipe if isinstance(recipe, LoadedRecipe) else load_recipe(recipe)
    space = space_of(loaded)
    edges = bucket_edges_for(loaded, task)
    sites = sites_of(model, task, bucket_edges=edges)
    widest = resolve(widest_recipe(loaded), sites, bucket_edges=edges)
    packed_bytes = _packed_bytes(widest, loaded, space, choosable(loaded.recipe))
    return PlannedSpace(loaded, sites, edges, space, packed_bytes)


def space_of(loaded: LoadedRecipe) -> Space:
    """Return the axes of a recipe with choices; raise SearchError for one without."""
    items = choosable(loaded.recipe)
    if not items:
        raise SearchError(
            f"{loaded.file}: expected a space, a recipe with choices (got none); sgq apply takes it as it is"
        )
    return Space.of({item.name: item.choices for item in items})


def widest_recipe(loaded: LoadedRecipe) -> LoadedRecipe:
    """Return a space's recipe of the most bits everywhere; raise SearchError for a recipe without choices."""
    space = space_of(loaded)
    return filled(loaded, space.assignment(space.widest))


def _packed_bytes(
    widest: Plan, loaded: LoadedRecipe, space: Space, items: tuple[Choosable, ...]
) -> PackedBytes:
    tables = []
    for entry in widest.entries:
        rules = [index for index, rule in enumerate(loaded.recipe.rules) if matches(rule.match, entry.site)]
        widths = [item for item in items if rules and item.rule == rules[-1] and not item.of_quantizer]
        tables.append(_table(entry, widest, space, widths))
    ids = _bucket_id_bytes(widest)
    needs_ids = any(table.bucketed[-1] for table in tables)
    at_widest = sum(float(table.packed_bytes[-1]) for table in tables) + ids * needs_ids
    return PackedBytes(space, memory_of(widest).packed_bytes - at_widest, ids, tuple(tables))


def _table(entry: PlanEntry, plan: Plan, space: Space, widths: list[Choosable]) -> SiteBytes:
    """Return a site's bytes for all choices of its widths' axes; the last entry is that of the widest."""
    axes = [axis for axis, name in enumerate(space.names) if name in {width.name for width in widths}]
    counts = [space.counts[axis] for axis in axes]
    packed = np.zeros(prod(counts))
    bucketed = np.zeros(prod(counts), dtype=bool)
    for place, codes in enumerate(product(*map(range, counts))):
        chosen = {
            space.names[axis]: int(space.axes[axis].choices[code])
            for axis, code in zip(axes, codes, strict=True)
        }
        spec = entry.spec if entry.spec is None else _with_widths(entry.spec, widths, chosen)
        kept = spec is not None and not spec.is_float
        if kept or entry.site.stored:
            packed[place] = site_memory(replace(entry, spec=spec), plan).total_bytes
        bucketed[place] = spec is not None and kept and spec.bucketed
    strides = np.array([prod(counts[place + 1 :]) for place in range(len(counts))], dtype=np.int64)
    return SiteBytes(axes, strides, packed, bucketed)


def _with_widths(spec: QuantizerSpec, widths: list[Choosable], chosen: dict[str, int]) -> QuantizerSpec:
    """Return a spec with the chosen widths: of single buckets, or of all of the tensor."""
    bits = list(spec.widths)
    for width in widths:
        if width.bucket is None:
            bits = [chosen[width.name]] * len(bits)
        else:
            bits[width.bucket] = chosen[width.name]
    return replace(spec, bits=tuple(bits) if isinstance(spec.bits, tuple) else bits[0])


def _bucket_id_bytes(plan: Plan) -> int:
    return packed_nbytes(plan.workload.nodes, bucket_id_bits(plan)) if plan.buckets else 0
