"""Right answers in other styles, and lazy or cheating ones, for the exercises of ddp/03_buckets."""

import itertools

import torch
import torch.distributed as dist


def make_buckets_with_a_generator(parameters, cap_bytes):
    def groups():
        current = []
        for i, p in reversed(list(enumerate(parameters))):
            if not p.requires_grad:
                continue
            inside = sum(parameters[j].nbytes for j in current)
            if current and (inside + p.nbytes > cap_bytes or parameters[current[0]].dtype != p.dtype):
                yield current
                current = []
            current.append(i)
        if current:
            yield current

    return list(groups())


def make_buckets_in_tuples(parameters, cap_bytes):
    result, i = [], len(parameters) - 1
    while i >= 0:
        if not parameters[i].requires_grad:
            i -= 1
            continue
        bucket, room, dtype = (i,), cap_bytes - parameters[i].nbytes, parameters[i].dtype
        i -= 1
        while i >= 0:
            p = parameters[i]
            if p.requires_grad:
                if p.nbytes > room or p.dtype is not dtype:
                    break
                room -= p.nbytes
                bucket += (i,)
            i -= 1
        result.append(bucket)
    return result


def launch_bucket_first_divided(bucket):
    world = dist.get_world_size()
    flat = torch.cat([(p.detach() * 0 if p.grad is None else p.grad).reshape(-1) for p in bucket]) / world
    handle = dist.all_reduce(flat, async_op=True)

    def done():
        handle.wait()
        at = 0
        for p in bucket:
            piece = flat[at : at + p.numel()].reshape(p.shape)
            if p.grad is None:
                p.grad = piece.clone()
            else:
                p.grad.copy_(piece)
            at += p.numel()

    return done


class LaunchBucket:
    """Not a function, but called like one."""

    def __init__(self, bucket):
        self.bucket = bucket
        self.buffer = torch.zeros(sum(p.numel() for p in bucket), dtype=bucket[0].dtype)
        for view, p in zip(self.views(), bucket, strict=True):
            if p.grad is not None:
                view.copy_(p.grad.flatten())
        self.work = dist.all_reduce(self.buffer, async_op=True)

    def views(self):
        return self.buffer.split([p.numel() for p in self.bucket])

    def __call__(self):
        self.work.wait()
        for view, p in zip(self.views(), self.bucket, strict=True):
            p.grad = view.view_as(p) / dist.get_world_size()


def on_grad_ready_with_sets(buckets, launch):
    waiting = [set(map(id, bucket)) for bucket in buckets]
    state = {"next": 0}

    def hook(p):
        for names in waiting:
            names.discard(id(p))
        while state["next"] < len(buckets) and not waiting[state["next"]]:
            launch(state["next"])
            state["next"] += 1

    for p in itertools.chain.from_iterable(buckets):
        p.register_post_accumulate_grad_hook(hook)

    def rest():
        for k in range(state["next"], len(buckets)):
            launch(k)
        waiting[:] = [set(map(id, bucket)) for bucket in buckets]
        state["next"] = 0

    return rest


class OnGradReady:
    """Hooks that are methods."""

    def __init__(self, buckets, launch):
        self.buckets, self.launch = buckets, launch
        self.clear()
        for k, bucket in enumerate(buckets):
            for p in bucket:
                p.register_post_accumulate_grad_hook(self.hook_of(k))

    def clear(self):
        self.counts, self.launched = [0] * len(self.buckets), 0

    def hook_of(self, k):
        def hook(_):
            self.counts[k] += 1
            self.go(lambda j: self.counts[j] == len(self.buckets[j]))

        return hook

    def go(self, may):
        while self.launched < len(self.buckets) and may(self.launched):
            self.launch(self.launched)
            self.launched += 1

    def __call__(self):
        self.go(lambda j: True)
        self.clear()


def timeline_by_recursion(compute, comm):
    if not compute:
        return 0
    return max(sum(compute), timeline_by_recursion(compute[:-1], comm[:-1])) + comm[-1]


def timeline_by_the_critical_bucket(compute, comm):
    """Before one bucket the network is idle, and after it never again."""
    n = len(compute)
    return max((sum(compute[: k + 1]) + sum(comm[k:]) for k in range(n)), default=0.0)


RIGHT = {
    "make_buckets": [make_buckets_with_a_generator, make_buckets_in_tuples],
    "launch_bucket": [launch_bucket_first_divided, LaunchBucket],
    "on_grad_ready": [on_grad_ready_with_sets, OnGradReady],
    "timeline": [timeline_by_recursion, timeline_by_the_critical_bucket],
}


def launch_bucket_that_never_waits(bucket):
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket])
    dist.all_reduce(flat, async_op=True)

    def finish():
        for p, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            p.grad = (mean / dist.get_world_size()).view_as(p).detach()

    return finish


def launch_bucket_that_waits_at_once(bucket):
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket])
    dist.all_reduce(flat, async_op=True).wait()

    def finish():
        for p, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            p.grad = (mean / dist.get_world_size()).view_as(p).detach()

    return finish


LAZY = {
    "make_buckets": [
        lambda parameters, cap_bytes: [[i] for i in reversed(range(len(parameters)))],
        lambda parameters, cap_bytes: [list(range(len(parameters)))],
        lambda parameters, cap_bytes: None,
        lambda parameters, cap_bytes: [],
    ],
    "launch_bucket": [
        lambda bucket: lambda: None,
        lambda bucket: None,
        launch_bucket_that_never_waits,
        launch_bucket_that_waits_at_once,
    ],
    "on_grad_ready": [
        lambda buckets, launch: lambda: None,
        lambda buckets, launch: lambda: [launch(k) for k in range(len(buckets))],
        lambda buckets, launch: None,
    ],
    "timeline": [
        lambda compute, comm: 0.0,
        lambda compute, comm: sum(comm),
        lambda compute, comm: None,
    ],
}
