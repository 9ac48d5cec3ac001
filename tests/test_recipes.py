import numpy as np
import pytest
import torch

from seg.recipes import WARM_UP, choose_recipe
from seg.settings import TrainOptions

NNUNET = choose_recipe(TrainOptions(), budgeted=False)
BUDGET = choose_recipe(TrainOptions(), budgeted=True)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.01), (500, 0.005359), (900, 1.2589e-3), (999, 1.995e-5)])
def test_the_rate_of_nnunet_over_1000_epochs(epoch, rate):
    assert NNUNET.rate(epoch / 1000) == pytest.approx(rate, rel=1e-3)


def test_the_rate_of_the_budget_rises_and_falls_within_its_bounds():
    progress = np.linspace(0, 1, 401)
    rates = np.array([BUDGET.rate(value) for value in progress])
    assert rates.max() == pytest.approx(4e-3)
    assert rates[0] == pytest.approx(4e-4)
    assert rates[-1] == pytest.approx(2e-5)
    rising = progress[:-1] < WARM_UP - 1e-9
    assert (np.diff(rates)[rising] > 0).all()
    assert (np.diff(rates)[~rising] < 0).all()
    assert np.abs(np.diff(rates)).max() < 2e-4


@pytest.mark.parametrize("recipe", [NNUNET, BUDGET])
@pytest.mark.parametrize("progress", [1.0, 1.001, 5.0])
def test_after_the_end_the_rate_stays_where_it_is(recipe, progress):
    assert recipe.rate(progress) == recipe.rate(1.0) >= 0


def test_what_is_chosen():
    assert (NNUNET.name, BUDGET.name) == ("nnunet", "budget")
    assert choose_recipe(TrainOptions(recipe="budget"), budgeted=False).name == "budget"
    assert choose_recipe(TrainOptions(recipe="nnunet"), budgeted=True).name == "nnunet"
    assert choose_recipe(TrainOptions(learning_rate=0.5), budgeted=True).peak_rate == 0.5
    assert (NNUNET.averages, BUDGET.averages) == (False, True)


def test_the_optimisers():
    network = torch.nn.Linear(2, 2)
    sgd = NNUNET.optimizer(network)
    assert isinstance(sgd, torch.optim.SGD)
    assert {key: sgd.defaults[key] for key in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    adam = BUDGET.optimizer(network)
    assert isinstance(adam, torch.optim.AdamW)
    assert len(adam.param_groups[0]["params"]) == 2


def test_the_mean_of_the_weights_follows_fast_at_first():
    decays = [BUDGET.decay(step) for step in range(1, 20000, 7)]
    assert decays == sorted(decays)
    assert decays[0] < 0.2
    assert decays[-1] == 0.998
