"""Exercises of the series ``flash_attention``: one module for each, and their list in the order of the lessons."""

from autograde.exercises.flash_attention.block_scores import block_scores
from autograde.exercises.flash_attention.delta import delta
from autograde.exercises.flash_attention.flash_attention import flash_attention
from autograde.exercises.flash_attention.flash_backward import flash_backward
from autograde.exercises.flash_attention.flash_forward import flash_forward
from autograde.exercises.flash_attention.flash_kernel import flash_kernel
from autograde.exercises.flash_attention.hbm_flash import hbm_flash
from autograde.exercises.flash_attention.hbm_standard import hbm_standard
from autograde.exercises.flash_attention.merge import merge
from autograde.exercises.flash_attention.online_stats import online_stats
from autograde.exercises.flash_attention.safe_softmax import safe_softmax
from autograde.exercises.flash_attention.softmax_backward import softmax_backward
from autograde.exercises.flash_attention.split_k_decode import split_k_decode
from autograde.exercises.flash_attention.visible_tiles import visible_tiles

EXERCISES = (
    # 01_online_softmax
    safe_softmax,
    online_stats,
    merge,
    # 02_tiling
    block_scores,
    visible_tiles,
    flash_forward,
    # 03_backward
    softmax_backward,
    delta,
    flash_backward,
    flash_attention,
    # 04_io_and_gpu
    hbm_standard,
    hbm_flash,
    split_k_decode,
    flash_kernel,
)
