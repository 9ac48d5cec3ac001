"""A training that was cut short ends as a straight one, bit for bit; what goes wrong is said."""

import json
import signal
import threading

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Batch, CaseArrays, CaseIndex, Configuration, Labels, Position, SegError, Silent, Topology
from seg.checkpoint import newest_state
from seg.losses import DeepSupervision
from seg.settings import TrainOptions
from seg.training import Data, Interrupted, Job, Length, Trainer, _batches, train
from seg_basic.budget import BudgetRecipe
from seg_nnunet.loss import DiceCrossEntropy
from seg_nnunet.recipe import NnUNetRecipe

LABELS = Labels(values={"background": 0, "a": 1})
PATCH, STEPS = (8, 8), 4
NNUNET, BUDGET = NnUNetRecipe(), BudgetRecipe()
ADAM = NnUNetRecipe(optimizer="adam", amsgrad=True, warm_up=0.5, schedule="cosine")


class Random:
    """Batches out of the generator alone."""

    def __init__(self, spoil=()):
        self.spoil, self.threads = spoil, []

    def positions(self, index, configuration, margin, rng):
        return [Position(case=0, start=tuple(rng.integers(0, 9, 3).tolist())) for _ in range(configuration.batch)]

    def margin(self, configuration):
        return 0, 0, 0

    def batch(self, cases, positions, configuration, rng, device):
        self.threads.append(threading.current_thread())
        image = torch.from_numpy(rng.standard_normal((len(positions), 1, *configuration.patch), np.float32))
        if self.spoil == "all" or float(image.flatten()[0]) in self.spoil:
            image = image * torch.nan
        return Batch(image=image, label=(image[:, 0] > 0.3).long())


class Network(nn.Module):
    def __init__(self, dims=2):
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.first, self.last = convolution(1, 4, 3, padding=1), convolution(4, 2, 1)
        self.norm = (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(4)

    def forward(self, x):
        return [self.last(self.norm(self.first(x)).relu())]


def make_job(folder, *, recipe=NNUNET, epochs=3, parts=None, patch=PATCH, seed=(0, 1), **changes):
    topology = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3,) * len(patch),),
                        strides=((1,) * len(patch),), blocks=(1,), decoder_blocks=())
    configuration = Configuration(name="2d", spacing=(999.0, 1.0, 1.0), median_shape=(8.0,) * len(patch), patch=patch,
                                  batch=2, topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=())
    parts = parts or Random()
    options = TrainOptions(steps_per_epoch=STEPS, autocast="off")
    torch.manual_seed(3)
    job = Job(folder=folder, configuration=configuration, network=Network(len(patch)),
              data=Data(cases=[CaseArrays(image=None, label=None)], sampler=parts, augmenter=parts,
                        index=[CaseIndex(case="c", shape=(1, 8, 8), locations={})]),
              loss=make_loss(configuration), recipe=recipe,
              options=options, length=Length(steps=epochs * STEPS), seed=seed, device=torch.device("cpu"))
    return evolve(job, **changes)


def make_loss(configuration, **options):
    return DeepSupervision(criterion=DiceCrossEntropy(**options).build(LABELS, configuration), weights=(1.0,))


class Stop(Silent):
    """Sends a signal after some steps."""

    def __init__(self, after, number=signal.SIGINT):
        self.left, self.number = after, number

    def advance(self, steps=1):
        self.left -= steps
        if self.left == 0:
            signal.raise_signal(self.number)


def rows(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def without_time(found):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("recipe", [NNUNET, BUDGET, ADAM], ids=["nnunet", "budget", "adam"])
@pytest.mark.parametrize("stops", [(6,), (4,), (1, 5)], ids=str)
@pytest.mark.parametrize("aside", [False, True], ids=["", "aside"])
def test_interrupted_and_resumed_is_as_straight(tmp_path, recipe, stops, aside):
    straight = train(make_job(tmp_path / "a", recipe=recipe), Silent())
    for after in stops:
        with pytest.raises(Interrupted) as caught:
            train(make_job(tmp_path / "b", recipe=recipe, saves_aside=aside), Stop(after))
        assert caught.value.exit_code == 130
    resumed = train(make_job(tmp_path / "b", recipe=recipe, saves_aside=aside), Silent())
    assert same(straight, resumed)
    assert without_time(rows(tmp_path / "a")) == without_time(rows(tmp_path / "b"))


@pytest.mark.parametrize("keep", [0, 1])
def test_a_killed_one_goes_on_from_the_last_state_that_is_whole(tmp_path, keep):
    straight = train(make_job(tmp_path / "a", patch=(4, 4, 4)), Silent())
    with pytest.raises(Interrupted):
        train(make_job(tmp_path / "b", patch=(4, 4, 4)), Stop(9))
    states = sorted((tmp_path / "b").glob("state_*"))
    for path in states[keep:]:
        path.write_bytes(path.read_bytes()[:-1])
    assert same(straight, train(make_job(tmp_path / "b", patch=(4, 4, 4)), Silent()))
    assert without_time(rows(tmp_path / "a")) == without_time(rows(tmp_path / "b"))


def test_a_finished_one_is_not_trained_again(tmp_path):
    first = train(make_job(tmp_path), Silent())
    content = (tmp_path / "metrics.jsonl").read_text()
    assert same(first, train(make_job(tmp_path), Stop(1)))
    assert (tmp_path / "metrics.jsonl").read_text() == content


def test_sigterm_is_143_and_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="same command goes on") as caught:
        train(make_job(tmp_path), Stop(2, signal.SIGTERM))
    assert caught.value.exit_code == 143
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert newest_state(tmp_path) is not None


def test_it_trains_in_a_thread_too(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(train(make_job(tmp_path / "b"), Silent())))
    thread.start()
    thread.join()
    assert same(found[0], train(make_job(tmp_path / "a"), Silent()))


def test_one_line_an_epoch_and_the_rate_of_nnunet(tmp_path):
    train(make_job(tmp_path), Silent())
    found = rows(tmp_path)
    assert [row["epoch"] for row in found] == [1, 2, 3]
    assert [row["step"] for row in found] == [4, 8, 12]
    assert [row["lr"] for row in found] == pytest.approx([0.01 * (1 - epoch / 3) ** 0.9 for epoch in range(3)])
    assert all(np.isfinite(row["loss"]) for row in found)


class Remembering:
    """A recipe of a stranger: plain SGD, whose rate says what it was asked."""

    def __init__(self):
        self.asked = []

    def make_optimizer(self, network):
        return torch.optim.SGD(network.parameters(), lr=1.0)

    def rate(self, step, epoch):
        self.asked.append((step, epoch))
        return 0.01 * (len(self.asked))

    def mean_decay(self, step):
        return None


def test_a_recipe_is_asked_with_the_part_that_is_done_before_the_step_and_before_the_epoch(tmp_path):
    recipe = Remembering()
    train(make_job(tmp_path, recipe=recipe), Silent())
    assert recipe.asked == [(step / 12, step // STEPS * STEPS / 12) for step in range(12)]
    assert [row["lr"] for row in rows(tmp_path)] == pytest.approx([0.04, 0.08, 0.12])


def test_with_a_budget_of_time_epochs_do_not_hold_up_the_rate(tmp_path):
    recipe = Remembering()
    trainer = Trainer.fresh(make_job(tmp_path, recipe=recipe, length=Length(seconds=10.0)))
    trainer.seconds = 2.5
    trainer.train_step(trainer.job.make_batch(0))
    assert recipe.asked == [(0.25, 0.25)]


def test_an_optimiser_that_cannot_be_saved_is_the_plugins_fault(tmp_path):
    class History(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["history"] = ["text"]

    recipe = Remembering()
    recipe.make_optimizer = lambda network: History(network.parameters(), lr=1.0)
    with pytest.raises(SegError, match="History keeps a list") as caught:
        train(make_job(tmp_path, recipe=recipe), Silent())
    assert (caught.value.exit_code, caught.value.records[0].code) == (6, "SEG-P03")
    assert newest_state(tmp_path) is None


def test_it_learns(tmp_path):
    job = make_job(tmp_path, epochs=12, recipe=BudgetRecipe(learning_rate=0.05), patch=(16, 16))
    train(job, Silent())
    losses = [row["loss"] for row in rows(tmp_path)]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("seed", [(0, 1), (1, 0)])
def test_batches_depend_on_seed_and_step_alone(tmp_path, seed):
    job = make_job(tmp_path, seed=seed)
    batches = [job.make_batch(step).image for step in (0, 1, 0)]
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], make_job(tmp_path, seed=(5, 5)).make_batch(0).image)


def test_on_a_cpu_batches_are_made_in_line_and_none_in_vain(tmp_path):
    parts = Random()
    train(make_job(tmp_path, parts=parts), Silent())
    assert parts.threads == [threading.current_thread()] * 3 * STEPS


def test_beside_another_device_a_thread_makes_the_same_batches(tmp_path):
    straight = [make_job(tmp_path).make_batch(step).image for step in range(3, 6)]
    parts = Random()
    with _batches(make_job(tmp_path, parts=parts, device=torch.device("meta")), 3) as take:
        found = [take().image for _ in range(3)]
    assert all(torch.equal(one, other) for one, other in zip(straight, found, strict=True))
    assert threading.current_thread() not in parts.threads


def test_losses_that_are_no_numbers_end_it(tmp_path):
    with pytest.raises(SegError, match="4 of 4 losses are no numbers") as caught:
        train(make_job(tmp_path, parts=Random("all")), Silent())
    assert caught.value.records[0].code == "SEG-T01"
    assert caught.value.exit_code == 3
    assert newest_state(tmp_path) is None


def test_a_single_bad_batch_leaves_the_network_as_it_was(tmp_path):
    job = make_job(tmp_path / "a")
    first = float(job.make_batch(1).image[0, 0, 0, 0])
    job = make_job(tmp_path / "b", parts=Random({first}))
    job = evolve(job, network=nn.Sequential(nn.Conv2d(1, 2, 1)), loss=lambda outputs, label, **_: outputs.mean())
    trainer = Trainer.fresh(job)
    for step in range(3):
        batch = job.make_batch(step)
        assert bool(batch.image.isnan().any()) is (step == 1)
        trainer.train_step(batch)
    assert all(value.isfinite().all() for value in trainer.weights().values())
    assert trainer.sums[1] == 2
    assert trainer.sums.isfinite().all()


def test_a_mistake_in_making_batches_is_told_where_it_is_trained(tmp_path):
    parts = Random()
    parts.margin = lambda configuration: 1 / 0
    with pytest.raises(ZeroDivisionError):
        train(make_job(tmp_path, parts=parts), Silent())


def test_the_mean_of_the_weights_is_what_predicts(tmp_path):
    job = make_job(tmp_path, recipe=BUDGET)
    trainer = Trainer.fresh(job)
    expected = {name: value.clone() for name, value in job.network.state_dict().items()}
    for step in range(5):
        trainer.train_step(job.make_batch(step))
        decay = trainer.job.recipe.mean_decay(step + 1)
        for name, value in job.network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    weights, own = trainer.weights(), job.network.state_dict()
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.equal(weights["first.weight"], own["first.weight"])
    assert torch.equal(weights["norm.num_batches_tracked"], torch.tensor(5))


def test_the_gradient_is_clipped_and_0_means_that_it_is_not(tmp_path):
    moved = {}
    for norm in (1e-3, 0.0, 12.0):
        job = make_job(tmp_path / str(norm))
        job = evolve(job, options=evolve(job.options, clip_norm=norm))
        trainer = Trainer.fresh(job)
        before = job.network.state_dict()["first.weight"].clone()
        trainer.train_step(job.make_batch(0))
        moved[norm] = float((job.network.state_dict()["first.weight"] - before).norm())
    assert 0 < moved[1e-3] < moved[12.0] / 10
    assert moved[0.0] == pytest.approx(moved[12.0], rel=1e-4)


def test_a_time_ends_it_too_and_time_used_before_counts(tmp_path):
    job = make_job(tmp_path, recipe=BUDGET, length=Length(seconds=0.05))
    train(job, Silent())
    assert rows(tmp_path)[-1]["seconds"] >= 0.05
    late = make_job(tmp_path / "late", length=Length(seconds=0.05), used_s=0.1)
    assert Trainer.begin(late).finished


def test_tied_weights_are_saved_and_found_again(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 2, 1)
            self.second = nn.Conv2d(1, 2, 1)
            self.second.weight = self.first.weight

        def forward(self, x):
            return [self.first(x) + self.second(x)]

    torch.manual_seed(0)
    straight = train(make_job(tmp_path / "a", network=Tied()), Silent())
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        train(make_job(tmp_path / "b", network=Tied()), Stop(5))
    torch.manual_seed(1)
    assert straight.keys() == train(make_job(tmp_path / "b", network=Tied()), Silent()).keys()


def test_progress_is_the_part_that_is_done():
    assert Length(steps=10).progress(5, 99.0) == 0.5
    assert Length(seconds=10.0).progress(99, 5.0) == 0.5


@pytest.mark.parametrize("batch_dice", ["off", "on"])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tmp_path, batch_dice):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x):
            return [self.one(x)]

    torch.manual_seed(5)
    network, gradients, losses = Plain(), [], []
    loss = make_loss(make_job(tmp_path).configuration, batch=batch_dice)
    for parts in (1, 2):
        trainer = Trainer.fresh(evolve(make_job(tmp_path), network=network, parts=parts, loss=loss))
        network.zero_grad()
        losses.append(trainer._backward(trainer.job.make_batch(0)))
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])
