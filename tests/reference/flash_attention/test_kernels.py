"""The Triton kernels on a CPU: interpreted, and compiled for Hopper without being run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograde.course import root

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
SCRIPT = Path(__file__).with_name("interpreted.py")

COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from utils.reference.flash_attention import kernels

pointers = {"q", "k", "v", "o", "do", "dq", "dk", "dv"}
for dtype, d in ((torch.bfloat16, 64), (torch.bfloat16, 128), (torch.float32, 64)):
    for kernel, backward in ((kernels._forward, False), (kernels._backward_kv, True), (kernels._backward_q, True)):
        sizes = kernels._sizes(dtype, d, backward)
        precision = "ieee" if dtype == torch.float32 else "tf32"
        fixed = {"CAUSAL": True, "PRECISION": precision, "D": d, "BR": sizes["BR"], "BC": sizes["BC"]}
        kinds = {"group": "i32", "N": "i32", "M": "i32", "scale": "fp32", "lse": "*fp32", "delta": "*fp32"}
        kinds |= {name: "*bf16" if dtype == torch.bfloat16 else "*fp32" for name in pointers}
        kinds |= {name: "constexpr" for name in fixed}
        source = ASTSource(kernel, {name: kinds[name] for name in kernel.arg_names}, constexprs=fixed)
        options = {"num_warps": sizes["num_warps"], "num_stages": sizes["num_stages"]}
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert made.metadata.shared <= 227 * 1024, (kernel, d, made.metadata.shared)
"""


def run(*arguments, **environment):
    """A process that sees the course; what it says belongs into a failed test's message."""
    where = {**os.environ, "PYTHONPATH": str(root()), **environment}
    done = subprocess.run(
        [sys.executable, *arguments], env=where, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.mark.parametrize("name", ["shapes", "dtypes", "autograd", "large_scores", "exercise", "benchmark"])
def test_interpreted(name):
    run(str(SCRIPT), name)


@pytest.mark.slow
def test_the_kernels_compile_for_hopper(tmp_path):
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    run("-c", COMPILE, **environment)


STUB = """
import torch
import kernel_answers
from autograde.exercises.flash_attention.flash_kernel import launched

q = torch.zeros(1, 16, 16)
inputs = {"q": q, "k": q, "v": q, "scale": 1.0, "causal": False, "BR": 16, "BC": 16}
try:
    launched(kernel_answers.stub, inputs)
except NotImplementedError:
    print("not written")
"""


def test_a_stub_is_recognised_before_it_is_compiled():
    paths = os.pathsep.join([str(root()), str(Path(__file__).parent)])
    run("-c", STUB + "else:\n    raise AssertionError", TRITON_INTERPRET="0", PYTHONPATH=paths)
