"""Data, plots and widgets."""

import subprocess
import sys
from base64 import b64decode, b64encode

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure

import utils
from utils import data, plotting, training, widgets
from utils.device import best_device


def test_setup_uses_one_thread_and_seeds_nothing() -> None:
    before = torch.get_rng_state()
    utils.setup()
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert plt.rcParams["figure.facecolor"] == "white"


def test_references_do_not_load_matplotlib() -> None:
    code = "import sys, utils.reference.rnn; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_best_device_can_hold_a_tensor() -> None:
    assert torch.zeros(1, device=best_device()).item() == 0


@pytest.mark.parametrize(("a", "b"), [(0, 0), (27, 14), (2**199 - 1, 1), (2**150 + 3, 2**150 - 5)])
def test_bits_add_like_pythons_integers(a: int, b: int) -> None:
    x = data.pairs(a, b, 201)
    assert [data.from_bits(x[0, :, k]) for k in (0, 1)] == [a, b]
    assert data.from_bits(data.add_bits(x.int())[0][0]) == a + b


def test_to_bits_puts_the_least_significant_first() -> None:
    assert data.to_bits(6, 4).tolist() == [0, 1, 1, 0]


def test_additions_come_from_the_generator() -> None:
    first = data.additions(4, 9, torch.Generator().manual_seed(1))
    second = data.additions(4, 9, torch.Generator().manual_seed(1))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    x, s, c = first
    assert x.shape == (4, 9, 2)
    assert torch.equal((x.sum(-1) + c) % 2, s)


def test_lines_are_padded_behind_their_end() -> None:
    lines = data.pydoc_lines(20)
    assert len(set(lines)) == 20
    assert lines == data.pydoc_lines(20)
    codes, lengths = data.pad_lines(lines)
    assert [bytes(row[:n].tolist()).decode() for row, n in zip(codes, lengths, strict=True)] == lines
    assert torch.equal(codes != 0, data.length_mask(lengths, codes.shape[1]))


def brightness(slope: float, n: int) -> Figure:
    fig, ax = plotting.figure()
    ax.plot([slope * k for k in range(n)])
    plotting.caption(fig, "A line. " * 30)
    return fig


def test_explore_draws_at_the_ends_and_closes_its_figures() -> None:
    plt.close("all")
    explorer = widgets.explore(
        brightness, slope=widgets.slider("slope", 1.0, 0.5, 2.0, 0.1), n=widgets.slider("points", 3, 2, 9, 1)
    )
    assert isinstance(explorer.controls["n"], ipywidgets.IntSlider)
    assert isinstance(explorer.controls["slope"], ipywidgets.FloatSlider)
    for end in ("min", "max"):
        figure = explorer.callback(**{name: getattr(c, end) for name, c in explorer.controls.items()})
        assert isinstance(figure, Figure)
        plt.close(figure)
    image = explorer.view.children[1]
    before = image.value
    assert b64encode(explorer.still).decode() in before
    explorer.controls["n"].value = 9
    assert image.value != before
    assert not plt.get_fignums()


def test_explorer_is_one_output_for_every_front_end() -> None:
    bundle = widgets.explore(
        brightness, slope=widgets.slider("s", 1.0, 0.5, 2.0, 0.1), n=widgets.slider("n", 3, 2, 9, 1)
    )
    bundle = bundle._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "slope=1.0" in bundle["text/plain"]


def test_explore_stops_where_the_callback_fails() -> None:
    def not_written(n: int) -> Figure:
        raise NotImplementedError("exercise 3")

    with pytest.raises(NotImplementedError, match="exercise 3"):
        widgets.explore(not_written, n=widgets.slider("n", 3, 2, 9, 1))


def test_wrong_bits_and_text_can_be_drawn() -> None:
    fig, ax = plotting.figure()
    plotting.bit_rows(
        ax, {"a": torch.tensor([1, 0]), "b": torch.tensor([1, 1])}, truth={"b": torch.tensor([1, 0])}
    )
    assert [patch.get_facecolor()[:3] for patch in ax.patches].count(
        plt.matplotlib.colors.to_rgb(plotting.VERMILLION)
    ) == 1
    assert plotting.png(fig).startswith(b"\x89PNG")
    assert plotting.png(plotting.text_rows(["a $x$ b", "c"], xlabel="t", ylabel="line")).startswith(
        b"\x89PNG"
    )
    plt.close("all")


def test_captions_keep_an_equation_on_one_line_and_leave_formulas_alone() -> None:
    fig, _ = plotting.figure()
    plotting.caption(fig, "See u = 1.5 and $h = 2$. " * 12)
    text = fig.get_supxlabel()
    assert "\n" in text
    assert "u\u00a0=\u00a01.5" in text
    assert "\u00a0" not in text.split("$")[1]
    assert plotting.png(fig).startswith(b"\x89PNG")


def test_fractions_show_zero() -> None:
    fig, ax = plotting.figure()
    ax.plot([0, 1, 2], [0.0, 0.004, 0.3])
    plotting.fractions(ax)
    plotting.label(ax, 2.1, 0.3, "window", plotting.BLUE)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "0.001", "0.01", "0.1", "1"]
    assert ax.get_ylim()[0] < 0 < 1 < ax.get_ylim()[1]
    assert plotting.png(fig).startswith(b"\x89PNG")


def test_states_and_their_map_can_be_drawn() -> None:
    fig, (left, right) = plotting.figure(1, 2)
    h = torch.linspace(-1, 1, 11)
    plotting.step_map(left, h, torch.tanh(h), path=torch.tensor([0.5, 0.4, 0.3]))
    assert [line.get_color() for line in left.lines] == [
        plotting.GREY,
        plotting.BLUE,
        plotting.ORANGE,
        plotting.ORANGE,
    ]
    assert len(left.lines[2].get_xdata()) == 5
    plotting.unit_states(
        right, torch.rand(6, 3), ["a", "b", "c"], bold=1, marks=torch.tensor([0, 0, 1, 0, 1, 0])
    )
    assert right.lines[1].get_linewidth() == max(line.get_linewidth() for line in right.lines[:3])
    assert list(right.lines[3].get_xdata()) == [2, 4]
    assert plotting.png(fig).startswith(b"\x89PNG")


def test_two_groups_can_be_drawn() -> None:
    fig, ax = plotting.figure()
    groups = {"no": torch.tensor([-1.0, -0.9]), "yes": torch.tensor([1.0])}
    plotting.two_histograms(ax, groups, torch.linspace(-2, 2, 9), xlabel="state", ylabel="count")
    assert sum(patch.get_height() for patch in ax.patches) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no", "yes"]
    assert plotting.png(fig).startswith(b"\x89PNG")


def test_figures_are_shown_with_their_caption_as_alternative_text() -> None:
    fig, ax = plotting.figure()
    plotting.caption(fig, 'The line $x = 1$ is "steep" & long.')
    bundle = plotting.mime_bundle(fig)
    assert 'alt="The line x = 1 is &quot;steep&quot; &amp; long."' in bundle["text/html"]
    assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    plotting.png(fig)


def test_a_figure_without_a_caption_is_described_by_its_axes() -> None:
    fig, ax = plotting.figure()
    assert plotting.alternative_text(fig) == "Figure"
    ax.set(xlabel="time t", ylabel="error")
    assert plotting.alternative_text(fig) == "Figure: error against time t"
    plotting.png(fig)


def test_the_picture_of_an_interactive_figure_has_alternative_text_that_follows_it() -> None:
    def callback(n: int) -> Figure:
        fig, ax = plotting.figure()
        plotting.caption(fig, f"n is {n}.")
        return fig

    control = widgets.slider("n", 3, 1, 5, 1)
    explorer = widgets.explore(callback, n=control)
    image = explorer.view.children[-1]
    assert 'alt="n is 3."' in image.value
    control.value = 5
    assert 'alt="n is 5."' in image.value


@pytest.mark.parametrize("steps", [None, 20])
def test_adam_is_torchs(steps):
    """30 steps on a bowl, with one parameter that never gets a gradient, also past the end of the falling rate."""
    target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mine, torchs = (torch.zeros(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    idle = torch.ones(2, requires_grad=True)
    ours, theirs = training.Adam([mine, idle], lr=0.05, steps=steps), torch.optim.Adam([torchs], lr=0.05)
    falls = torch.optim.lr_scheduler.LinearLR(theirs, 1.0, 0.05, total_iters=steps) if steps else None
    for _ in range(30):
        for point in (mine, torchs):
            point.grad = None
            ((point - target) ** 4).sum().backward()
        ours.step()
        theirs.step()
        if falls is not None:
            falls.step()
        torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-12)
    assert mine.grad is None
    assert bool((idle == 1).all())
