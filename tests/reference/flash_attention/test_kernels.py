"""The Triton kernels on a CPU: interpreted, and compiled for several GPUs without being run."""

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
for capability, shared, dtype, d in GPUS:
    for kernel in (kernels._forward, kernels._backward_kv, kernels._backward_q):
        sizes = kernels._sizes(kernel.__name__.removeprefix("_"), dtype, d, shared)
        precision = "ieee" if dtype == torch.float32 else "tf32"
        fixed = {"CAUSAL": True, "PRECISION": precision, "D": d, "BR": sizes["BR"], "BC": sizes["BC"]}
        kinds = {"group": "i32", "N": "i32", "M": "i32", "scale": "fp32", "lse": "*fp32", "delta": "*fp32"}
        kinds |= {name: {"bfloat16": "*bf16", "float16": "*fp16", "float32": "*fp32"}[str(dtype)[6:]] for name in pointers}
        kinds |= {name: "constexpr" for name in fixed}
        aligned = {(k,): [["tt.divisibility", 16]] for k, name in enumerate(kernel.arg_names) if kinds[name][0] == "*"}
        source = ASTSource(kernel, {name: kinds[name] for name in kernel.arg_names}, constexprs=fixed, attrs=aligned)
        options = {"num_warps": sizes["num_warps"], "num_stages": sizes["num_stages"]}
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        print(capability, kernel.__name__, dtype, d, sizes, made.metadata.shared, flush=True)
        assert made.metadata.shared <= shared, (capability, kernel, d, made.metadata.shared)
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
@pytest.mark.parametrize(
    "gpu",
    [
        pytest.param("(90, 232448, torch.bfloat16, 64), (90, 232448, torch.bfloat16, 128)", id="H100"),
        pytest.param("(89, 101376, torch.bfloat16, 128)", id="RTX 4090"),
        pytest.param("(75, 65536, torch.float16, 128)", id="T4"),
    ],
)
def test_the_kernels_compile_and_fit(gpu, tmp_path):
    """For GPUs that are not there: compute capability, and the bytes of shared memory that a program may use."""
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    run("-c", COMPILE.replace("GPUS", f"({gpu},)"), **environment)


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
