"""Site tables of the zoo's models on a graph of 6 nodes and 10 edges, written by hand."""

from __future__ import annotations

import pytest

from sgq.graph.sites import Component, FloatParameter, Place, Rows, Site, SiteName, SiteTable, Workload

NODES, EDGES = 6, 10


def name(text: str) -> SiteName:
    """Return the name that `convs.0:message.alpha_src` stands for."""
    module, _, rest = text.partition(":")
    component, _, tensor = rest.partition(".")
    components: dict[str, Component] = {
        "weight": "weight",
        "input": "input",
        "message": "message",
        "attention": "attention",
        "aggregate": "aggregate",
        "output": "output",
    }
    return SiteName(module, components[component], tensor)


def site(text: str, *aliases: str, rows: Rows = "node", notes: tuple[str, ...] = ()) -> Site:
    """Return a site with 4 columns and as many rows as its kind has."""
    count = {"node": NODES, "edge": EDGES, "parameter": 8}[rows]
    own = name(text)
    return Site(
        name=own,
        place=Place(own.module, f"slot_{own.component}"),
        rows=rows,
        shape=(count, 4),
        aliases=tuple(name(alias) for alias in aliases),
        notes=notes,
    )


def table(*sites: Site, unreached: tuple[str, ...] = ()) -> SiteTable:
    """Return a site table on 6 nodes and 10 edges."""
    return SiteTable(sites, (FloatParameter("convs.0.bias", 4),), unreached, Workload(NODES, EDGES))


@pytest.fixture
def gcn_table() -> SiteTable:
    return table(
        site("convs.0:input", "convs.0.lin:input"),
        site("convs.0.lin:weight", rows="parameter"),
        site("convs.0:message", "convs.0.lin:output"),
        site("convs.0:aggregate"),
        site("convs.0:output"),
        site("convs.1:input", "convs.1.lin:input", notes=('quantized at "drop", before its dropout',)),
        site("convs.1.lin:weight", rows="parameter"),
        site("convs.1:message", "convs.1.lin:output"),
        site("convs.1:aggregate"),
        site("convs.1:output"),
        unreached=("head",),
    )


@pytest.fixture
def gat_table() -> SiteTable:
    sites = []
    for layer in ("convs.0", "convs.1"):
        sites += [
            site(f"{layer}:input", f"{layer}.lin:input"),
            site(f"{layer}.lin:weight", rows="parameter"),
            site(f"{layer}:weight.att_src", rows="parameter"),
            site(f"{layer}:weight.att_dst", rows="parameter"),
            site(f"{layer}:message.alpha_src"),
            site(f"{layer}:message.alpha_dst"),
            site(f"{layer}:attention", f"{layer}:message.alpha", rows="edge"),
            site(f"{layer}:message", f"{layer}.lin:output"),
            site(f"{layer}:aggregate"),
            site(f"{layer}:output"),
        ]
    return table(*sites)


@pytest.fixture
def agnn_table() -> SiteTable:
    return table(
        site("lin1:input"),
        site("lin1:weight", rows="parameter"),
        site("convs.0:input", "convs.0:message"),
        site("convs.0:message.direction"),
        site("convs.0:attention", rows="edge"),
        site("convs.1:input", "convs.0:output", "convs.1:message"),
        site("convs.1:message.direction"),
        site("convs.1:attention", rows="edge"),
        site("lin2:input", "convs.1:output"),
        site("lin2:weight", rows="parameter"),
        site("lin2:output"),
    )
