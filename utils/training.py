"""What the training loops of the notebooks share."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = 0.9, 0.999
EPSILON = 1e-8


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1), with a rate that may fall linearly to a twentieth.

    The same numbers as `torch.optim.Adam`, with `LinearLR(optimiser, 1.0, 0.05, total_iters=steps)` where `steps` is given.
    That one imports PyTorch's compiler when it is made, which takes longer than most trainings of this course.

    Arguments:
        parameters: tensors that are changed in place.
        lr: the learning rate, at the first step.
        steps: after this many steps the rate is a twentieth of `lr`, and stays there. None: it does not change.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, steps: int | None = None) -> None:
        self.parameters = list(parameters)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.lr, self.steps, self.done = lr, steps, 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.lr if self.steps is None else self.lr * (1 - 0.95 * min(self.done / self.steps, 1))

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter by its `.grad`, and take the gradient away. Parameters without one stay as they are."""
        rate, (beta, gamma) = self.rate, BETAS
        self.done += 1
        size = rate / (1 - beta**self.done)
        root = math.sqrt(1 - gamma**self.done)
        for p, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            if p.grad is not None:
                mean.lerp_(p.grad, 1 - beta)
                square.mul_(gamma).addcmul_(p.grad, p.grad, value=1 - gamma)
                p.addcdiv_(mean, (square.sqrt() / root).add_(EPSILON), value=-size)
                p.grad = None
