"""How the figures of this course look, and the few kinds of figures that many notebooks need."""

import io
import math
import textwrap
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import torch
from cycler import cycler
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

# The palette of Okabe and Ito, made to be told apart with any common form of colour blindness.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#6E6E6E"
PALE = "#E6E6E6"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK)

# For values between -1 and 1: vermillion, white, blue; pale grey where there is none.
_diverging = LinearSegmentedColormap.from_list("rederive_diverging", [VERMILLION, "#FFFFFF", BLUE])
DIVERGING = _diverging.with_extremes(bad=PALE)


def style() -> None:
    """Set the course's matplotlib style: opaque white figures, which read on light and on dark pages."""
    plt.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "figure.dpi": 110,
            "figure.max_open_warning": 0,
            "font.size": 10.5,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10.5,
            "legend.fontsize": 9.5,
            "legend.frameon": False,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=PALETTE),
            "lines.linewidth": 1.8,
            "lines.markersize": 4.5,
        }
    )
    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        shell.display_formatter.mimebundle_formatter.for_type(Figure, mime_bundle)


def figure(
    rows: int = 1, cols: int = 1, width: float = 8.5, height: float = 3.2, **options: Any
) -> tuple[Figure, Any]:
    """A figure (inches) and its axes, as plt.subplots returns them, with room for labels and a caption."""
    return plt.subplots(rows, cols, figsize=(width, height), layout="constrained", **options)


def caption(fig: Figure, text: str) -> None:
    """Write under a figure what to look at, wrapped to the figure's width. "u = 1.5" stays on one line.

    The caption is also the picture's alternative text, which a screen reader reads.
    """
    fig.set_label(text)
    parts = text.split("$")  # every second part is a formula
    parts[::2] = [part.replace(" = ", "\u00a0=\u00a0") for part in parts[::2]]
    lines = textwrap.wrap("$".join(parts), int(fig.get_figwidth() * 13.5))
    fig.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=9.5, color="#404040", linespacing=1.4)


def label(ax: Axes, x: float, y: float, text: str, color: str) -> None:
    """Write a name beside a line, in place of a legend; (x, y) is the middle of the text's left edge."""
    ax.annotate(text, (x, y), color=color, va="center", annotation_clip=False)


def fractions(ax: Axes, lowest: float = 1e-3) -> None:
    """Make y a logarithmic axis for fractions that shows zero too: it is linear below `lowest`."""
    ticks = [0.0, *(10.0**k for k in range(round(math.log10(lowest)), 1))]
    ax.set_yscale("symlog", linthresh=lowest, linscale=0.6)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set(ylim=(-0.25 * lowest, 1.3))


def step_map(ax: Axes, before: Tensor, after: Tensor, *, path: Tensor | None = None) -> None:
    """Draw one step of a state as a curve (after against before) with the diagonal, and the path that a state takes."""
    ax.plot(before, before, color=GREY, linewidth=1)
    ax.plot(before, after, color=BLUE)
    if path is not None:
        corners = path.repeat_interleave(2)
        ax.plot(corners[:-1], corners[1:], color=ORANGE, linewidth=1.2)
        ax.plot(path[:1], path[:1], "o", color=ORANGE)
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])


def unit_states(ax: Axes, states: Tensor, names: Sequence[str], *, bold: int, marks: Tensor) -> None:
    """Draw units over time [time, units], one of them in bold orange; a tick at the bottom where marks is not 0."""
    others = iter((SKY, GREEN, PURPLE, BLUE))
    for k, name in enumerate(names):
        if k == bold:
            ax.plot(states[:, k], label=name, color=ORANGE, linewidth=2.5)
        else:
            ax.plot(states[:, k], label=name, color=next(others), linewidth=1.3)
    where = marks.nonzero()[:, 0]
    ax.plot(where, torch.full(where.shape, -1.2), "|", color=VERMILLION, markersize=9, markeredgewidth=1.5)
    ax.set(xlabel="bit position t", ylabel="state", ylim=(-1.3, 1.1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def two_histograms(
    ax: Axes, groups: Mapping[str, Tensor], edges: Tensor, *, xlabel: str, ylabel: str
) -> None:
    """Draw how two named groups of numbers are distributed: the first orange-red, the second blue."""
    for (name, values), color in zip(groups.items(), (VERMILLION, BLUE), strict=True):
        ax.hist(values.numpy(), edges.tolist(), color=color, alpha=0.75, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(loc="upper center")


def heatmap(
    ax: Axes,
    values: Tensor,
    *,
    xlabel: str,
    ylabel: str,
    row_labels: Sequence[str] | None = None,
    bar_label: str | None = None,
    limit: float = 1.0,
) -> AxesImage:
    """Draw a matrix with values between -limit and limit; NaN is pale grey. Rows run downwards."""
    image = ax.imshow(values.detach().cpu(), cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if row_labels is not None:
        ax.set_yticks(range(len(row_labels)), row_labels)
    ax.tick_params(length=0)
    if bar_label is not None:
        ax.figure.colorbar(image, ax=ax, label=bar_label, ticks=[-limit, 0, limit], pad=0.01)
    return image


def bit_rows(ax: Axes, rows: Mapping[str, Tensor], *, truth: Mapping[str, Tensor] | None = None) -> None:
    """Draw named rows of bits as squares, bit 0 on the left; bits that differ from `truth[name]` are marked."""
    truth = truth or {}
    time = 0
    for y, (name, bits) in enumerate(rows.items()):
        time = max(time, len(bits))
        for t, bit in enumerate(torch.as_tensor(bits).int().tolist()):
            wrong = name in truth and bit != int(truth[name][t])
            face = VERMILLION if wrong else (BLUE if bit else "white")
            ax.add_patch(
                Rectangle((t - 0.45, y - 0.4), 0.9, 0.8, facecolor=face, edgecolor=GREY, linewidth=0.8)
            )
            ax.text(
                t, y, str(bit), ha="center", va="center", fontsize=9, color="white" if bit or wrong else BLACK
            )
    ax.set(
        xlim=(-0.6, time - 0.4), ylim=(len(rows) - 0.45, -0.55), xlabel="bit position t (bit 0 comes first)"
    )
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_xticks(range(0, time, 1 if time <= 16 else 5))
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


def text_rows(lines: Sequence[str], *, xlabel: str, ylabel: str) -> Figure:
    """Draw lines of text as a padded batch: one character per column, grey where a line has ended."""
    time = max(len(line) for line in lines)
    fig, ax = figure(width=10, height=0.6 + 0.24 * len(lines))
    for y, line in enumerate(lines):
        ax.add_patch(Rectangle((len(line) - 0.5, y - 0.45), time - len(line), 0.9, facecolor=PALE))
        for x, character in enumerate(line):
            ax.text(
                x, y, character, ha="center", va="center", fontsize=8, family="monospace", parse_math=False
            )
    ax.set(xlim=(-0.7, time - 0.3), ylim=(len(lines) - 0.4, -0.6), xlabel=xlabel, ylabel=ylabel, yticks=[])
    ax.spines["left"].set_visible(False)
    return fig


def alternative_text(fig: Figure) -> str:
    """What a screen reader says in place of a figure: its caption, otherwise what its axes are."""
    text = str(fig.get_label() or "")
    if not text:
        axes = [f"{ax.get_ylabel()} against {ax.get_xlabel()}" for ax in fig.axes if ax.get_xlabel()]
        text = "Figure: " + "; ".join(axes) if axes else "Figure"
    return text.replace("$", "").replace("\\", "")


def img(picture: bytes, alt: str) -> str:
    """An HTML image element that holds a PNG picture and its alternative text."""
    source = b64encode(picture).decode("ascii")
    return f'<img src="data:image/png;base64,{source}" alt="{escape(alt)}" style="max-width:100%">'


def mime_bundle(fig: Figure, **_: Any) -> dict[str, Any]:
    """How a notebook shows a figure: as HTML with alternative text, and as a plain picture where there is no HTML."""
    picture = io.BytesIO()
    fig.savefig(picture, format="png", bbox_inches="tight")
    alt = alternative_text(fig)
    return {
        "text/html": img(picture.getvalue(), alt),
        "image/png": b64encode(picture.getvalue()).decode("ascii"),
        "text/plain": alt,
    }


def png(fig: Figure) -> bytes:
    """The figure as a PNG picture. Closes the figure."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", facecolor="white")
    plt.close(fig)
    return buffer.getvalue()
