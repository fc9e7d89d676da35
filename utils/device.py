"""Where tensors live."""

import torch


def best_device() -> torch.device:
    """The first CUDA device where there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
