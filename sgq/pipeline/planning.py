"""From a recipe, a model and data to a Plan: probe the model's sites, resolve the recipe on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from sgq.graph.inputs import call
from sgq.graph.probe import find_sites
from sgq.graph.sites import SiteTable
from sgq.pipeline.tasks import NodeTask, Task, bucket_edges_of, workload_of
from sgq.recipe import LoadedRecipe, load_recipe, resolve
from sgq.recipe.plan import Plan


def sites_of(model: nn.Module, task: Task, *, bucket_edges: tuple[int, ...] = ()) -> SiteTable:
    """Return the sites of `model` on the task's graph or first batch."""
    sample = task.sample()
    workload = workload_of(sample, bucket_edges)
    if bucket_edges and not isinstance(task, NodeTask):
        workload = replace(workload, sampled=True)
    return find_sites(model, lambda probed: call(probed, sample), workload)


def plan_for(model: nn.Module, recipe: LoadedRecipe | str | Path, task: Task) -> Plan:
    """Return what `recipe` (loaded, a shipped name, or a file) makes of every site of `model`."""
    loaded = recipe if isinstance(recipe, LoadedRecipe) else load_recipe(recipe)
    edges = bucket_edges_for(loaded, task)
    return resolve(loaded, sites_of(model, task, bucket_edges=edges), bucket_edges=edges)


def bucket_edges_for(recipe: LoadedRecipe, task: Task) -> tuple[int, ...]:
    """Return the in-degree boundaries of a recipe's degree buckets on the data; none without buckets."""
    buckets = recipe.recipe.degree_buckets
    if buckets is None:
        return ()
    return bucket_edges_of(task, edges=tuple(buckets.edges or ()), quantiles=buckets.quantiles)
