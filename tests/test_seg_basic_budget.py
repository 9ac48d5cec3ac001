"""One cycle of the rate, and a mean of the weights that forgets fast at first."""

import numpy as np
import pytest
import torch

from seg import Recipe
from seg.discovery import discover
from seg_basic.budget import BudgetRecipe

PROGRESS = np.linspace(0, 1, 401)


def test_it_is_a_recipe_that_is_found_by_name():
    found, _ = discover().build("recipe", "budget", {"weight_decay": 0.1})
    assert isinstance(found, Recipe)
    assert found == BudgetRecipe(weight_decay=0.1)


@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.5])
def test_the_rate_rises_and_falls_within_its_bounds(warm_up):
    rates = np.array([BudgetRecipe(warm_up=warm_up).rate(value, 0.0) for value in PROGRESS])
    assert rates.max() == pytest.approx(4e-3)
    assert rates[0] == pytest.approx(4e-4 if warm_up else 4e-3)
    assert rates[-1] == pytest.approx(2e-5)
    rising = PROGRESS[:-1] < warm_up - 1e-9
    assert (np.diff(rates)[rising] > 0).all()
    assert (np.diff(rates)[~rising] < 0).all()
    assert np.abs(np.diff(rates)).max() < 2e-4


@pytest.mark.parametrize("progress", [1.0, 1.001, 5.0])
def test_after_the_end_the_rate_stays_where_it_is(progress):
    assert BudgetRecipe().rate(progress, 0.0) == BudgetRecipe().rate(1.0, 0.0) > 0


def test_the_peak_is_an_option():
    assert BudgetRecipe(learning_rate=0.5).rate(0.05, 0.0) == 0.5


def test_the_optimiser():
    adam = BudgetRecipe().make_optimizer(torch.nn.Linear(2, 2))
    assert isinstance(adam, torch.optim.AdamW)
    assert {key: adam.defaults[key] for key in ("lr", "betas", "weight_decay")} == {
        "lr": 0.004, "betas": (0.9, 0.99), "weight_decay": 0.01}
    assert len(adam.param_groups[0]["params"]) == 2


def test_the_mean_of_the_weights_follows_fast_at_first():
    decays = [BudgetRecipe().mean_decay(step) for step in range(1, 20000, 7)]
    assert decays == sorted(decays)
    assert decays[0] < 0.2
    assert decays[-1] == 0.998


def test_no_mean_of_the_weights():
    assert BudgetRecipe(averaging=0.0).mean_decay(5) is None
