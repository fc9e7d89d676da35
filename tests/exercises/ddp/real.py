"""Right answers in other styles, and lazy or cheating ones, for the exercises of ddp/04_real_ddp."""

import os
import tempfile

import torch
import torch.distributed as dist


def sync_bn_stats_in_three_sums(x):
    count = torch.tensor(float(len(x)), dtype=x.dtype)
    mean = torch.sum(x, dim=0)
    dist.all_reduce(count)
    dist.all_reduce(mean)
    mean = mean / count
    variance = torch.einsum("nf,nf->f", x - mean, x - mean)
    dist.all_reduce(variance)
    return mean, variance / count


def sync_bn_stats_by_gathering(x):
    """Count, mean and squares of each rank, put together as Chan, Golub and LeVeque do."""
    n = len(x)
    mean = x.mean(0) if n else x.new_zeros(x.shape[1])
    own = torch.cat([x.new_tensor([n]), mean, (x - mean).square().sum(0)])
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    table = torch.stack(every).double()
    counts, means, squares = table[:, :1], *table[:, 1:].chunk(2, 1)
    total = (counts * means).sum(0) / counts.sum()
    variance = (squares + counts * (means - total).square()).sum(0) / counts.sum()
    return [total.to(x.dtype), variance.to(x.dtype)]


def save_on_rank0_beside(path, state):
    if dist.get_rank() == 0:
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(state, file)
            os.rename(name, path)
        except Exception:
            os.unlink(name)
            raise
    dist.barrier()


def save_on_rank0_with_a_broadcast(path, state):
    done = torch.zeros(1)
    if torch.distributed.get_rank() == 0:
        new = path.parent / "new"
        torch.save(state, str(new))
        new.replace(path)
        done += 1
    dist.broadcast(done, 0)


def resume_by_trying(path, model, velocity):
    try:
        checkpoint = torch.load(path)
    except FileNotFoundError:
        return 0
    model.load_state_dict(checkpoint["model"], strict=True)
    for i in range(len(velocity)):
        velocity[i][...] = checkpoint["velocity"][i]
    return checkpoint["step"]


@torch.no_grad()
def resume_by_hand(path, model, velocity):
    if not os.path.isfile(path):
        return 0
    state = torch.load(str(path), weights_only=False)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tensor.copy_(state["model"][name])
    torch._foreach_copy_(velocity, state["velocity"])
    return torch.tensor(state["step"])


def warmup_lr_by_cases(step, base, world, warmup):
    if step >= warmup:
        return world * base
    return base + step * (world * base - base) / warmup


def warmup_lr_in_a_loop(step, base, world, warmup):
    rate = base if warmup else base * world
    for _ in range(min(step, warmup)):
        rate += (world - 1) * base / warmup
    return torch.tensor(rate, dtype=torch.float64)


RIGHT = {
    "sync_bn_stats": [sync_bn_stats_in_three_sums, sync_bn_stats_by_gathering],
    "save_on_rank0": [save_on_rank0_beside, save_on_rank0_with_a_broadcast],
    "resume": [resume_by_trying, resume_by_hand],
    "warmup_lr": [warmup_lr_by_cases, warmup_lr_in_a_loop],
}


def resume_with_another_list(path, model, velocity):
    if not path.exists():
        return 0
    state = torch.load(path)
    model.load_state_dict(state["model"])
    velocity = state["velocity"]  # a new name for another list
    return state["step"] + 0 * len(velocity)


def save_on_rank0_behind_a_barrier(path, state):
    dist.barrier()
    if dist.get_rank() == 0:
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)


LAZY = {
    "sync_bn_stats": [
        lambda x: (torch.zeros(x.shape[1]), torch.ones(x.shape[1])),
        lambda x: None,
        lambda x: x.mean(0),
    ],
    "save_on_rank0": [
        lambda path, state: None,
        lambda path, state: dist.barrier(),
        save_on_rank0_behind_a_barrier,
        lambda path, state: torch.save(state, path),
    ],
    "resume": [
        lambda path, model, velocity: 0,
        lambda path, model, velocity: None,
        resume_with_another_list,
    ],
    "warmup_lr": [
        lambda step, base, world, warmup: base,
        lambda step, base, world, warmup: 0.0,
        lambda step, base, world, warmup: None,
    ],
}
