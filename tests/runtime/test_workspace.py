"""Room at once, on record, and bound to an arena."""

from __future__ import annotations

import copy
import ctypes
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sgq.runtime.workspace import ALIGNMENT, Recording, Schedule, Workspace


class Model:
    """Whose runs are recorded."""


MODEL = Model()


def doubled(x: Tensor, workspace: Workspace) -> Tensor:
    """Return 2 x, in room of the workspace."""
    room = workspace.empty(*x.shape)
    workspace.launch(lambda: torch.mul(x, 2.0, out=room))
    return room


def chain(x: Tensor, steps: int) -> Callable[[Workspace], Tensor]:
    """Return what doubles x so often, a step each."""

    def compute(workspace: Workspace) -> Tensor:
        value = x
        for _ in range(steps):
            value = doubled(value, workspace)
            workspace.end_step([value])
        return value

    return compute


def test_every_run_gives_the_same_in_a_tensor_of_its_own() -> None:
    x, schedule = torch.arange(6.0).view(2, 3), Schedule()
    results = [schedule.run(MODEL, chain(x, 3)) for _ in range(4)]
    assert all(torch.equal(result, 8 * x) for result in results)
    assert len({result.data_ptr() for result in results}) == 4


def test_bound_runs_read_their_arguments_anew_and_allocate_only_the_result() -> None:
    x, schedule = torch.ones(4), Schedule()
    for _ in range(2):
        schedule.run(MODEL, chain(x, 2))
    x.fill_(5.0)
    (arena,) = schedule.tensors()
    assert torch.equal(schedule.run(MODEL, chain(x, 2)), torch.full((4,), 20.0))
    assert next(iter(schedule.tensors())) is arena


def test_room_is_shared_by_steps_that_do_not_need_it_at_once() -> None:
    schedule = Schedule()
    for _ in range(2):
        schedule.run(MODEL, chain(torch.ones(1024), 10))
    (arena,) = schedule.tensors()
    assert arena.numel() == 2 * 4 * 1024


def written(x: Tensor, workspace: Workspace) -> Tensor:
    """Return x + 1, in room that may be anywhere: what fills it goes by an address."""
    room = workspace.empty(*x.shape)
    goal = {"address": room.data_ptr()}
    workspace.movable(room, lambda address: goal.update(address=address))

    def fill() -> None:
        numbers = (ctypes.c_float * x.numel()).from_address(goal["address"])
        numbers[:] = (x.reshape(-1) + 1).tolist()

    workspace.launch(fill)
    return room


def test_a_result_that_can_be_moved_takes_no_room_in_the_arena() -> None:
    x, schedule = torch.arange(64.0).view(8, 8), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        first = written(x, workspace)
        workspace.end_step([first])
        last = written(first, workspace)
        workspace.end_step([last])
        return last

    results = [schedule.run(MODEL, compute) for _ in range(4)]
    assert all(torch.equal(result, x + 2) for result in results)
    assert len({result.data_ptr() for result in results}) == 4
    (arena,) = schedule.tensors()
    assert arena.numel() == 4 * 64


def test_a_result_that_is_read_elsewhere_keeps_its_place() -> None:
    x, schedule = torch.arange(4.0), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        first = written(x, workspace)
        workspace.end_step([first])
        written(first, workspace)
        workspace.end_step([first])
        return first

    assert all(torch.equal(schedule.run(MODEL, compute), x + 1) for _ in range(4))


def test_an_alias_keeps_its_room() -> None:
    x, schedule = torch.ones(16), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        first = doubled(x, workspace)
        view = first.view(4, 4)
        workspace.end_step([view])
        other = doubled(x + 1, workspace)
        workspace.end_step([view, other])
        return workspace.computed(lambda: view.reshape(-1) + other)

    assert all(torch.equal(schedule.run(MODEL, compute), torch.full((16,), 6.0)) for _ in range(3))


def test_what_torch_computes_may_be_tensors_constants_or_both() -> None:
    x, schedule = torch.tensor([3.0, 1.0]), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        rows = workspace.computed(lambda: x.size(0))
        nothing = workspace.computed(lambda: None)
        low, high, name = workspace.computed(lambda: (x.min(), x.max(), "range"))
        assert (rows, nothing, name) == (2, None, "range")
        return workspace.computed(lambda: torch.stack([low, high]) * rows)

    for _ in range(3):
        assert torch.equal(schedule.run(MODEL, compute), torch.tensor([2.0, 6.0]))


def test_what_no_arena_can_hold_is_computed_at_once_every_time() -> None:
    x, schedule = torch.eye(3), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        sparse = workspace.computed(lambda: x.to_sparse_csr())
        return workspace.computed(lambda: sparse @ torch.ones(3, 1))

    for scale in (1.0, 2.0, 3.0):
        x.copy_(scale * torch.eye(3))
        assert torch.equal(schedule.run(MODEL, compute), torch.full((3, 1), scale))
    assert list(schedule.tensors()) == []


def test_another_number_of_threads_is_recorded_anew() -> None:
    x, schedule = torch.ones(4), Schedule()
    seen = []

    def compute(workspace: Workspace) -> Tensor:
        seen.append(type(workspace).__name__)
        return doubled(x, workspace)

    before = torch.get_num_threads()
    try:
        for threads in (1, 1, 1, 2, 2):
            torch.set_num_threads(threads)
            schedule.run(MODEL, compute)
    finally:
        torch.set_num_threads(before)
    assert seen == ["Recording", "Bound", "Recording", "Bound"]


def test_copies_start_anew() -> None:
    schedule = Schedule()
    for _ in range(2):
        schedule.run(MODEL, chain(torch.ones(4), 1))
    for other in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert list(other.tensors()) == []


def test_threads_take_turns() -> None:
    x, schedule = torch.ones(256, 256), Schedule()
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not torch.equal(schedule.run(MODEL, chain(x, 5)), 32 * x):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_another_run_than_the_recorded_one_is_refused() -> None:
    schedule = Schedule()
    schedule.run(MODEL, lambda workspace: workspace.empty(3))
    with pytest.raises(AssertionError, match="recorded"):
        schedule.run(MODEL, lambda workspace: workspace.empty(4))


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5)), min_size=1, max_size=30), st.integers(1, 4)
)
def test_rooms_that_live_at_once_lie_apart(rooms: list[tuple[int, int]], a_step: int) -> None:
    recording = Recording()
    alive: list[tuple[int, Tensor]] = []
    for number, (size, steps) in enumerate(rooms):
        alive.append((number // a_step + steps, recording.empty(size, dtype=torch.uint8)))
        if number % a_step == a_step - 1:
            step = number // a_step
            alive = [(last, room) for last, room in alive if last > step]
            recording.end_step(room for _, room in alive)
    offsets, size = recording.places()
    requests = recording.requests
    assert len(offsets) == len(requests) == len(rooms)
    for one in range(len(rooms)):
        assert offsets[one] % ALIGNMENT == 0
        assert offsets[one] + requests[one].nbytes <= size
        for other in range(one):
            apart = (
                offsets[one] + requests[one].nbytes <= offsets[other]
                or offsets[other] + requests[other].nbytes <= offsets[one]
            )
            together = requests[one].first <= requests[other].last and (
                requests[other].first <= requests[one].last
            )
            assert apart or not together


def test_another_model_on_the_same_graph_is_recorded_anew() -> None:
    x, schedule, other = torch.ones(4), Schedule(), Model()
    for _ in range(3):
        assert torch.equal(schedule.run(MODEL, chain(x, 1)), 2 * x)
    for _ in range(3):
        assert torch.equal(schedule.run(other, chain(x, 2)), 4 * x)


def test_a_first_run_that_fails_leaves_nothing_behind() -> None:
    x, schedule = torch.ones(4), Schedule()

    def broken(workspace: Workspace) -> Tensor:
        doubled(x, workspace)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        schedule.run(MODEL, broken)
    assert all(torch.equal(schedule.run(MODEL, chain(x, 2)), 4 * x) for _ in range(3))


def test_results_of_torch_that_are_not_contiguous_are_so_in_every_run() -> None:
    x, schedule = torch.arange(12.0).view(3, 4), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        turned = workspace.computed(lambda: x.t())
        left, right = workspace.computed(lambda: x.chunk(2, dim=1))
        assert all(part.is_contiguous() for part in (turned, left, right))
        return workspace.computed(lambda: turned[:2, :2] + left[:2] + right[:2])

    wanted = x.t()[:2, :2] + x[:2, :2] + x[:2, 2:]
    assert all(torch.equal(schedule.run(MODEL, compute), wanted) for _ in range(3))


def test_an_argument_that_is_the_result_is_copied() -> None:
    x, schedule = torch.ones(4), Schedule()
    for _ in range(3):
        result = schedule.run(MODEL, lambda workspace: workspace.computed(lambda: x))
        result.add_(1)
    assert torch.equal(x, torch.ones(4))


@pytest.mark.parametrize("first", [True, False])
def test_inference_mode_may_come_and_go(first: bool) -> None:
    x, schedule = torch.ones(4), Schedule()

    def compute(workspace: Workspace) -> Tensor:
        twice = doubled(x, workspace)
        return workspace.computed(lambda: twice + 1)

    for step in range(5):
        with torch.inference_mode(mode=(step % 2 == 0) == first):
            assert torch.equal(schedule.run(MODEL, compute), 3 * x)
