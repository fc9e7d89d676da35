"""Data, plots and widgets."""

import subprocess
import sys
from base64 import b64decode

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure

import utils
from utils import data, plotting, widgets
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
    before = bytes(image.value)
    explorer.controls["n"].value = 9
    assert bytes(image.value) != before == explorer.still
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
