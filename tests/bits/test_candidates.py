"""What the cost model believes inside a limit is a candidate, and not what was measured there by luck."""

from __future__ import annotations

from sgq.bits import Evaluation, search
from sgq.bits.candidates import believed_inside
from sgq.bits.space import Assignment
from tests.bits.beliefs import LIMIT, Believe, lucky, only, searched, widths
from tests.bits.tables import CHOICES, SPACE, accuracy, memory
from tests.bits.trainings import LEAST, LUCKY, short


def test_candidates_rise_in_memory_and_in_believed_accuracy(believe: Believe) -> None:
    beliefs = {
        (2, 2, 2, 2): -0.001,  # 20 bytes, but outside
        (4, 2, 2, 2): 0.01,  # 22
        (2, 4, 2, 2): 0.01,  # 24: not better
        (2, 2, 4, 2): 0.02,  # 26
        (4, 4, 2, 2): 0.03,  # 26 as well, and better
        (2, 2, 2, 4): 0.025,  # 28: worse
        (8, 8, 8, 8): 0.04,
    }
    believe(only(beliefs))
    assert widths(believed_inside(searched(), LIMIT)) == [(4, 2, 2, 2), (4, 4, 2, 2), (8, 8, 8, 8)]


def test_candidates_are_what_is_believed_inside_and_not_what_was_measured_there(believe: Believe) -> None:
    result = searched(lucky)
    assert result.best is not None
    assert short(result.best.assignment) == LUCKY
    believe(lambda assignment: accuracy(assignment) - LIMIT)
    assert widths(believed_inside(result, LIMIT)) == [LEAST]

    def unlucky(assignment: Assignment) -> float:
        return accuracy(assignment) - 0.1 * (short(assignment) == LEAST)

    assert widths(believed_inside(searched(unlucky), LIMIT)) == [LEAST]


def test_the_cost_model_itself_finds_the_candidates_of_a_table() -> None:
    found = believed_inside(searched(lucky), LIMIT)
    assert widths(found)[:2] == [LUCKY, LEAST]
    sizes = [trial.memory for trial in found]
    assert sizes == sorted(set(sizes))


def test_what_failed_or_was_stopped_early_is_no_candidate(believe: Believe) -> None:
    def evaluate(assignment: Assignment) -> Evaluation:
        if short(assignment) == LUCKY:
            raise RuntimeError("broken")
        return Evaluation(accuracy(assignment), 0.25 if short(assignment) == LEAST else 1.0)

    believe(only({LUCKY: 0.01, LEAST: 0.02, (8, 4, 8, 4): 0.03}))
    assert widths(believed_inside(searched(evaluate), LIMIT)) == [(8, 4, 8, 4)]


def test_nothing_above_a_memory_limit_is_a_candidate(believe: Believe) -> None:
    believe(lambda assignment: memory(assignment) / 1000)
    found = believed_inside(searched(least=0.7, memory=40), 0.7)
    sizes = {memory(SPACE.assignment(codes)) for codes in SPACE.every()}
    assert [trial.memory for trial in found] == sorted(size for size in sizes if size <= 40)
    # A drop counts from the widest one, which is measured although it is too large.
    result = search(CHOICES, accuracy, memory, 81, limit={"accuracy_drop": 0.2, "memory": 40})
    assert max(trial.memory for trial in result.trials) == 80
    assert max(trial.memory for trial in believed_inside(result, 0.7)) == 40


def test_where_nothing_is_believed_inside_those_measured_inside_are_candidates(believe: Believe) -> None:
    believe(lambda assignment: -0.01)
    result = searched(lucky, memory=60)
    found = believed_inside(result, LIMIT)
    assert set(widths(found)) == {LUCKY, LEAST, (8, 4, 8, 4), (4, 8, 8, 4)}
    assert [trial.memory for trial in found] == [50, 52, 56, 60]
