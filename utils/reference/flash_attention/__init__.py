"""Exact attention in tiles: the references of the series ``flash_attention``.

``tiled`` has them in PyTorch. ``kernels`` has the same forward and backward pass as Triton kernels; it needs Triton, so it is
imported only by whoever uses it.
"""

from utils.reference.flash_attention.tiled import (
    block_scores,
    delta,
    flash_attention,
    flash_backward,
    flash_forward,
    flash_kernel,
    hbm_flash,
    hbm_standard,
    merge,
    online_stats,
    safe_softmax,
    softmax_backward,
    split_k_decode,
    visible_tiles,
)

__all__ = [
    "block_scores",
    "delta",
    "flash_attention",
    "flash_backward",
    "flash_forward",
    "flash_kernel",
    "hbm_flash",
    "hbm_standard",
    "merge",
    "online_stats",
    "safe_softmax",
    "softmax_backward",
    "split_k_decode",
    "visible_tiles",
]
