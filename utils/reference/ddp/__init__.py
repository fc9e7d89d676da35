"""Data parallelism: gradients that are averaged, the ring, buckets that overlap, real processes."""

from utils.reference.ddp.averaging import (
    accumulate_no_sync,
    average_gradients,
    broadcast_params,
    loss_factor,
    shard,
)
from utils.reference.ddp.buckets import launch_bucket, make_buckets, on_grad_ready, timeline
from utils.reference.ddp.real import resume, save_on_rank0, sync_bn_stats, warmup_lr
from utils.reference.ddp.ring import (
    all_gather_ring,
    all_reduce_time,
    chunks,
    crossing_bytes,
    reduce_scatter,
    ring_all_reduce,
)

__all__ = [
    "accumulate_no_sync",
    "all_gather_ring",
    "all_reduce_time",
    "average_gradients",
    "broadcast_params",
    "chunks",
    "crossing_bytes",
    "launch_bucket",
    "loss_factor",
    "make_buckets",
    "on_grad_ready",
    "reduce_scatter",
    "resume",
    "ring_all_reduce",
    "save_on_rank0",
    "shard",
    "sync_bn_stats",
    "timeline",
    "warmup_lr",
]
