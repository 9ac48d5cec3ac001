"""nnU-Net's rates and optimisers, and those of its trainers."""

import pytest
import torch

from seg import Recipe, SegError
from seg.discovery import discover
from seg_nnunet.recipe import NnUNetRecipe

VARIANTS = [NnUNetRecipe(), NnUNetRecipe(schedule="cosine"), NnUNetRecipe(power=2.0), NnUNetRecipe(warm_up=0.3)]


def test_it_is_a_recipe_that_is_found_by_name():
    found, use = discover().build("recipe", "nnunet", {"learning_rate": 0.001})
    assert isinstance(found, Recipe)
    assert found == NnUNetRecipe(learning_rate=0.001)
    assert use.options["momentum"] == 0.99


@pytest.mark.parametrize("options", [{"optimizer": "adan"}, {"schedule": "step"}, {"learning_rate": -1.0},
                                     {"warm_up": 1.0}, {"momentum": 2.0}])
def test_bad_options_are_refused(options):
    with pytest.raises(SegError) as caught:
        discover().build("recipe", "nnunet", options)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.01), (500, 0.005359), (900, 1.2589e-3), (999, 1.995e-5)])
def test_the_rate_over_1000_epochs(epoch, rate):
    assert NnUNetRecipe().rate((epoch + 0.7) / 1000, epoch / 1000) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("recipe", VARIANTS)
def test_the_rate_falls_once_an_epoch_and_stays_at_0_after_the_end(recipe):
    after = [recipe.rate(epoch / 10 + 0.05, epoch / 10) for epoch in range(3, 11)]
    assert after == sorted(after, reverse=True)
    assert len(set(after)) == len(after)
    assert recipe.rate(0.59, 0.5) == recipe.rate(0.5, 0.5)
    assert recipe.rate(1.2, 1.2) == recipe.rate(1.0, 1.0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("epoch", [0, 3, 8])
def test_cosine_is_that_of_torch(epoch):
    optimizer = NnUNetRecipe().make_optimizer(torch.nn.Linear(1, 1))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for _ in range(epoch):
        optimizer.step()
        schedule.step()
    assert NnUNetRecipe(schedule="cosine").rate(epoch / 10, epoch / 10) == pytest.approx(schedule.get_last_lr()[0])


def test_constant_is_constant():
    assert {NnUNetRecipe(schedule="constant").rate(part, part) for part in (0, 0.4, 1, 2)} == {0.01}


def test_a_warm_up_rises_step_by_step_to_the_peak_where_the_fall_begins():
    recipe = NnUNetRecipe(warm_up=0.2)
    assert [recipe.rate(step, 0.0) for step in (0, 0.05, 0.1)] == pytest.approx([0, 0.0025, 0.005])
    assert recipe.rate(0.2, 0.2) == 0.01
    assert recipe.rate(0.6, 0.6) == pytest.approx(0.01 * 0.5**0.9)


def test_the_optimisers():
    network = torch.nn.Linear(2, 2)
    sgd = NnUNetRecipe().make_optimizer(network)
    assert isinstance(sgd, torch.optim.SGD)
    assert {key: sgd.defaults[key] for key in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    assert NnUNetRecipe(momentum=0.0).make_optimizer(network).defaults["nesterov"] is False
    adam = NnUNetRecipe(optimizer="adam", learning_rate=3e-4).make_optimizer(network)
    assert type(adam) is torch.optim.Adam
    assert (adam.defaults["lr"], adam.defaults["weight_decay"], adam.defaults["amsgrad"]) == (3e-4, 3e-5, False)
    adamw = NnUNetRecipe(optimizer="adamw", amsgrad=True).make_optimizer(network)
    assert type(adamw) is torch.optim.AdamW
    assert adamw.defaults["amsgrad"] is True
    assert len(adamw.param_groups[0]["params"]) == 2


def test_the_last_weights_predict():
    assert [NnUNetRecipe().mean_decay(step) for step in (1, 100)] == [None, None]
