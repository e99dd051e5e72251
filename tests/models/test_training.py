"""Training defaults: settings by model and which parameters decay."""

from __future__ import annotations

from sgq.models import GENERAL_TRAINING, build, training_defaults


def test_gcn_decays_the_first_layer_only() -> None:
    model = build("gcn", in_channels=4, out_channels=2)
    decayed, others = training_defaults("gcn").parameter_groups(model)
    assert (decayed["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(p) for p in model.convs[0].parameters()}
    assert {id(p) for p in others["params"]} == {id(p) for p in model.convs[1].parameters()}


def test_agnn_leaves_its_fixed_beta_out() -> None:
    model = build("agnn", in_channels=4, out_channels=2)
    (group,) = training_defaults("agnn").parameter_groups(model)
    assert id(model.convs[0].beta) not in {id(p) for p in group["params"]}
    assert id(model.convs[1].beta) in {id(p) for p in group["params"]}


def test_any_other_model_gets_the_general_settings() -> None:
    assert training_defaults("own_package:model") is GENERAL_TRAINING
