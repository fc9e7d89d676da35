"""How far one unit sees, from the geometry of the layers alone. All positions are whole pixels along one axis.

Sources: Araujo, Norris, Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019 (single path: both
recursions and the closed form; arbitrary graphs), Dumoulin and Visin, A guide to convolution arithmetic for deep learning,
2016 (transposed convolutions).
"""

from collections.abc import Callable

Layer = tuple[int, int, int, int]
"""Kernel, stride, padding in front, dilation: the order of ``torch.nn.Conv2d``."""
Reads = Callable[[int, int], tuple[int, int]]
"""What a layer reads: maps the first and the last of some neighbouring outputs to the first and the last input."""
Graph = dict[str, tuple[list[str], Reads | None]]
"""Node -> (names of its inputs, what it reads from each of them). The image comes first and has ([], None)."""


def effective_kernel(k: int, d: int) -> int:
    """Positions from the first to the last tap of a kernel with k taps that are d positions apart: K = d (k - 1) + 1."""
    return d * (k - 1) + 1


def rf_top_down(layers: list[Layer]) -> int:
    """Receptive field in pixels of one unit after the last layer: m <- (m - 1) s + K, from the top to the image."""
    m = 1
    for k, s, _, d in reversed(layers):
        m = (m - 1) * s + effective_kernel(k, d)
    return m


def rf_bottom_up(layers: list[Layer]) -> tuple[int, int, int]:
    """(receptive field, jump, start): r <- r + (K - 1) j, a <- a - p j, then j <- j s, from the image to the top.

    Unit u reads from pixel ``start + u * jump`` on, ``rf`` pixels.
    """
    r, j, start = 1, 1, 0
    for k, s, p, d in layers:
        r += (effective_kernel(k, d) - 1) * j
        start -= p * j
        j *= s
    return r, j, start


def rf_equal_layers(n: int, k: int, s: int, d: int) -> int:
    """Receptive field of n equal layers: 1 + (K - 1) (s^n - 1) / (s - 1), and 1 + n (K - 1) for stride 1."""
    terms = n if s == 1 else (s**n - 1) // (s - 1)
    return 1 + d * (k - 1) * terms


def upsampling_reads(k: int, s: int, p: int, first: int, last: int) -> tuple[int, int]:
    """What the outputs ``first`` to ``last`` of a transposed convolution read: i with i s - p <= o <= i s - p + k - 1."""
    return -((k - 1 - first - p) // s), (last + p) // s


def rf_dag(graph: Graph, unit: int) -> tuple[int, int]:
    """First and last pixel that a unit of the graph's last node depends on; every node is visited once, from the top."""
    names = list(graph)
    need = {names[-1]: (unit, unit)}
    for name in reversed(names):
        inputs, reads = graph[name]
        if name in need and reads is not None:
            first, last = reads(*need[name])
            for source in inputs:
                low, high = need.get(source, (first, last))
                need[source] = min(low, first), max(high, last)
    return need[names[0]]
