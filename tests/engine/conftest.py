"""Fixtures of the engine's tests."""

import os

import pytest
import torch

from autograde import cli

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_state(monkeypatch):
    """No test sees the global state, or the environment, that another one left behind."""
    for name in [n for n in os.environ if n.startswith(("NBGRADER_", "REDERIVE_", "JPY_"))]:
        monkeypatch.delenv(name)
    dtype, gradients, device = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device()
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(gradients)
    torch.set_default_device(device if device.type != "cpu" else None)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process: (status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["autograde", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as leaving:
            status = leaving.code or 0
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return status, shown.out, shown.err

    return run
