"""Exercises of the series ``ddp``: one module for each lesson, and their list in the order of the lessons."""

from autograde.exercises.ddp.averaging import (
    accumulate_no_sync,
    average_gradients,
    broadcast_params,
    loss_factor,
    shard,
)
from autograde.exercises.ddp.buckets import launch_bucket, make_buckets, on_grad_ready, timeline
from autograde.exercises.ddp.real import resume, save_on_rank0, sync_bn_stats, warmup_lr
from autograde.exercises.ddp.ring import (
    all_gather_ring,
    all_reduce_time,
    chunks,
    crossing_bytes,
    reduce_scatter,
    ring_all_reduce,
)

EXERCISES = (
    # 01_gradient_averaging
    loss_factor,
    shard,
    broadcast_params,
    average_gradients,
    accumulate_no_sync,
    # 02_ring
    chunks,
    reduce_scatter,
    all_gather_ring,
    ring_all_reduce,
    all_reduce_time,
    crossing_bytes,
    # 03_buckets
    make_buckets,
    launch_bucket,
    on_grad_ready,
    timeline,
    # 04_real_ddp
    sync_bn_stats,
    save_on_rank0,
    resume,
    warmup_lr,
)
