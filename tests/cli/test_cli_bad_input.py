from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GCN = ("--model", "gcn", "--data", "cli_subjects:ring")
Sgq = Callable[..., Any]

BAD_RECIPES = {
    "a misspelt key": (
        "    bit: 4\n",
        'bad.yaml:5:5: unknown key "bit". Did you mean "bits"?',
    ),
    "a duplicate key": ("    bits: 4\n    bits: 8\n", "bad.yaml:6:5: "),
    "bits out of range": ("    bits: 17\n", "bad.yaml:5:11: rule 1, bits: expected bits in 1 to 16"),
    "a bucket count that differs from the bit list": (
        "    bits: {by_bucket: [8, 4]}\ndegree_buckets: {edges: [2, 3]}\n",
        "expected 3 widths in by_bucket, one a degree bucket (got 2)",
    ),
}


@pytest.fixture
def bad(tmp_path: Path) -> Callable[[str], str]:
    def write(rest: str, match: str = '{component: "*"}') -> str:
        (tmp_path / "bad.yaml").write_text(
            f"version: 1\nname: bad\nrules:\n  - match: {match}\n{rest}finetune: {{epochs: 0}}\n"
        )
        return "bad.yaml"

    return write


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A run folder with earlier results, which a failure must leave as they are."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("model.safetensors", "plan.json", "report.json", "events.out.tfevents.1.host"):
        (folder / name).write_text(f"earlier {name}")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("fault", BAD_RECIPES)
def test_a_bad_recipe_is_refused_with_its_position(
    sgq: Sgq, trained: Path, bad: Callable[..., str], earlier: Path, fault: str
) -> None:
    rest, message = BAD_RECIPES[fault]
    before = contents(earlier)
    checked = sgq("check", bad(rest))
    applied = sgq("apply", "bad.yaml", *GCN, "--checkpoint", str(trained), "-o", str(earlier))
    assert (checked.code, applied.code) == (3, 3)
    assert message in checked.error
    assert applied.error == checked.error
    assert contents(earlier) == before


def test_a_rule_that_matches_nothing_is_refused_with_its_position(
    sgq: Sgq, trained: Path, bad: Callable[..., str], earlier: Path
) -> None:
    before = contents(earlier)
    bad("    bits: 4\n", match="{module: conv.*}")
    applied = sgq("apply", "bad.yaml", *GCN, "--checkpoint", str(trained), "-o", str(earlier))
    assert (sgq("check", "bad.yaml").code, applied.code) == (0, 3)
    assert applied.error.startswith("bad.yaml:4:5: rule 1 matches nothing")
    assert contents(earlier) == before


def test_check_tells_the_faults_of_every_recipe(sgq: Sgq, bad: Callable[..., str]) -> None:
    outcome = sgq("check", "int8", bad("    bits: 17\n"), "int9")
    assert outcome.code == 3
    assert re.fullmatch(r"int8: valid, \d+ rules\n", outcome.out)
    assert "bad.yaml:5:11" in outcome.err
    assert 'no recipe "int9"' in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gcnn"), 'unknown model "gcnn". Did you mean "gcn"?'),
        (("--model", "gcn", "--data", "coraa"), 'unknown data set "coraa". Did you mean "cora"?'),
        (("--model", "cli_subjects:skiping", "--data", "cli_subjects:ring"), 'Did you mean "skipping"?'),
        (("--model", "gcn", "--data", "no_such_module:f"), "cannot import no_such_module"),
        (("--model", "gcn", "--data", "cli_subjects:with_nan"), "1 NaN or infinite values"),
        (("--model", "gcn", "--data", "cli_subjects:without_nodes"), "got an empty graph"),
        (("--model", "gcn", "--data", "cli_subjects:failing"), "cli_subjects:failing failed: KeyError"),
        (("--model", "gcn", "--data", "cli_subjects:with_integer_features"), "(got torch.int64)"),
        ((*GCN, "--device", "gpu"), "expected a torch device"),
        ((*GCN, "--device", "meta"), "expected a torch device"),
        ((*GCN, "--adjacency", "csr"), "cli_subjects:ring brings its own edges"),
        ((*GCN, "--seed", str(2**64)), "expected an integer from 0 to 2147483647"),
        (
            ("--model", "cli_subjects:skipping", "--data", "cli_subjects:ring", "--hidden", "4"),
            "builds its own",
        ),
    ],
)
@pytest.mark.parametrize("verb", [("sites",), ("plan", "int8"), ("train", "-o", "m.safetensors")])
def test_a_bad_model_or_bad_data_is_a_usage_error(
    sgq: Sgq, tmp_path: Path, verb: tuple[str, ...], words: tuple[str, ...], message: str
) -> None:
    outcome = sgq(*verb, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error
    assert not (tmp_path / "m.safetensors").exists()


def test_a_checkpoint_of_another_model_does_not_fit(
    sgq: Sgq, trained: Path, recipe: Path, earlier: Path
) -> None:
    before = contents(earlier)
    tail = ("--data", "cli_subjects:ring", "--checkpoint", str(trained), "-o", str(earlier))
    other = sgq("apply", str(recipe), "--model", "sage", *tail)
    assert other.code == 2
    assert "does not fit the model: it is of gcn (got --model sage)" in other.error
    own = sgq("apply", str(recipe), "--model", "cli_subjects:skipping", *tail)
    assert own.code == 2
    assert '"first.bias" is missing' in own.error
    resized = sgq("apply", str(recipe), "--model", "gcn", *tail, "--hidden", "7")
    assert resized.code == 2
    assert "was trained with hidden 5 (got --hidden 7)" in resized.error
    assert contents(earlier) == before


def test_a_file_that_is_no_checkpoint_is_refused(sgq: Sgq, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_text("junk")
    for name, message in (("junk", "not a readable safetensors file"), ("none", "there is no checkpoint")):
        outcome = sgq("plan", str(recipe), *GCN, "--checkpoint", f"{name}.safetensors")
        assert outcome.code == 2
        assert message in outcome.error


def test_a_zoo_model_without_a_checkpoint_is_told_how_to_get_one(sgq: Sgq, recipe: Path) -> None:
    outcome = sgq("apply", str(recipe), *GCN, "-o", "run")
    assert outcome.code == 2
    assert "sgq train --model gcn --data cli_subjects:ring" in outcome.error


def test_a_site_that_never_fires_is_named(sgq: Sgq, recipe: Path, earlier: Path) -> None:
    before = contents(earlier)
    subject = ("--model", "cli_subjects:skipping", "--data", "cli_subjects:ring")
    outcome = sgq("apply", str(recipe), *subject, "-o", str(earlier), "--quiet")
    assert outcome.code == 3
    assert "sites never ran while calibrating: " in outcome.error
    assert "second:message" in outcome.error
    assert contents(earlier) == before


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "int8", *GCN, "--checkpoint", "gcn.safetensors", "-o", "blocker/run"),
        ("train", *GCN, "-o", "blocker/m.safetensors"),
        ("report", "run", "-o", "blocker/page.html"),
    ],
)
def test_an_output_folder_that_cannot_be_written_fails_before_any_work(
    sgq: Sgq, tmp_path: Path, earlier: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "blocker").write_text("a file is in the way")
    (earlier / "report.json").write_text(
        '{"title": "t", "rows": [], "sites": [], "settings": [], "notes": []}'
    )
    outcome = sgq(*words)
    assert outcome.code == 2
    assert "expected an output folder that can be written (got blocker" in outcome.error
    assert (tmp_path / "blocker").read_text() == "a file is in the way"


def test_train_writes_safetensors_only(sgq: Sgq) -> None:
    outcome = sgq("train", *GCN, "-o", "model.pt")
    assert outcome.code == 2
    assert "ends in .safetensors (got model.pt)" in outcome.error


@pytest.mark.parametrize("verb", ["show", "report"])
def test_a_folder_without_a_report_is_no_run(sgq: Sgq, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty").mkdir()
    outcome = sgq(verb, "empty")
    assert outcome.code == 2
    assert "expected a run with report.json" in outcome.error


@pytest.mark.parametrize(
    ("option", "number", "message"),
    [
        ("--epochs", "-1", "expected an integer of at least 0 (got '-1')"),
        ("--lr", "nan", "expected a finite, positive --lr"),
        ("--weight-decay", "inf", "a finite --weight-decay"),
    ],
)
def test_a_bad_number_is_a_usage_error(sgq: Sgq, option: str, number: str, message: str) -> None:
    outcome = sgq("train", *GCN, "-o", "m.safetensors", option, number)
    assert outcome.code == 2
    assert message in outcome.error


def test_the_float_checkpoint_is_never_overwritten(sgq: Sgq, trained: Path, recipe: Path) -> None:
    (trained.parent / "run").mkdir()
    checkpoint = trained.rename(trained.parent / "run" / "model.safetensors")
    before = checkpoint.read_bytes()
    outcome = sgq("apply", str(recipe), *GCN, "--checkpoint", "run/model.safetensors", "-o", "run")
    assert outcome.code == 2
    assert "model.safetensors would be overwritten" in outcome.error
    assert checkpoint.read_bytes() == before
