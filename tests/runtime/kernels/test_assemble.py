from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import ObserverSpec, QuantizerSpec
from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import Term, assemble
from sgq.runtime.kernels.contract import Blocks, Implementation
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import Schedule, Workspace
from tests.runtime.graphs import (
    BUCKETS,
    assert_close,
    assert_same_codes,
    normal,
    packed_rows,
    rule_of,
    seeds,
    specs,
)
from tests.runtime.kernels.test_aggregate import activations, finish_of, finishes, torch_threads

IMPLEMENTATIONS: tuple[Implementation, ...] = ("torch", "numba")

row_counts = st.tuples(*[st.integers(0, 15)] * BUCKETS)
widths = st.sampled_from((1, 3, 5, 17, 64))


@st.composite
def assemblies(draw: st.DrawFn) -> tuple[tuple[int, ...], Blocks]:
    """Rows of each segment, and one to three blocks of one to three terms, packed or in fp32."""
    segments = draw(row_counts)
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        width = draw(widths)
        terms = []
        for _ in range(draw(st.integers(1, 3))):
            values = normal(draw(seeds), sum(segments), width)
            rows = values if draw(st.integers(0, 3)) == 0 else packed_rows(draw(specs()), values, segments)
            terms.append(Term(rows, draw(st.sampled_from((1.0, -1.0, 0.5, -2.25)))))
        blocks.append(tuple(terms))
    return segments, tuple(blocks)


def dense(term: Term) -> Tensor:
    rows = term.rows if isinstance(term.rows, Tensor) else term.rows.values()
    return term.factor * rows.double()


def sums_by_hand(blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Return the blocks side by side, float64, and the size of the terms that are summed, [1, width]."""
    sums = torch.cat([torch.stack([dense(term) for term in terms]).sum(0) for terms in blocks], dim=1)
    sizes = []
    for terms in blocks:
        largest = sum(float(dense(term).abs().max()) if term.count else 0.0 for term in terms)
        sizes.append(torch.full((1, terms[0].width), largest, dtype=torch.float64))
    return sums, torch.cat(sizes, dim=1)


@settings(max_examples=100, deadline=None)
@given(given_=assemblies(), seed=seeds, activation=activations, parts=finishes)
def test_every_implementation_is_a_sum_of_multiples_side_by_side(
    given_: tuple[tuple[int, ...], Blocks], seed: int, activation: str, parts: dict[str, bool]
) -> None:
    _, blocks = given_
    want, size = sums_by_hand(blocks)
    finish = finish_of(seed, want.size(1), activation, **parts)
    if finish.multiply is not None:
        want, size = want * finish.multiply, size * finish.multiply.abs()
    if finish.add is not None:
        want, size = want + finish.add, size + finish.add.abs()
    # e^x - 1 near 0 is rounded as a number near 1 is.
    size = size + 0.1 if activation == "elu" else size
    negative = want.clamp(max=0)
    below = {"none": negative, "relu": 0.0, "leaky_relu": 0.3 * negative, "elu": 0.3 * negative.expm1()}
    want = want.clamp(min=0) + below[activation]
    for implementation in IMPLEMENTATIONS:
        got = assemble(blocks, finish, implementation=implementation)
        assert isinstance(got, Tensor)
        assert_close(got, want, size)


# Derandomized: how many of few codes are off by one is a matter of luck, however close the sums.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(given_=assemblies(), result=specs(), seed=seeds, activation=activations, parts=finishes)
def test_codes_of_the_result_are_those_of_the_reference(
    given_: tuple[tuple[int, ...], Blocks],
    result: QuantizerSpec,
    seed: int,
    activation: str,
    parts: dict[str, bool],
) -> None:
    segments, blocks = given_
    width = sum(terms[0].width for terms in blocks)
    # Generic scales: sums of few-bit codes would otherwise often lie halfway between two levels.
    finish = finish_of(seed, width, activation, **parts | {"multiply": True})
    values = assemble(blocks, finish, implementation="torch")
    assert isinstance(values, Tensor)
    bucket = torch.arange(BUCKETS).repeat_interleave(torch.tensor(segments))
    finish = replace(
        finish, quantization=rule_of(result, values, bucket if result.bucketed else None), rows=segments
    )
    got, want = (assemble(blocks, finish, implementation=name) for name in ("numba", "torch"))
    assert isinstance(got, PackedTensor)
    assert isinstance(want, PackedTensor)
    assert_same_codes(got, want, result.widths)


def test_a_target_beside_its_difference_by_hand() -> None:
    x = packed_rows(QuantizerSpec(8), torch.tensor([[0.0, 2.0, 255.0], [1.0, 5.0, 0.0]]), (2,))
    largest = torch.tensor([[4.0, 4.0, 4.0], [1.0, 7.0, 0.5]])
    blocks = ((Term(x),), (Term(largest), Term(x, -1.0)))
    want = torch.tensor([[0.0, 2.0, 255.0, 4.0, 2.0, -251.0], [1.0, 5.0, 0.0, 0.0, 2.0, 0.5]])
    for implementation in IMPLEMENTATIONS:
        got = assemble(blocks, Finish(), implementation=implementation)
        assert isinstance(got, Tensor)
        assert torch.equal(got, want)
        halves = assemble(
            ((Term(largest, 0.5), Term(largest, 0.5)),), Finish(), implementation=implementation
        )
        assert isinstance(halves, Tensor)
        assert torch.equal(halves, largest)


def test_rows_need_not_lie_in_one_piece() -> None:
    x = normal(0, 6, 5)
    for implementation in IMPLEMENTATIONS:
        got = assemble(((Term(x.t()),), (Term(x.t()[:, ::2]),)), Finish(), implementation=implementation)
        assert isinstance(got, Tensor)
        assert torch.equal(got, torch.cat([x.t(), x.t()[:, ::2]], dim=1))


def large_case() -> Blocks:
    segments = (300, 200, 0, 400)
    rows = sum(segments)
    mixed = packed_rows(QuantizerSpec((8, 4, 32, 1), granularity="node"), normal(0, rows, 40), segments)
    four = packed_rows(QuantizerSpec(4, granularity="channel"), normal(1, rows, 40), (rows,))
    return (
        (Term(mixed),),
        (Term(four, -1.0), Term(mixed), Term(normal(2, rows, 40))),
        (Term(normal(3, rows, 3)),),
    )


@pytest.mark.parametrize("observer", [None, ObserverSpec("minmax"), ObserverSpec("mse")])
def test_threads_and_bound_runs_change_no_bit(observer: ObserverSpec | None) -> None:
    blocks, finish = large_case(), Finish(add=normal(4, 83), activation="relu")
    if observer is not None:
        values = assemble(blocks, finish)
        assert isinstance(values, Tensor)
        spec = QuantizerSpec(4, granularity="node", observer=observer)
        finish = replace(finish, quantization=rule_of(spec, values))

    def compute(workspace: Workspace) -> Tensor:
        turned = workspace.computed(lambda: blocks[2][0].rows.t().contiguous().t())  # type: ignore[union-attr]
        made = assemble((*blocks[:2], (Term(turned),)), finish, workspace=workspace)
        parts = [made] if isinstance(made, Tensor) else list(made.tensors())
        workspace.end_step(parts)
        if isinstance(made, PackedTensor):
            made = workspace.computed(made.values)
            workspace.end_step([made])
        return made

    want = compute(Workspace())
    for threads in (1, 2):
        with torch_threads(threads):
            assert torch.equal(compute(Workspace()), want)
            schedule, model = Schedule(), type("Model", (), {})()
            for _ in range(3):
                assert torch.equal(schedule.run(model, compute), want)


def test_no_rows() -> None:
    blocks = ((Term(torch.empty(0, 3)),), (Term(packed_rows(QuantizerSpec(4), torch.empty(0, 5), (0,))),))
    for implementation in IMPLEMENTATIONS:
        got = assemble(blocks, Finish(), implementation=implementation)
        assert isinstance(got, Tensor)
        assert got.shape == (0, 8)


def test_terms_that_do_not_fit_are_refused() -> None:
    x, y = Term(normal(0, 4, 3)), Term(packed_rows(QuantizerSpec(8), normal(0, 4, 5), (4,)))
    heads = Term(packed_rows(QuantizerSpec(8), normal(0, 4, 2, 8), (4,)))
    refused: list[tuple[Blocks, Finish, str]] = [
        ((), Finish(), "at least one term"),
        (((x,), ()), Finish(), "at least one term"),
        (((x, y),), Finish(), r"4 rows and 3 channels \(got 4 and 5\)"),
        (((x,), (Term(normal(0, 5, 3)),)), Finish(), r"4 rows and 3 channels \(got 5 and 3\)"),
        (((heads,),), Finish(), r"one head \(got 2\)"),
        (((y,), (Term(normal(0, 4, 3)),)), Finish(heads=2), r"one head \(got 2\)"),
        (((Term(normal(0, 4, 3).double()),),), Finish(), "rows of fp32"),
        (((Term(normal(0, 4, 3, 2)),),), Finish(), "rows of fp32"),
        (((x,), (y,)), Finish(add=torch.ones(3)), "finish of 8 channels"),
    ]
    for blocks, finish, message in refused:
        with pytest.raises(ModelError, match=message):
            assemble(blocks, finish)
