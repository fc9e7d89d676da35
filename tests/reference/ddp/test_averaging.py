"""Averaged gradients against DistributedDataParallel and against one process; shards against DistributedSampler."""

import copy
import threading

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

from utils.distributed import run_ranks, traffic
from utils.reference.ddp import accumulate_no_sync, average_gradients, broadcast_params, loss_factor, shard

SEEDING = threading.RLock()
"""torch.manual_seed is for the whole process: ranks that are threads may not draw at the same time."""
WORLDS = pytest.mark.parametrize("world", [2, 4])


class Net(nn.Module):
    """A tied weight, a frozen one, a buffer, and a layer that one rank does not use."""

    def __init__(self, seed):
        super().__init__()
        with SEEDING:
            self.build(seed)

    def build(self, seed):
        torch.manual_seed(seed)
        self.first, self.second, self.third = (nn.Linear(5, 5) for _ in range(3))
        self.second.weight = self.first.weight
        self.third.bias.requires_grad_(False)
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("hidden", torch.randn(3), persistent=False)
        self.spare = nn.Linear(5, 5)

    def forward(self, x, use_spare=True):
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        x = self.third(self.spare(x) if use_spare else x)
        return x


def batch(n, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 5, generator=generator, dtype=torch.float64) for _ in range(2))


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def on_a_rank(rank, world):
    """The averaged gradients, and those of torch's own class, with a layer that rank 0 does not use."""
    ours = Net(seed=rank).double()
    broadcast_params(ours)
    theirs = DistributedDataParallel(copy.deepcopy(ours), find_unused_parameters=True)
    x, y = batch(4 * world)
    mine = slice(rank, None, world)
    for model in (ours, theirs):
        F.mse_loss(model(x[mine], use_spare=rank > 0), y[mine]).backward()
    average_gradients(ours)
    return gradients(ours), gradients(theirs.module), copy.deepcopy(ours.state_dict()), ours.hidden


@pytest.mark.parametrize(
    ("world", "processes"), [(2, False), (4, False), (1, False), (2, True), (4, True)], ids=str
)
def test_gradients_are_those_of_torchs_own_class(world, processes):
    results = run_ranks(on_a_rank, world, processes=processes)
    expected = Net(seed=0).double()
    for ours, theirs, state, hidden in results:
        assert ours.keys() == theirs.keys()
        for name, grad in ours.items():
            if name == "third.bias":
                assert grad is None
                assert theirs[name] is None
            elif theirs[name] is not None:  # on one rank the spare layer is used nowhere
                torch.testing.assert_close(grad, theirs[name], rtol=1e-12, atol=1e-14)
        for name, value in expected.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert torch.equal(hidden, results[0][3])


@WORLDS
def test_the_mean_of_the_shards_gradients_is_the_full_gradient(world):
    def work(rank, world):
        model = Net(seed=rank).double()
        broadcast_params(model)
        x, y = batch(3 * world)
        mine = shard(3 * world, rank, world, epoch=2, seed=5)
        F.mse_loss(model(x[mine]), y[mine]).backward()
        average_gradients(model)
        return gradients(model)

    x, y = batch(3 * world)
    full = Net(seed=0).double()
    F.mse_loss(full(x), y).backward()
    for found in run_ranks(work, world):
        for name, grad in gradients(full).items():
            if grad is not None:
                torch.testing.assert_close(found[name], grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sizes", [[4, 4], [1, 7, 2], [5], [3, 0, 2]], ids=str)
def test_loss_factor_by_brute_force(sizes, reduction):
    x, y = batch(sum(sizes))
    w = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    (full,) = torch.autograd.grad(F.mse_loss(x @ w, y), w)
    total, start = torch.zeros_like(w), 0
    for rank, size in enumerate(sizes):
        part = slice(start, start + size)
        start += size
        error = (x[part] @ w - y[part]).square().mean(1)  # one loss for each example
        factor = loss_factor(sizes, rank, reduction)
        if size:
            loss = error.mean() if reduction == "mean" else error.sum()
            total += factor * torch.autograd.grad(loss, w)[0]
        elif reduction == "mean":
            assert factor == 0
    torch.testing.assert_close(total / len(sizes), full, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("n", "world"), [(12, 4), (13, 4), (1, 3), (3, 8), (7, 1), (1797, 2)])
@pytest.mark.parametrize("epoch", [0, 3])
def test_shard_is_torchs_distributed_sampler(n, world, epoch):
    for rank in range(world):
        sampler = DistributedSampler(range(n), world, rank, shuffle=True, seed=11)
        sampler.set_epoch(epoch)
        assert shard(n, rank, world, epoch, 11).tolist() == list(sampler)


def test_one_all_reduce_per_trainable_tensor():
    def work(rank, world):
        model = Net(seed=0)
        model(torch.ones(2, 5)).sum().backward()
        average_gradients(model)
        return traffic().count("allreduce"), sum(p.requires_grad for p in model.parameters())

    for calls, tensors in run_ranks(work, 2):
        assert calls == tensors


def test_accumulation_is_one_large_batch():
    torch.manual_seed(0)
    model, other = nn.Linear(5, 5).double(), nn.Linear(5, 5).double()
    other.load_state_dict(model.state_dict())
    x, y = batch(11)
    calls = []
    model.weight.grad = torch.ones_like(model.weight)
    parts = list(zip(x.split(4), y.split(4), strict=True))
    loss = accumulate_no_sync(model, F.mse_loss, parts, calls.append)
    full = F.mse_loss(other(x), y)
    full.backward()
    assert loss == pytest.approx(full.item(), rel=1e-12)
    torch.testing.assert_close(model.weight.grad, other.weight.grad)
    assert calls == [model]


def test_no_sync_of_torchs_own_class_gives_the_same():
    def work(rank, world):
        with SEEDING:
            torch.manual_seed(0)
            model = nn.Linear(5, 5).double()
        theirs = DistributedDataParallel(copy.deepcopy(model))
        x, y = batch(8 * world)
        parts = list(zip(x[rank::world].split(4), y[rank::world].split(4), strict=True))
        accumulate_no_sync(model, F.mse_loss, parts, average_gradients)
        with theirs.no_sync():
            (F.mse_loss(theirs(parts[0][0]), parts[0][1]) / 2).backward()
        (F.mse_loss(theirs(parts[1][0]), parts[1][1]) / 2).backward()
        return model.weight.grad, theirs.module.weight.grad, dist.get_world_size()

    for ours, theirs, _ in run_ranks(work, 2):
        torch.testing.assert_close(ours, theirs)
