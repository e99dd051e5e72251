"""From a recipe and the sites of a model to a Plan: rules in order, a later rule wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from quantizers.errors import QuantizerError
from quantizers.spec import Granularity, ObserverSpec, QuantizerSpec
from sgq.graph.sites import Site, SiteTable
from sgq.recipe.matching import matches, why_nothing
from sgq.recipe.parsing import LoadedRecipe
from sgq.recipe.plan import Calibration, Finetuning, Limits, Plan, PlanEntry
from sgq.recipe.positions import Fault, raise_faults
from sgq.recipe.schema import Recipe, Rule, WidthTable


def resolve(recipe: LoadedRecipe, table: SiteTable, *, bucket_edges: tuple[int, ...] = ()) -> Plan:
    """Return the plan that a recipe makes of a model's sites.

    `bucket_edges` are the in-degree boundaries of the degree buckets; a recipe that states its edges
    needs none, one with quantiles gets those of the data from the caller. Sites without a rule stay in
    float. Raises RecipeError with a line `file:line:col: …` for every rule that matches nothing, asks
    for what its sites cannot do, or still holds choices.
    """
    document = recipe.recipe
    declared = document.degree_buckets
    edges = bucket_edges or (declared.edges if declared is not None and declared.edges is not None else ())
    made: dict[int, tuple[QuantizerSpec, int]] = {}
    faults: list[Fault] = []
    matched: dict[int, int] = {}
    for index, rule in enumerate(document.rules):
        sites = [(number, site) for number, site in enumerate(table.sites) if matches(rule.match, site)]
        problems = list(_rule_problems(rule, [site for _, site in sites], edges=edges, recipe=document))
        if not sites and not rule.optional:
            problems.append(f"matches nothing: {why_nothing(rule.match, table)}")
        matched[index] = len(sites)
        if not problems:
            try:
                made |= {number: (_spec(rule, site, len(edges) + 1), index) for number, site in sites}
            except QuantizerError as error:
                problems.append(f"cannot be done: {error}")
        position = recipe.positions.of_value(("rules", index))
        faults.extend(Fault(position, f"rule {index + 1} {problem}") for problem in problems)
    raise_faults(recipe.file, faults)
    entries = tuple(
        PlanEntry(site, made[number][0], _origin(recipe, made[number][1]))
        if number in made
        else PlanEntry(site, None)
        for number, site in enumerate(table.sites)
    )
    overruled = [
        f"rule {index + 1}: later rules take all sites that it matches"
        for index, count in matched.items()
        if count and index not in {winner for _, winner in made.values()}
    ]
    return Plan(
        recipe=document.name,
        entries=entries,
        float_parameters=table.float_parameters,
        buffers=table.buffers,
        workload=table.workload,
        bucket_edges=edges,
        calibration=Calibration(**document.calibrate.model_dump()),
        finetuning=Finetuning(**document.finetune.model_dump()),
        limits=Limits(**document.limits.model_dump()),
        notes=(*_notes(entries), *overruled, *_unused_buckets(document)),
    )


def _rule_problems(rule: Rule, sites: list[Site], *, edges: tuple[int, ...], recipe: Recipe) -> Iterator[str]:
    """Say what a rule asks for that cannot be, leading with what follows the words `rule 2`."""
    if rule.choice_keys:
        keys = " and ".join(rule.choice_keys)
        yield f"holds choices ({keys}): a search resolves them, or write one value in their place"
    if rule.bucketed and recipe.degree_buckets is not None and not edges:
        yield "needs the edges of the degree buckets: pass bucket_edges, the quantiles of this data"
    elif clash := next(rule.bucket_clashes(len(edges) + 1 if edges else 0), None):
        of_data = f"; the in-degrees of this data give the edges {list(edges)}" if edges else ""
        yield f"does not fit: {clash}{of_data}"
    for site in sites:
        if rule.bucketed and site.rows != "node":
            yield (
                f"has bits by degree bucket, but the rows of {site.name} are of kind {site.rows}; "
                f"add rows: node to its match"
            )
        elif rule.granularity == "node" and site.rows == "parameter":
            yield f'has granularity "node", but {site.name} is a parameter; use "channel" or "tensor"'


def _spec(rule: Rule, site: Site, buckets: int) -> QuantizerSpec:
    """Return what a rule without choices makes of a site; see `Rule` for what null means."""
    if isinstance(rule.bits, WidthTable):
        bits: int | tuple[int, ...] = tuple(
            width for width in rule.bits.by_bucket or () if isinstance(width, int)
        )
    else:
        bits = (rule.bits,) * buckets if rule.granularity == "bucket" else rule.bits
    granularity: Granularity = rule.granularity or ("bucket" if isinstance(bits, tuple) else "tensor")
    weight = site.name.component == "weight"
    symmetric = weight if rule.symmetric is None else rule.symmetric
    # Symmetric unsigned codes cut off all negative values: never what is meant where nothing is said.
    signed = (weight or symmetric) if rule.signed is None else rule.signed
    return QuantizerSpec(
        bits=bits,
        quantizer=cast(str, rule.quantizer),
        granularity=granularity,
        symmetric=symmetric,
        signed=signed,
        observer=_observer(rule),
    )


def _observer(rule: Rule) -> ObserverSpec:
    if rule.range is not None:
        return ObserverSpec("fixed", lower=rule.range[0], upper=rule.range[1])
    return ObserverSpec() if rule.observer is None else ObserverSpec(**rule.observer.model_dump())


def _origin(recipe: LoadedRecipe, index: int) -> str:
    return f"{recipe.positions.place(('rules', index))} rule {index + 1}"


def _notes(entries: tuple[PlanEntry, ...]) -> Iterator[str]:
    for entry in entries:
        if entry.spec is not None and not entry.spec.is_float:
            yield from (f"{entry.site.name}: {note}" for note in entry.site.notes)


def _unused_buckets(recipe: Recipe) -> Iterator[str]:
    if recipe.degree_buckets is not None and not any(rule.bucketed for rule in recipe.rules):
        yield "degree_buckets: no rule uses them"
