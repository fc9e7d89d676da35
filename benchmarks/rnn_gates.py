"""What notebook 03 of the series rnn says about more seeds, other learning rates and longer training.

    python benchmarks/rnn_gates.py

writes benchmarks/results/rnn_gates.md, in a few minutes on one thread. The networks, the data and the training are those of
the lesson: its cells are executed here, without the demonstrations and the checks. Run it from the root of the repository.
"""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import torch

from autograde.course import root
from autograde.progress import write_atomically
from autograde.sources import read_source
from utils.reference.rnn import rnn_step

LESSON = "rnn/03_gates"
RESULTS = Path(__file__).parent / "results" / "rnn_gates.md"
SEEDS = range(3)
GATED_RATE, ELMAN_RATES = 0.06, (0.003, 0.01, 0.03)
EASY_RATES = (0.003, 0.01, 0.02, 0.03)
STEPS, GRU_STEPS, MANY_STEPS, EASY_STEPS = 150, 100, 1000, 200

Row = tuple[str, float, int, list[float], list[float]]
"""Kind, learning rate, training steps; of each network the right answers: all, and where the second bit is not the first."""


def definitions() -> dict[str, Any]:
    """What the lesson defines, with the course's solutions."""
    names: dict[str, Any] = {}
    for cell in read_source(root() / "solutions" / f"{LESSON}.py", LESSON).cells:
        if cell.kind == "code" and not cell.tags & {"demo", "check"}:
            exec(cell.source, names)
    return names


def trained(lesson: dict[str, Any], kind: str, rate: float, steps: int, seed: int) -> dict[str, Any]:
    """Three networks of each start of one kind ("Elman", "LSTM", "GRU"), trained on the task with a second bit."""
    step, weights = lesson["all_networks"](rnn_step, seed)[kind]
    label = f"{kind}, rate {rate:g}, {steps} steps, seed {seed}"
    lesson["train"](step, weights, 40, 2 / 3, lr=rate, label=label, updates=steps, seed=seed)
    return {kind: lesson["right_answers"](step, weights)}


def hard(lesson: dict[str, Any]) -> list[Row]:
    """The lesson's table with three seeds, with other rates for the Elman networks, and with more steps for seed 0."""
    plans = [("Elman", rate, STEPS, SEEDS) for rate in ELMAN_RATES]
    plans += [("LSTM", GATED_RATE, STEPS, SEEDS), ("GRU", GATED_RATE, GRU_STEPS, SEEDS)]
    plans += [("Elman", 0.01, MANY_STEPS, range(1)), ("LSTM", GATED_RATE, MANY_STEPS, range(1))]
    names = {"Elman": ["Elman", "Elman, orthogonal"], "GRU": ["GRU, bias derived"]}
    names["LSTM"] = [name for name in lesson["COLORS"] if name.startswith("LSTM")]
    rows: list[Row] = []
    for kind, rate, steps, seeds in plans:
        found = [trained(lesson, kind, rate, steps, seed)[kind] for seed in seeds]
        for k, name in enumerate(names[kind]):
            every, second = (
                [value for run in found for value in run[part][3 * k : 3 * k + 3].tolist()] for part in (0, 1)
            )
            rows.append((name, rate, steps, every, second))
    return rows


def easy(lesson: dict[str, Any]) -> list[Row]:
    """Elman networks, the first bit alone, 40 steps: the right answers in the last 20 batches."""
    rows: list[Row] = []
    for rate in EASY_RATES:
        found: list[float] = []
        for seed in SEEDS:
            weights = lesson["new_networks"](1, 18, 3, seed)
            label = f"one bit, rate {rate:g}, seed {seed}"
            right, _ = lesson["train"](rnn_step, weights, 40, 0.0, rate, label, EASY_STEPS, seed)
            found += right[-20:].mean(0).tolist()
        rows.append(("Elman", rate, EASY_STEPS, found, []))
    return rows


def table(rows: list[Row]) -> list[str]:
    """The rows in Markdown; results are sorted, the two parts each for itself."""
    lines = []
    for name, rate, steps, *parts in rows:
        values = (" ".join(f"{value:.3f}" for value in sorted(part)) for part in parts if part)
        lines.append(f"| {name} | {rate:g} | {steps:,} | " + " | ".join(values) + " |")
    return lines


def main() -> None:
    """Train, and write the tables."""
    torch.set_num_threads(1)
    lesson = definitions()
    lines = [
        "# Right answers, notebook 03 of the series rnn",
        "",
        f"{datetime.date.today():%Y-%m-%d}, Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} CPU"
        " cores, one thread. Made by `python benchmarks/rnn_gates.py`.",
        "Rounding differs between machines, and decides what the networks between a coin and the solution do.",
        "",
        "## A bit that may be replaced, 40 steps",
        "",
        "Three networks for each seed: seeds 0 to 2 where there are nine, seed 0 where there are three. 2000 new sequences.",
        "",
        "| kind | rate | steps | right, all sequences | right where the second bit is not the first |",
        "| --- | ---: | ---: | --- | --- |",
        *table(hard(lesson)),
        "",
        "## One bit, 40 steps: the beginning of the lesson",
        "",
        "Nine networks, seeds 0 to 2; the mean of the last 20 batches.",
        "",
        "| kind | rate | steps | right |",
        "| --- | ---: | ---: | --- |",
        *table(easy(lesson)),
    ]
    write_atomically(RESULTS, "\n".join(lines) + "\n")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
