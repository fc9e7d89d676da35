"""The full grid behind notebook 04 of the series rnn: bits per character of an RNN, a GRU and an LSTM.

Every cell has about the same number of weights, sees the same windows in the same order, and is trained for the same
number of steps; three seeds. The control is the RNN whose state is set to zero before every character.

    python benchmarks/rnn_char_lm.py --steps 3000

writes benchmarks/results/rnn_char_lm.md. With `--units 128` every cell has that many units, so that the gated ones have more
weights; the table is then benchmarks/results/rnn_char_lm_units.md. Run it from the root of the repository.
"""

import argparse
import bz2
import datetime
import gzip
import lzma
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from utils import data
from utils.device import best_device
from utils.reference.rnn import (
    bigram_bits,
    bits_per_char,
    conditional_entropy,
    gru_step,
    lstm_step,
    rnn_step,
    sample_batch,
)

RESULTS = Path(__file__).parent / "results" / "rnn_char_lm.md"
EMBEDDING = 32
CELLS = {"no state": ("rnn", 128), "RNN": ("rnn", 128), "GRU": ("gru", 77), "LSTM": ("lstm", 66)}
STEPS: dict[str, Callable[..., Any]] = {"rnn": rnn_step, "gru": gru_step, "lstm": lstm_step}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def new_weights(kind: str, hidden: int, symbols: int, seed: int) -> dict[str, Tensor]:
    """Random weights of a character model: embedding, cell and readout."""
    gen, rows = torch.Generator().manual_seed(seed), GATES[kind] * hidden
    shapes = {
        "W_ih": (rows, EMBEDDING),
        "W_hh": (rows, hidden),
        "b_ih": (rows,),
        "b_hh": (rows,),
        "W_out": (symbols, hidden),
        "b_out": (symbols,),
    }
    weights = {"embedding": torch.randn(symbols, EMBEDDING, generator=gen)}
    for name, shape in shapes.items():
        weights[name] = (2 * torch.rand(shape, generator=gen) - 1) / hidden**0.5
    if kind == "lstm":
        weights["b_ih"][hidden : 2 * hidden] += 1  # the forget gate starts open
    return weights


def logits_of(kind: str, weights: dict[str, Tensor], x: Tensor, carried: bool) -> Tensor:
    """The logits at every position; the state starts at zero, and, where it is not carried, is zero at every step."""
    step = STEPS[kind]
    cell = [weights[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")]
    inputs = weights["embedding"][x]
    if not carried:
        inputs = inputs.flatten(0, 1)[:, None]
    zeros = weights["embedding"].new_zeros(len(inputs), cell[1].shape[1])
    state, outs = ((zeros, zeros) if kind == "lstm" else zeros), []
    for x_t in inputs.unbind(1):
        state = step(x_t, state, *cell)
        outs.append(state[0] if kind == "lstm" else state)
    return torch.stack(outs, 1).reshape(*x.shape, -1) @ weights["W_out"].T + weights["b_out"]


def train(
    logits: Callable[[Tensor], Tensor],
    weights: dict[str, Tensor],
    ids: Tensor,
    args: argparse.Namespace,
    seed: int,
    label: str,
) -> None:
    """Adam on random windows, with clipped gradients and a rate that falls linearly."""
    parameters = [value.requires_grad_() for value in weights.values()]
    optimiser = torch.optim.Adam(parameters, lr=args.rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=args.steps)
    gen = torch.Generator().manual_seed(1000 + seed)
    for _ in tqdm(range(args.steps), desc=label):
        x, y = sample_batch(ids, args.batch, args.time, gen)
        loss = bits_per_char(logits(x), y)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()


def held_out_bits(logits: Callable[[Tensor], Tensor], ids: Tensor, streams: int = 32) -> float:
    """Bits per character on a text cut into parallel streams, each read from its beginning to its end."""
    length = (len(ids) - 1) // streams
    with torch.no_grad():
        return bits_per_char(
            logits(ids[: streams * length].view(streams, length)),
            ids[1 : streams * length + 1].view(streams, length),
        ).item()


def compressed_bits(train_text: str, val_text: str) -> dict[str, float]:
    """What each compressor of the standard library adds to its file for the held-out text, in bits per character."""
    tools: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    }
    both, first = (train_text + val_text).encode(), train_text.encode()
    return {name: 8 * (len(tool(both)) - len(tool(first))) / len(val_text) for name, tool in tools.items()}


def blended_bits(train_ids: Tensor, val_ids: Tensor, symbols: int, order: int) -> float:
    """Tables of 0 to `order` characters, blended by the rule of Witten and Bell (1991), on the held-out text."""
    p = torch.full((len(val_ids) - order,), 1 / symbols, dtype=torch.float64)
    for k in range(order + 1):
        contexts, pairs = context_numbers(train_ids, k, k, symbols)
        asked, asked_pairs = context_numbers(val_ids, k, order, symbols)
        seen, times = contexts.unique(return_counts=True)
        seen_pairs, pair_times = pairs.unique(return_counts=True)
        followers = (seen_pairs // symbols).unique(return_counts=True)[1]
        n, t = find(seen, times, asked), find(seen, followers, asked)
        both = find(seen_pairs, pair_times, asked_pairs)
        p = torch.where(n > 0, (both + t * p) / (n + t).clamp(min=1), p)
    return -p.log2().mean().item()


def context_numbers(ids: Tensor, k: int, start: int, symbols: int) -> tuple[Tensor, Tensor]:
    """For each position from `start` on, the k characters before it as one number, and with the character itself."""
    number = torch.zeros(len(ids) - start, dtype=torch.int64)
    for back in range(k, 0, -1):
        number = number * symbols + ids[start - back : len(ids) - back]
    return number, number * symbols + ids[start:]


def find(keys: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """values[keys == asked] for sorted keys, 0 where there is none."""
    place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == asked, values[place], 0)


def main() -> None:
    """Train the grid and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--time", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--device", default=str(best_device()))
    parser.add_argument(
        "--units", type=int, help="the same number of units for every cell, instead of about as many weights"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.out = args.out or (RESULTS.with_stem("rnn_char_lm_units") if args.units else RESULTS)
    cells = {name: (name.lower(), args.units) for name in ("RNN", "GRU", "LSTM")} if args.units else CELLS
    torch.set_num_threads(1)

    text = "\n\n".join(dict.fromkeys(data.pydoc_text().split("\n\n")))  # every paragraph once
    ids, alphabet = data.encode_text(text)
    cut, symbols = len(ids) * 9 // 10, len(alphabet)
    train_ids, val_ids = ids[:cut], ids[cut:]
    rows = [
        ("table of pairs, add one", f"{symbols**2:,}", f"{bigram_bits(train_ids, val_ids, symbols):.3f}"),
        ("least for a model of one character", "-", f"{conditional_entropy(val_ids, symbols):.3f}"),
        ("tables of up to 4 characters, blended", "-", f"{blended_bits(train_ids, val_ids, symbols, 4):.3f}"),
    ]
    rows += [(name, "-", f"{bits:.3f}") for name, bits in compressed_bits(text[:cut], text[cut:]).items()]
    for name, (kind, hidden) in cells.items():
        found = []
        for seed in range(args.seeds):
            fresh = new_weights(kind, hidden, symbols, seed)
            weights = {key: value.to(args.device) for key, value in fresh.items()}
            on_device = train_ids.to(args.device)

            def logits(
                x: Tensor,
                kind: str = kind,
                weights: dict[str, Tensor] = weights,
                carried: bool = name != "no state",
            ) -> Tensor:
                return logits_of(kind, weights, x, carried)

            train(logits, weights, on_device, args, seed, f"{name}, seed {seed}")
            found.append(held_out_bits(logits, val_ids.to(args.device)))
            size = sum(value.numel() for value in weights.values())
        rows.append((f"{name}, {hidden} units", f"{size:,}", ", ".join(f"{bits:.3f}" for bits in found)))
        print(rows[-1], flush=True)
    write(args, rows, len(text), symbols)


def write(args: argparse.Namespace, rows: list[tuple[str, str, str]], characters: int, symbols: int) -> None:
    """The table, written beside its place first and then moved there."""
    machine = (
        torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{os.cpu_count()} CPU cores"
    )
    lines = [
        "# Bits per character, notebook 04 of the series rnn",
        "",
        f"{characters:,} characters ({symbols} symbols) of the language reference of Python {platform.python_version()},"
        " every paragraph once; the last tenth is held out.",
        f"{args.steps:,} steps of Adam (rate {args.rate:g}, falling linearly to a twentieth), {args.batch} windows of"
        f" {args.time} characters, gradients clipped to norm 1, embedding of {EMBEDDING}.",
        f"{datetime.date.today():%Y-%m-%d}, torch {torch.__version__}, {machine}, one thread."
        f" Made by `python benchmarks/rnn_char_lm.py{f' --units {args.units}' if args.units else ''}`.",
        "",
        f"| model | numbers | held-out bits per character (networks: seeds 0 to {args.seeds - 1}) |",
        "| --- | ---: | --- |",
        *(f"| {name} | {size} | {bits} |" for name, size, bits in rows),
        "",
        "A compressor is measured by what the held-out text adds to the compressed training text. The control"
        ' "no state" is the RNN with its state set to zero before every character.',
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(temporary, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
