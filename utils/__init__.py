"""What the notebooks import: data, plots, widgets, and reference implementations."""


def setup() -> None:
    """Prepare a notebook: one thread for torch and the course's plot style.

    One thread, because the networks of this course are small: starting more threads costs more than they
    save. No random generator is seeded here; every cell that needs randomness makes its own generator.
    """
    import torch

    from utils import plotting

    torch.set_num_threads(1)
    plotting.style()
