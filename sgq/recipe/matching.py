"""Which sites a rule is for, and why it is for none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from quantizers.errors import nearest_name
from sgq.graph.sites import Site, SiteName, SiteTable
from sgq.recipe.schema import Match


def matches(match: Match, site: Site) -> bool:
    """Return whether all conditions hold for the site, under any one of its names."""
    if match.rows is not None and match.rows != site.rows:
        return False
    components = match.components
    return any(
        fnmatchcase(name.module, match.module) and name.component in components and _has_tensor(match, name)
        for name in site.names
    )


def why_nothing(match: Match, table: SiteTable) -> str:
    """Return what keeps a rule that matches no site of the table from matching one, and what would."""
    names = [(name, site) for site in table.sites for name in site.names]
    there = [(name, site) for name, site in names if fnmatchcase(name.module, match.module)]
    sites = f'Run "sgq sites" to list {len(table.sites)} sites.'
    module = f'module "{match.module}"'
    if not there:
        unreached = [name for name in table.unreached if fnmatchcase(name, match.module)]
        if unreached:
            return f"{module} exists ({_listed(unreached)}) but did not run on this data. {sites}"
        return f"{module}.{nearest_name(match.module, _module_globs(names))} {sites}"
    right = [(name, site) for name, site in there if name.component in match.components]
    if not right:
        has = _listed(name.component for name, _ in there)
        return f"{module} has no {' or '.join(match.component)}; it has {has}. {sites}"
    tensors = [(name, site) for name, site in right if _has_tensor(match, name)]
    if not tensors:
        known = [name.tensor for name, _ in right if name.tensor]
        hint = nearest_name(match.tensor or "", known)
        return (
            f'{module} has no tensor "{match.tensor}" there; it has {_listed(known) or "none"}.{hint} {sites}'
        )
    rows = _listed(site.rows for _, site in tensors)
    return f"{module} has no such site with rows {match.rows}; it has rows {rows}. {sites}"


def _has_tensor(match: Match, name: SiteName) -> bool:
    return match.tensor is None or fnmatchcase(name.tensor, match.tensor)


def _module_globs(names: Iterable[tuple[SiteName, Site]]) -> list[str]:
    modules = dict.fromkeys(name.module for name, _ in names)
    numbered = (re.sub(r"(^|\.)[0-9]+(?=\.|$)", r"\1*", module) for module in modules)
    below = (module.rpartition(".")[0] + ".*" for module in modules if "." in module)
    return list(dict.fromkeys((*modules, *numbered, *below)))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
