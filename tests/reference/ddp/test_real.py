"""Statistics against batch norm on the whole batch, checkpoints against training on, and the learning rate."""

import pytest
import torch
from torch import nn

from utils.distributed import run_ranks, traffic
from utils.reference.ddp import resume, save_on_rank0, sync_bn_stats, warmup_lr


@pytest.mark.parametrize(
    ("sizes", "processes"), [([3, 5], False), ([1, 4, 0], False), ([6, 2], True)], ids=str
)
def test_statistics_are_those_of_the_whole_batch(sizes, processes):
    x = torch.randn(sum(sizes), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = x.split(sizes)
    results = run_ranks(lambda rank, world: sync_bn_stats(parts[rank]), len(sizes), processes=processes)
    layer = nn.BatchNorm1d(4, momentum=1.0, dtype=torch.float64)
    layer(x)
    for mean, variance in results:
        torch.testing.assert_close(mean, layer.running_mean)
        torch.testing.assert_close(variance * len(x) / (len(x) - 1), layer.running_var)


def test_statistics_of_numbers_far_from_zero():
    x = 5000 + torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    for _, variance in run_ranks(lambda rank, world: sync_bn_stats(x[rank::world]), 2):
        torch.testing.assert_close(variance, x.double().var(0, correction=0).float(), rtol=1e-5, atol=0)


def test_two_all_reduces_are_enough():
    def work(rank, world):
        sync_bn_stats(torch.ones(3, 2))
        return traffic().count("allreduce")

    assert run_ranks(work, 2) == [2, 2]


def trained(model, velocity, steps):
    for _ in range(steps):
        model.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        for p, v in zip(model.parameters(), velocity, strict=True):
            v.mul_(0.9).add_(p.grad)
            p.data -= 0.01 * v


def test_a_training_goes_on_where_it_was_saved(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    trained(model, velocity, 3)
    run_ranks(
        lambda rank, world: save_on_rank0(
            path, {"model": model.state_dict(), "velocity": velocity, "step": 3}
        ),
        2,
    )
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    other = nn.Linear(3, 2)
    second = [torch.zeros_like(p) for p in other.parameters()]
    assert resume(tmp_path / "none.pt", other, second) == 0
    assert resume(path, other, second) == 3
    for m, v in ((model, velocity), (other, second)):
        trained(m, v, 2)
    assert torch.equal(model.weight, other.weight)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")

    def work(rank, world):
        with pytest.raises(Exception, match="pickle"):
            save_on_rank0(path, {"step": lambda: 3})

    run_ranks(work, 1)
    assert path.read_bytes() == b"old"


def test_learning_rates():
    assert [warmup_lr(step, 0.1, 8, 4) for step in range(6)] == pytest.approx(
        [0.1, 0.275, 0.45, 0.625, 0.8, 0.8]
    )
    assert warmup_lr(0, 0.1, 8, 0) == pytest.approx(0.8)
    assert warmup_lr(3, 0.1, 1, 5) == pytest.approx(0.1)
