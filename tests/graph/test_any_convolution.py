"""Every convolution of PyG, without code for any of them: int8 at every site, and nothing without effect."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantizers import QuantizerSpec
from sgq.graph.probe import find_sites
from sgq.graph.sites import Site, SiteTable, Workload
from sgq.graph.wrap import Assignment, quantizer_at, quantizers_of, wrap_sites
from tests.graph.convolution_cases import CASES, ConvolutionCase
from tests.graph.convolution_graph import NODES

CSR_CASES = [case for case in CASES if case.csr and case.edges]

WEIGHT = QuantizerSpec(8, granularity="channel", symmetric=True, signed=True)
TENSOR = QuantizerSpec(8)

IDLE_SITES: Mapping[str, frozenset[str]] = {
    # The weights of in-degree 0 multiply sums over no neighbours, which are all 0.
    "MFConv": frozenset({"lins_l.0:input", "lins_l.0:weight"}),
}
"""Sites that cannot change the output, by case, each for a reason of the convolution's own."""

INEXACT: Mapping[str, float] = {
    # Attention by edge type and attributes through 14 sites, softmax of large logits.
    "RGATConv-attributed": 0.04,
    # Propagates to hyperedges and back: one range for two kinds of rows, of which one is 5 times wider.
    "HypergraphConv": 0.08,
}
"""Relative L2 bounds above 3 %, by case, each for a reason of the convolution's own."""


def _call(case: ConvolutionCase, csr: bool) -> Callable[[nn.Module], Any]:
    args, kwargs = case.csr_arguments() if csr else case.arguments()
    return lambda module: module(*copy.copy(args), **copy.copy(kwargs))


def _workload(case: ConvolutionCase, csr: bool) -> Workload:
    return Workload(nodes=NODES, edges=300)


def _flat(output: Any) -> Tensor:
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, Tensor):
        return output.flatten()
    return torch.cat([_flat(part) for part in output if part is not None])


def _spec(site: Site) -> QuantizerSpec:
    return WEIGHT if site.rows == "parameter" else TENSOR


def _quantized(module: nn.Module, table: SiteTable, run: Callable[[nn.Module], Any]) -> nn.Module:
    wrapped = wrap_sites(module, [Assignment(site, _spec(site)) for site in table.sites])
    with torch.no_grad():
        run(wrapped)
    for quantizer in quantizers_of(wrapped).values():
        quantizer.freeze()
    return wrapped


class _WithoutSite:
    """Take one site's quantizer out for the length of a block."""

    def __init__(self, model: nn.Module, site: Site) -> None:
        self.slots = model.get_submodule(site.place.module).site_quantizers
        self.slot = site.place.slot

    def __enter__(self) -> None:
        self.quantizer = self.slots[self.slot]
        del self.slots[self.slot]

    def __exit__(self, *_: object) -> None:
        self.slots[self.slot] = self.quantizer


def _alone(module: nn.Module, site: Site, run: Callable[[nn.Module], Any]) -> Tensor:
    wrapped = wrap_sites(module, [Assignment(site, _spec(site))])
    with torch.no_grad():
        run(wrapped)
        quantizer_at(wrapped, site).freeze()
        return _flat(run(wrapped))


@pytest.mark.parametrize(
    ("case", "csr"),
    [pytest.param(case, False, id=case.name) for case in CASES]
    + [pytest.param(case, True, id=f"{case.name}-csr") for case in CSR_CASES],
)
def test_every_site_of_a_convolution_fires_matters_and_stays_close(case: ConvolutionCase, csr: bool) -> None:
    module, run = case.build(), _call(case, csr)
    with torch.no_grad():
        expected = _flat(run(module))
    table = find_sites(module, run, _workload(case, csr))
    assert any(site.name.component in ("message", "input") for site in table.sites)

    wrapped = _quantized(module, table, run)
    assert all(quantizer.has_range for quantizer in quantizers_of(wrapped).values())
    with torch.no_grad():
        output = _flat(run(wrapped))
    bound = INEXACT.get(case.name, 0.03)
    assert torch.linalg.norm(output - expected) <= bound * torch.linalg.norm(expected)

    idle = IDLE_SITES.get(case.name, frozenset())
    for site in table.sites:
        with _WithoutSite(wrapped, site), torch.no_grad():
            changed = not torch.equal(_flat(run(wrapped)), output)
        # A quantizer further on may round the difference away: then the site must matter by itself.
        changed = changed or not torch.equal(_alone(module, site, run), expected)
        assert changed == (str(site.name) not in idle), f"{site.name} (placed at {site.place})"
    with torch.no_grad():
        assert torch.equal(_flat(run(wrapped)), output)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_32_bits_is_the_bit_exact_identity(case: ConvolutionCase) -> None:
    module, run = case.build(), _call(case, csr=False)
    with torch.no_grad():
        expected = _flat(run(module))
        table = find_sites(module, run, _workload(case, False))
        wrapped = wrap_sites(module, [Assignment(site, QuantizerSpec(32)) for site in table.sites])
        assert quantizer_at(wrapped, table.sites[0]).spec.bits == 32
        assert torch.equal(_flat(run(wrapped)), expected)
