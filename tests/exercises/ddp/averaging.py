"""Right answers in other styles, and lazy or cheating ones, for the exercises of ddp/01_gradient_averaging."""

import math
import random

import torch
import torch.distributed as dist


def loss_factor_by_share(sizes, rank, reduction):
    share = sizes[rank] / sum(sizes) if reduction == "mean" else 1 / sum(sizes)
    return share / (1 / len(sizes))


def loss_factor_by_mean_size(sizes, rank, reduction):
    mean_size = torch.tensor(sizes, dtype=torch.float64).mean()
    return (torch.tensor(float(sizes[rank] if reduction == "mean" else 1)) / mean_size).double()


def shard_in_lists(n, rank, world, epoch, seed):
    source = random.Random(1_000_003 * epoch + seed)
    order = list(range(n))
    source.shuffle(order)
    share = math.ceil(n / world)
    while len(order) < share * world:
        order.append(order[len(order) - n])
    return torch.tensor(order[rank : share * world : world])


def shard_in_blocks(n, rank, world, epoch, seed):
    g = torch.Generator()
    g.manual_seed(seed * 1000 + epoch)
    share = (n + world - 1) // world
    positions = torch.arange(rank * share, (rank + 1) * share) % n
    return torch.argsort(torch.rand(n, generator=g))[positions]


def broadcast_params_data(model):
    for p in model.parameters():
        dist.broadcast(p.data, src=0)
    for b in model.buffers():
        dist.broadcast(b, src=0)


@torch.no_grad()
def broadcast_params_flat(model):
    by_dtype = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for tensors in by_dtype.values():
        flat = torch.cat([t.flatten() for t in tensors])
        dist.broadcast(flat, 0)
        for t, new in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            t.copy_(new.view_as(t))


def broadcast_params_async(model):
    works = [dist.broadcast(t.detach(), 0, async_op=True) for t in model.parameters()]
    works += [dist.broadcast(t, 0, async_op=True) for t in model.buffers()]
    for work in works:
        work.wait()


def average_gradients_first_divided(model):
    for p in filter(lambda p: p.requires_grad, model.parameters()):
        g = torch.zeros_like(p) if p.grad is None else p.grad / dist.get_world_size()
        dist.all_reduce(g, op=dist.ReduceOp.SUM)
        p.grad = g.detach()


def average_gradients_flat(model):
    params = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in params]).detach()
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for p in params:
        p.grad = flat[at : at + p.numel()].view(p.shape)
        at += p.numel()


def average_gradients_async(model):
    works = []
    for p in model.parameters():
        if p.requires_grad:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            works.append((p, dist.all_reduce(p.grad, async_op=True)))
    for p, work in works:
        work.wait()
        p.grad.div_(dist.get_world_size())


def accumulate_no_sync_sums(model, loss, batches, average):
    for p in model.parameters():
        p.grad = None
    total = sum([x.shape[0] for x, _ in batches])
    values = []
    for x, y in batches:
        value = loss(model(x), y)
        (value * x.shape[0] / total).backward()
        values.append(value.detach() * x.shape[0] / total)
    average(model)
    return torch.stack(values).sum()


def accumulate_no_sync_divided_later(model, loss, batches, average):
    model.zero_grad(set_to_none=False)
    seen, total = 0, 0.0
    for x, y in batches:
        value = loss(model(x), y) * len(x)
        value.backward()
        total, seen = total + value.item(), seen + len(x)
    for p in model.parameters():
        p.grad /= seen
    average(model)
    return total / seen


RIGHT = {
    "loss_factor": [loss_factor_by_share, loss_factor_by_mean_size],
    "shard": [shard_in_lists, shard_in_blocks],
    "broadcast_params": [broadcast_params_data, broadcast_params_flat, broadcast_params_async],
    "average_gradients": [
        average_gradients_first_divided,
        average_gradients_flat,
        average_gradients_async,
    ],
    "accumulate_no_sync": [accumulate_no_sync_sums, accumulate_no_sync_divided_later],
}


def average_gradients_without_the_last(model):
    for p in list(model.parameters())[:-1]:
        if p.requires_grad:
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()


def average_gradients_of_what_is_there(model):
    params = [p for p in model.parameters() if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in params])
    dist.all_reduce(flat)
    for p, mean in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.grad = mean.view_as(p) / dist.get_world_size()


LAZY = {
    "loss_factor": [
        lambda sizes, rank, reduction: 1.0,
        lambda sizes, rank, reduction: 1 / len(sizes),
        lambda sizes, rank, reduction: None,
        lambda sizes, rank, reduction: sizes[rank],
    ],
    "shard": [
        lambda n, rank, world, epoch, seed: torch.arange(n),
        lambda n, rank, world, epoch, seed: (
            (torch.arange(rank, rank - n // -world * world, world) + seed + epoch) % n
        ),
        lambda n, rank, world, epoch, seed: torch.arange(rank, n, world),
        lambda n, rank, world, epoch, seed: torch.zeros(-(-n // world), dtype=torch.int64),
        lambda n, rank, world, epoch, seed: list(range(n)),
        lambda n, rank, world, epoch, seed: None,
    ],
    "broadcast_params": [
        lambda model: None,
        lambda model: [torch.nn.init.zeros_(p) for p in model.parameters()],
        lambda model: dist.barrier(),
    ],
    "average_gradients": [
        lambda model: None,
        lambda model: model.zero_grad(),
        average_gradients_without_the_last,
        average_gradients_of_what_is_there,
    ],
    "accumulate_no_sync": [
        lambda model, loss, batches, average: 0.0,
        lambda model, loss, batches, average: average(model),
        lambda model, loss, batches, average: loss(model(batches[0][0]), batches[0][1]),
    ],
}
