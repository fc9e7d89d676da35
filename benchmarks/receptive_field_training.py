"""The full grid behind the last section of notebook 03 of the series receptive_field: what training does to the view of one unit.

Residual and plain networks of six layers of kernel 3, down to one unit, are trained on the digits of scikit-learn (8 by 8, drawn at
13 by 13): to say which digit it is, and, as a control, to report the central pixel. For each the standard deviation of the
influence (squared gradients, 297 held-out images) before and after training.

    python benchmarks/receptive_field_training.py --steps 400 --seeds 5

writes benchmarks/results/receptive_field_training.md. Run it from the root of the repository.
"""

import argparse
import datetime
import os
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

from utils.reference.receptive_field import erf_map, erf_size, erf_std, predicted_std

RESULTS = Path(__file__).parent / "results" / "receptive_field_training.md"
SIDE, TRAINED = 13, 1500


class OneUnit(nn.Module):
    """Blocks of two convolutions without padding, down to a single unit; with or without skip connections.

    In residual networks the last convolution of each block starts at ``scale`` of its usual size.
    """

    def __init__(
        self, residual: bool, outputs: int, seed: int, scale: float, blocks: int = 3, channels: int = 8
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.residual, self.first = residual, nn.Conv2d(1, channels, 1)
        self.a = nn.ModuleList(nn.Conv2d(channels, channels, 3) for _ in range(blocks))
        self.b = nn.ModuleList(nn.Conv2d(channels, channels, 3) for _ in range(blocks))
        self.last = nn.Conv2d(channels, outputs, 1)
        for convolution in (self.first, *self.a, *self.b, self.last):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
        for convolution in self.b:
            convolution.weight.data *= scale if residual else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """[images, outputs, 1, 1] for images of 13 by 13."""
        x = self.first(x)
        for a, b in zip(self.a, self.b, strict=True):
            inside = b(F.relu(a(F.relu(x))))
            x = x[:, :, 2:-2, 2:-2] + inside if self.residual else inside
        return self.last(x)


def digit_images() -> tuple[Tensor, Tensor]:
    """The digits in random order, enlarged, with mean 0 and standard deviation 1; and what they show."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images).float()[order, None]
    x = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear")
    return (x - x.mean()) / x.std(), torch.tensor(digits.target)[order]


def train(net: OneUnit, task: str, x: Tensor, digit: Tensor, steps: int, seed: int, label: str) -> float:
    """Adam on the first 1500 images; the fraction of right digits, or the squared error, on the others."""
    middle, gen = x[:, 0, SIDE // 2, SIDE // 2], torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.005)
    for _ in trange(steps, desc=label):
        i = torch.randint(0, TRAINED, (64,), generator=gen)
        out = net(x[i])[:, :, 0, 0]
        loss = F.cross_entropy(out, digit[i]) if task == "digit" else F.mse_loss(out[:, 0], middle[i])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        out = net(x[TRAINED:])[:, :, 0, 0]
    if task == "digit":
        return (out.argmax(1) == digit[TRAINED:]).float().mean().item()
    return F.mse_loss(out[:, 0], middle[TRAINED:]).item()


def main() -> None:
    """Train the grid and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, digit = digit_images()
    kinds = (
        ("residual, blocks start at 0.3", True, 0.3),
        ("residual, blocks start at 1", True, 1.0),
        ("plain", False, 1.0),
    )
    lines = []
    for name, residual, scale in kinds:
        for task in ("digit", "pixel"):
            for seed in range(args.seeds):
                net = OneUnit(residual, 10 if task == "digit" else 1, seed, scale)
                before = erf_map(net, x[TRAINED:], 2)
                result = train(net, task, x, digit, args.steps, seed, f"{name}, {task}, seed {seed}")
                after = erf_map(net, x[TRAINED:], 2)
                outcome = f"{result:.0%} right" if task == "digit" else f"squared error {result:.4f}"
                lines.append(
                    f"| {name} | {task} | {seed} | {erf_std(before):.2f} | {erf_std(after):.2f} |"
                    f" {erf_size(before, 0.9545):.1f} | {erf_size(after, 0.9545):.1f} | {outcome} |"
                )
                print(lines[-1], flush=True)
    write(args, lines)


def write(args: argparse.Namespace, lines: list[str]) -> None:
    """The table, written beside its place first and then moved there."""
    text = [
        "# What training does to the view of one unit, notebook 03 of the series receptive_field",
        "",
        "Six layers of kernel 3 (theoretical field 13 by 13 pixels), 8 channels, ReLU, read at one unit; digits of scikit-learn at 13 by 13.",
        f"{args.steps:,} steps of Adam (rate 0.005), batches of 64 of {TRAINED} images; everything is measured on the other 297.",
        f"Predicted for equal weights without skips: standard deviation {predicted_std([(3, 1, 0, 1)] * 6):.2f}.",
        f"{datetime.date.today():%Y-%m-%d}, torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPU cores, one thread."
        f" Made by `python benchmarks/receptive_field_training.py --steps {args.steps} --seeds {args.seeds}`.",
        "",
        "| network | task | seed | std before | std after | size before | size after | result |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *lines,
        "",
        "Standard deviation and size (95.45 %) of the mean squared gradient of the unit, in pixels.",
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    os.replace(temporary, RESULTS)
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
