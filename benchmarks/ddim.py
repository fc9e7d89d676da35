"""The grid behind the headline of the series ddim: quality against calls, on the plane and on digits, with several seeds.

    python benchmarks/ddim.py

writes benchmarks/results/ddim.md, in a few minutes on one thread. Where there is an NVIDIA GPU it writes ddim_gpu.md instead: digits
from the large network of notebook 04, which is trained there, and the time of a step. Models, networks, training and controls are
those of the lessons: their cells are executed here, without the demonstrations and the checks. Run it from the root of the repository.
"""

import datetime
import os
import platform
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from tqdm import tqdm

from autograde.course import root
from autograde.progress import write_atomically
from autograde.sources import read_source
from utils.reference.ddim import (
    ddim_sample,
    ddim_step,
    energy_distance,
    eps_loss,
    fused_ddim_step,
    sub_schedule,
)

RESULTS = Path(__file__).parent / "results"
STEPS = (5, 10, 20, 50, 100, 1000)
KINDS = ("0", "0.2", "0.5", "1", "sigma-hat", "own step")
PLANE_SEEDS, DIGIT_SEEDS = range(5), range(3)

Grid = dict[tuple[str, int], list[float]]


def definitions(lesson: str) -> dict[str, Any]:
    """What a lesson defines, with the course's solutions."""
    names: dict[str, Any] = {}
    for cell in read_source(root() / "solutions" / f"{lesson}.py", lesson).cells:
        if cell.kind == "code" and not cell.tags & {"demo", "check"}:
            exec(cell.source, names)
    return names


def plane() -> tuple[Grid, list[float]]:
    """Energy distances of 2000 samples to 4000 points of the mixture, and those of 2000 points (the floor)."""
    lesson = definitions("ddim/03_sampler")
    grid: Grid = {(kind, S): [] for kind in KINDS for S in STEPS}
    floor = []
    for seed in PLANE_SEEDS:
        target = lesson["data_points"](4000, 100 + seed)
        floor.append(float(energy_distance(lesson["data_points"](2000, 200 + seed), target)))
        for kind, S in tqdm(grid, desc=f"plane, seed {seed}"):
            samples, calls = lesson["sample_plane"](kind, S, ddim_step, seed=seed)
            assert calls == S
            grid[kind, S].append(float(energy_distance(samples, target)))
    return grid, floor


def digits(size: str) -> tuple[Grid, Grid, Grid, list[tuple[float, float, float]]]:
    """Energy distance, share of sure samples and kinds of digits for 500 samples of each network; the same of data and Gaussian."""
    lesson = definitions("ddim/04_quality_inversion")
    clean, _ = lesson["pictures"]()
    classifier, _ = lesson["train_classifier"]()
    distance, sure, kinds = ({(kind, S): [] for kind in KINDS for S in STEPS} for _ in range(3))
    for seed in DIGIT_SEEDS:
        network = lesson["train"](eps_loss, lesson[size], seed=seed)
        for kind, S in tqdm(distance, desc=f"digits, seed {seed}"):
            samples, calls = lesson["sample_digits"](
                kind, S, network, ddim_sample, sub_schedule, ddim_step, n=500, seed=seed
            )
            assert calls == S
            found = float(energy_distance(samples.cpu(), clean)), *lesson["judge"](samples, classifier)
            for table, value in zip((distance, sure, kinds), found, strict=True):
                table[kind, S].append(value)
    others = [clean, lesson["gaussian_pictures"](1797)]
    return (
        distance,
        sure,
        kinds,
        [(float(energy_distance(x, clean)), *lesson["judge"](x, classifier)) for x in others],
    )


def table(grid: Grid, form: str) -> list[str]:
    """A grid in Markdown: the mean over the seeds, and the standard deviation in brackets."""
    lines = [
        "| steps = calls | " + " | ".join(f"{S:,}" for S in STEPS) + " |",
        "| --- |" + " ---: |" * len(STEPS),
    ]
    for kind in KINDS:
        name = kind if kind[0] in "so" else f"eta = {kind}"
        cells = [f"{mean(grid[kind, S]):{form}} ({stdev(grid[kind, S]):{form}})" for S in STEPS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def digit_tables(size: str) -> list[str]:
    """The three tables of samples from three networks of one size."""
    distance, sure, kinds, (data, gaussian) = digits(size)
    return [
        "## Digits: energy distance",
        "",
        f"500 samples from each of three networks (the {size.lower()} setting of notebook 04). A Gaussian with the digits' mean and"
        f" covariance: {gaussian[0]:.3f}.",
        "",
        *table(distance, ".3f"),
        "",
        "## Digits: share of samples about which the classifier is sure",
        "",
        f"Of the digits themselves {data[1]:.2f}, of the Gaussian {gaussian[1]:.2f}.",
        "",
        *table(sure, ".2f"),
        "",
        "## Digits: kinds of digits, the exponential of the entropy",
        "",
        f"Of the digits themselves {data[2]:.1f}, of the Gaussian {gaussian[2]:.1f}.",
        "",
        *table(kinds, ".1f"),
    ]


def step_times() -> list[str]:
    """A step in plain PyTorch, and in one kernel: microseconds, and what the kernel reads and writes in a second."""
    from triton.testing import do_bench

    lines = [
        "| numbers | eta | `ddim_step` µs | `fused_ddim_step` µs | ratio | fused GB/s | copy GB/s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for shape in ((64, 3072), (256, 12_288), (256, 196_608)):
        x, eps, noise = (torch.randn(shape, device="cuda") for _ in range(3))
        copied = do_bench(x.clone, return_mode="median")
        for eta in (0.0, 1.0):
            plain, fused = (
                do_bench(lambda: step(x, eps, 0.3, 0.5, eta, noise), return_mode="median")  # noqa: B023
                for step in (ddim_step, fused_ddim_step)
            )
            moved = (4 if eta else 3) * x.numel() * 4 / 1e6
            lines.append(
                f"| {x.numel():,} | {eta:.0f} | {1000 * plain:.1f} | {1000 * fused:.1f} | {plain / fused:.1f} |"
                f" {moved / fused:.0f} | {2 * x.numel() * 4 / 1e6 / copied:.0f} |"
            )
    return lines


def on_a_gpu() -> list[str]:
    """What only a GPU does in reasonable time."""
    return [
        "# Digits from a larger network, and the time of a step",
        "",
        f"{datetime.date.today():%Y-%m-%d}, Python {platform.python_version()}, torch {torch.__version__},"
        f" {torch.cuda.get_device_name()}. Made by `python benchmarks/ddim.py`.",
        "Calls of the network are counted. Means over the seeds, standard deviations in brackets. `sigma-hat` and `own step` are the",
        "controls that the notebooks explain.",
        "",
        *digit_tables("LARGE"),
        "",
        "## A step",
        "",
        "float32, medians by CUDA events. The kernel reads x, eps and, unless eta is 0, noise, and writes the result once; GB/s count these"
        " bytes. Copy: `x.clone()` in the same run.",
        "",
        *step_times(),
    ]


def on_a_cpu() -> list[str]:
    """The plane, and digits from the small network."""
    on_plane, floor = plane()
    return [
        "# Quality against calls, notebooks 03 and 04 of the series ddim",
        "",
        f"{datetime.date.today():%Y-%m-%d}, Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} CPU"
        " cores, one thread. Made by `python benchmarks/ddim.py`.",
        "Calls of the model are counted. Means over the seeds, standard deviations in brackets. The estimates of the energy distance are",
        "unbiased, so they may be negative. `sigma-hat` and `own step` are the controls that the notebooks explain.",
        "",
        "## Eight Gaussians in the plane, exact noise: energy distance",
        "",
        f"2000 samples, five seeds. Two sets of data (the floor): {mean(floor):.4f} ({stdev(floor):.4f}).",
        "",
        *table(on_plane, ".4f"),
        "",
        *digit_tables("SMALL"),
    ]


def main() -> None:
    """Sample, and write the tables."""
    torch.set_num_threads(1)
    name, lines = ("ddim_gpu.md", on_a_gpu) if torch.cuda.is_available() else ("ddim.md", on_a_cpu)
    write_atomically(RESULTS / name, "\n".join(lines()) + "\n")
    print((RESULTS / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
