"""The learned predictor: what it starts from, what it learns, how it moves to another device, its file."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from sgq.cost import Pricer, Workload, predictor_training
from sgq.cost.architecture_graph import COLUMNS
from sgq.cost.architectures import MeasuredArchitecture
from sgq.cost.predictor import METRICS, Predictor, PredictorShape, chain_links
from sgq.cost.predictor_file import TrainedOn, load_predictor, save_predictor
from sgq.cost.predictor_training import (
    PEAK_WEIGHT,
    TRANSFER,
    FitSettings,
    data_of,
    fit,
    loss_of,
    transfer,
)
from sgq.cost.profile import DeviceProfile
from sgq.cost.timing import Timing
from sgq.errors import ProfileError
from sgq.models.genotype import Aggregate, Combine, Communicate, EdgeMlp, Genotype, Head, Pool, Sample
from sgq.models.genotype_rules import is_quantized
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype
from tests.cost.priced import measured_profile

TEN = Workload(nodes=10, classes=2)
SPACE = GenotypeSpace(k=(2, 4), widths=(8, 64), heads=((16,),), widest=256)
SHORT = FitSettings(epochs=15, lr=5e-3, batch=8)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> DeviceProfile:
    return measured_profile(tmp_path_factory.mktemp("profile"), seconds=1e-4)


@pytest.fixture(scope="module")
def pricer(profile: DeviceProfile) -> Pricer:
    return Pricer(profile)


def architectures(pricer: Pricer, count: int, *, seed: int, slow: float = 1.0) -> list[MeasuredArchitecture]:
    """Return random architectures whose latency is the table's in fp32, and twice as long on integers."""
    generator = random.Random(seed)
    measured = []
    for _ in range(count):
        genotype = random_genotype(SPACE, generator, in_channels=3)
        price = pricer.prices([genotype], TEN)[0]
        seconds = slow * price.latency_s * (2.0 if is_quantized(genotype, 3) else 1.0)
        timing = Timing(5, seconds, seconds, seconds)
        measured.append(MeasuredArchitecture(genotype, TEN, timing, round(price.peak_bytes * 1.1), "train"))
    return measured


def test_a_node_knows_its_operation_bits_sizes_and_time(pricer: Pricer) -> None:
    genotype = Genotype(
        (
            Sample("knn", 2, input_bits=8),
            Aggregate("max", "relative", message_bits=8),
            Combine(4),
            Pool(("sum",)),
        ),
        Head((8,)),
    )
    batch = pricer.inputs([genotype], TEN)
    named = [dict(zip(COLUMNS, row.tolist(), strict=True)) for row in batch.nodes[0]]
    # Global, input, four positions, two layers of the head, output.
    assert len(named) == 9
    assert [next(name for name in COLUMNS[:12] if node[name]) for node in named] == [
        "global", "input", "sample", "aggregate", "combine", "pool", "linear", "linear", "output",
    ]  # fmt: skip
    assert named[3]["reduce max"] == named[3]["message relative"] == 1.0
    assert named[2]["input bits"] == named[3]["message bits"] == pytest.approx(4 / 6)
    assert named[4]["weight bits"] == 1.0
    assert sum(node["share of the time"] for node in named[1:]) == pytest.approx(1.0, abs=1e-5)
    assert torch.tensor(named[0]["log seconds"]).exp() == pytest.approx(
        pricer.prices([genotype], TEN)[0].latency_s, rel=1e-4
    )


def test_the_global_node_sees_all_and_the_chain_goes_forward() -> None:
    links = chain_links(torch.tensor([[True, True, True, False]]))[0]
    assert links.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_an_untrained_predictor_says_what_the_table_says(pricer: Pricer) -> None:
    measured = architectures(pricer, 5, seed=0)
    batch, _ = data_of(measured, pricer)
    for layer in ("gin", "gcn"):
        predictor = Predictor(PredictorShape(layer=layer)).eval()  # type: ignore[arg-type]
        assert torch.allclose(predictor(batch), batch.base)


def test_padding_of_a_batch_changes_nothing(pricer: Pricer) -> None:
    batch, targets = data_of(architectures(pricer, 24, seed=1), pricer)
    fitted = fit(architectures(pricer, 24, seed=1), pricer, settings=FitSettings(epochs=2, seed=3))
    together = fitted.predictor(batch)
    for row in range(3):
        count = int(batch.present[row].sum())
        alone = batch.part(torch.tensor([row]))
        alone = type(alone)(alone.nodes[:, :count], alone.present[:, :count], alone.base)
        assert torch.allclose(fitted.predictor(alone), together[row : row + 1], rtol=1e-4)
    assert targets.shape == (24, len(METRICS))


@pytest.mark.parametrize("layer", ["gin", "gcn"])
def test_it_learns_what_the_table_does_not_know(pricer: Pricer, layer: str) -> None:
    measured, unseen = architectures(pricer, 60, seed=2), architectures(pricer, 20, seed=99)
    batch, targets = data_of(unseen, pricer)
    before = loss_of(batch.base, targets)
    shape = PredictorShape(layer=layer, width=32)  # type: ignore[arg-type]
    fitted = fit(measured, pricer, shape=shape, settings=SHORT)
    with torch.no_grad():
        after = loss_of(fitted.predictor(batch), targets)
    assert after < 0.5 * before
    assert fitted.epoch > 0


def test_few_samples_move_it_to_another_device(tmp_path: Path, pricer: Pricer) -> None:
    predictor = fit(
        architectures(pricer, 60, seed=2), pricer, shape=PredictorShape(width=32), settings=SHORT
    ).predictor
    other = Pricer(measured_profile(tmp_path, seconds=5e-4, name="other"))
    there, unseen = (architectures(other, 40, seed=seed, slow=1.6) for seed in (5, 6))
    batch, targets = data_of(unseen, other)
    moved = transfer(predictor, there, other, settings=replace(TRANSFER, epochs=20, lr=2e-3))
    with torch.no_grad():
        unmoved, after = (loss_of(one(batch), targets) for one in (predictor, moved.predictor))
    assert after < 0.6 * unmoved


def test_of_equal_factors_up_and_down_the_loss_is_the_same() -> None:
    wanted = torch.tensor([[2.0, 8.0], [3.0, 5.0]])
    assert loss_of(2.0 * wanted, wanted) == pytest.approx(float(loss_of(wanted / 2.0, wanted)), rel=1e-6)
    assert loss_of(2.0 * wanted, wanted) == pytest.approx((1.0 + PEAK_WEIGHT) * math.log(2.0), rel=1e-6)


def test_what_is_kept_is_the_moving_average_of_weights(
    pricer: Pricer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Predictor, AveragedModel]] = []

    class Recorded(AveragedModel):
        def __init__(self, model: Predictor, **options: Any) -> None:
            super().__init__(model, **options)
            made.append((model, self))

    monkeypatch.setattr(predictor_training, "AveragedModel", Recorded)
    settings = replace(SHORT, epochs=1, lr=1e-3)
    fitted = fit(architectures(pricer, 120, seed=0), pricer, settings=settings)
    [(trained, averaged)] = made
    assert fitted.epoch == 1
    kept, average, last = (
        torch.nn.utils.parameters_to_vector(one.parameters())
        for one in (fitted.predictor, averaged.module, trained)
    )
    assert torch.equal(kept, average)
    assert not torch.allclose(kept, last)


def test_the_same_seed_trains_the_same_predictor(pricer: Pricer) -> None:
    measured = architectures(pricer, 24, seed=1)
    first, again = (fit(measured, pricer, settings=FitSettings(epochs=2, seed=7)) for _ in range(2))
    assert first.validation_mape == again.validation_mape


def test_a_file_gives_the_predictor_back(tmp_path: Path, pricer: Pricer) -> None:
    measured = architectures(pricer, 24, seed=1)
    fitted = fit(measured, pricer, settings=FitSettings(epochs=2))
    trained_on = TrainedOn.of(measured, threads=1, validation_mape=(0.1, 0.01))
    save_predictor(tmp_path / "p.safetensors", fitted.predictor, trained_on)
    loaded, known = load_predictor(tmp_path / "p.safetensors")
    batch, _ = data_of(measured, pricer)
    assert torch.equal(loaded(batch), fitted.predictor(batch))
    assert known == trained_on


@pytest.fixture
def learned(tmp_path: Path) -> Pricer:
    """A pricer whose predictor was hardly trained."""
    profile = measured_profile(tmp_path, seconds=1e-4)
    bare = Pricer(profile)
    measured = architectures(bare, 24, seed=1)
    fitted = fit(measured, bare, settings=FitSettings(epochs=2))
    trained_on = TrainedOn.of(measured, threads=1, validation_mape=fitted.validation_mape)
    save_predictor(tmp_path / "p.safetensors", fitted.predictor, trained_on)
    return Pricer(replace(profile, files=replace(profile.files, predictor="p.safetensors")))


def test_the_predictor_is_asked_about_what_it_was_trained_on(learned: Pricer) -> None:
    plain = Genotype((Sample("knn", 2), Aggregate("max", "source"), Combine(8), Pool(("max",))), Head((16,)))
    crossing = replace(plain, positions=(plain.positions[0], Communicate(), *plain.positions[1:]))
    unseen = replace(plain, positions=(plain.positions[0], EdgeMlp(8), *plain.positions[1:]))
    without_pool = replace(plain, positions=plain.positions[:-1])
    wanted = [unseen, plain, without_pool, crossing]
    found = learned.prices(wanted, TEN)
    sources = [one.source.rpartition(", ")[2] for one in found]
    assert sources == ["look-up table", "learned predictor", "look-up table", "learned predictor"]
    # Going on at the other side is nothing that runs.
    assert found[1] == found[3]
    assert found == [learned.prices([one], TEN)[0] for one in wanted]
    table = Pricer(learned.profile, learned=False).prices(wanted, TEN)
    assert [found[0], found[2]] == [table[0], table[2]]
    assert found[1].latency_s != table[1].latency_s
    for workload in (Workload(12, classes=2), Workload(10, classes=3), Workload(10, features=4, classes=2)):
        assert learned.prices([plain], workload)[0].source.endswith("look-up table")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ProfileError, match="cannot read the predictor"):
        load_predictor(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ProfileError, match='expected a file of "sgq predictor 2"'):
        load_predictor(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("shape", None, "it has no shape"),
        ("shape", '{"width": -1}', "the predictor is damaged"),
        ("shape", '{"dropout": 7}', "the predictor is damaged"),
        ("shape", '{"wide": 64}', 'shape: unknown key "wide"'),
        ("shape", '{"layer": "gan"}', "shape.layer: Input should be 'gin' or 'gcn'"),
        ("shape", "[", "shape: Invalid JSON"),
        ("trained_on", '{"architectures": 3}', "trained_on.nodes: Field required"),
        ("columns", '["seconds"]', "reads other features"),
    ],
)
def test_a_damaged_header_is_said(tmp_path: Path, key: str, value: str | None, reason: str) -> None:
    header = {
        "format": "sgq predictor 2",
        "columns": json.dumps(COLUMNS),
        "shape": json.dumps(asdict(PredictorShape())),
        "trained_on": json.dumps(
            asdict(TrainedOn(3, 10, 3, 2, 1, 0.1, 0.1, frozenset(), frozenset())), default=sorted
        ),
        key: value,
    }
    tensors = Predictor(PredictorShape()).state_dict()
    file = tmp_path / "p.safetensors"
    save_file(tensors, file, metadata={name: text for name, text in header.items() if text is not None})
    with pytest.raises(ProfileError, match=f"p.safetensors: .*{reason}"):
        load_predictor(file)


def test_graphs_of_one_batch_may_differ_in_size(pricer: Pricer) -> None:
    genotypes = [one.genotype for one in architectures(pricer, 3, seed=4)]
    batch = pricer.inputs(genotypes, TEN)
    # Global, input, positions, layers of the head, output.
    sizes = [len(one.positions) + len(one.head.widths) + 4 for one in genotypes]
    assert len(set(sizes)) > 1
    assert batch.nodes.shape == (3, max(sizes), len(COLUMNS))
    assert batch.present.sum(1).tolist() == sizes
    for place, genotype in enumerate(genotypes):
        alone = pricer.inputs([genotype], TEN)
        assert torch.equal(alone.nodes[0], batch.nodes[place, : sizes[place]])
        assert torch.equal(alone.base[0], batch.base[place])
