"""What the engine's tests share: toy exercises, made-up courses, notebooks filled with answers."""

from __future__ import annotations

import copy
import json
import linecache
import sys
import textwrap
import types
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from autograde import course, readme
from autograde.compare import compare
from autograde.exercise import Case, Exercise, Mistake, Requirement, Sample, samples
from autograde.expect import expect
from autograde.grade import grade
from autograde.observe import LocalObserver

ROOT = Path(__file__).resolve().parents[2]
LESSON = "rnn/01_vanilla_rnn"

# --- exercises --------------------------------------------------------------------------------------------------------


def requirement(draw, **options) -> Requirement:
    """A requirement with one case, called "the case"."""
    return Requirement(options.pop("name", "the requirement"), (Case("the case", draw),), **options)


def exercise(reference, draw=None, *, requirements=None, mistakes=(), **options) -> Exercise:
    """An exercise with one requirement, unless ``requirements`` says more."""
    asked = options.pop("requirement", {})
    return Exercise(reference, requirements or (requirement(draw, **asked),), tuple(mistakes), **options)


def only_sample(made: Exercise) -> Sample:
    """The first sample of an exercise."""
    return next(iter(samples(made.requirements[0], graded=False, seed=0)))


def finding(made: Exercise, implementation):
    """What is found wrong with an implementation in the first sample, or None."""
    sample = only_sample(made)
    look = LocalObserver(implementation, quiet=True)
    return compare(
        made,
        sample,
        expect(made.reference, sample),
        look(sample.requirement.probe, sample.inputs, made.forbids),
    )


def result(made: Exercise, implementation, **options):
    """The result of a whole exercise."""
    return grade(made, LocalObserver(implementation, quiet=True), **options)


def scaled(x: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch hidden"]:
    """The reference of the smallest toy exercise."""
    return 2 * x


def matrix(source):
    """One matrix of 4 times 8."""
    return {"x": source.normal(4, 8)}


def attend(q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], v: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Softmax attention."""
    return torch.softmax(q @ k.T * q.shape[1] ** -0.5, -1) @ v


def heads(n: int, d: int, scale: float = 1.0):
    """Draws q, k and v."""

    def draw(source):
        return {"q": source.normal(n, d, scale=scale), "k": source.normal(n, d), "v": source.normal(n, d)}

    return draw


def without_scale(q, k, v):
    return torch.softmax(q @ k.T, -1) @ v


def scaled_by_d(q, k, v):
    return torch.softmax(q @ k.T / q.shape[1], -1) @ v


def softmax_over_queries(q, k, v):
    return torch.softmax(q @ k.T * q.shape[1] ** -0.5, 0) @ v


def all_nan(q, k, v):
    return torch.full_like(q, float("nan"))


def always_raises(q, k, v):
    raise ValueError("no")


ATTENTION_MISTAKES = (
    Mistake("You left out the scale.", without_scale),
    Mistake("You divided by d.", scaled_by_d),
    Mistake("The softmax runs over the queries.", softmax_over_queries),
    Mistake("Your result is not a number.", all_nan),
    Mistake("It stops.", always_raises),
)


def attention(**options) -> Exercise:
    """Attention, with a bank of mistakes."""
    cases = (
        Case("7 positions", heads(7, 4)),
        Case("one key", heads(1, 3)),
        Case("12 positions", heads(12, 5)),
    )
    return Exercise(
        attend,
        (Requirement("matches the formula", cases, points=2),),
        options.pop("mistakes", ATTENTION_MISTAKES),
        **options,
    )


def from_cell(source: str, name: str, filename: str = "/tmp/ipykernel_4711/1234.py"):
    """A function defined as a notebook defines it: through exec, with its source in linecache."""
    text = textwrap.dedent(source)
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    space: dict[str, object] = {"torch": torch}
    exec(compile(text, filename, "exec"), space)
    return space[name]


# --- made-up courses --------------------------------------------------------------------------------------------------

TOPIC = "toytopic"
TOML = """\
title = "Toy course"

[families]
foundations = "Foundations"

[topics.toytopic]
title = "Toys"
family = "foundations"
about = "Nothing in particular"
order = 1
minutes = 10

[topics.later]
title = "Later"
family = "foundations"
about = "Still to be written"
order = 2
prerequisites = ["toytopic"]
minutes = 20
planned = true
"""
README = f"# A toy\n\n{readme.BEGIN}\n{readme.END}\nThe rest.\n"
SOURCE = '''\
# %% [markdown]
# # Toys
#
# About 12 minutes.

# %% setup
import torch

from autograde import open_lesson

check = open_lesson("toytopic/01_toys")

# %% [markdown]
# Write it.


# %% double tags=["exercise"]
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    secret_intermediate = x + 0.0  # the secret of the toy course
    return 2 * secret_intermediate
    ### END SOLUTION


# %% check_double tags=["check"]
check.double(double)

# %% tags=["demo"]
shown_only = double(torch.ones(2))
print(shown_only)
'''


def double(x: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch hidden"]:
    """The reference of the toy course."""
    return 2 * x


def toy_topic(monkeypatch, *made: Exercise, name: str = TOPIC) -> types.ModuleType:
    """Puts ``autograde.exercises.<name>`` in place for one test."""
    module = types.ModuleType(f"autograde.exercises.{name}")
    module.EXERCISES = made or (exercise(double, matrix),)
    for item in module.EXERCISES:
        setattr(module, item.name, item)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    course.exercises.cache_clear()
    return module


def toy_course(folder: Path, source: str = SOURCE, toml: str = TOML, name: str = "01_toys") -> Path:
    """A course folder with one lesson."""
    (folder / "solutions" / TOPIC).mkdir(parents=True, exist_ok=True)
    (folder / "course.toml").write_text(toml)
    (folder / "README.md").write_text(README)
    (folder / "solutions" / TOPIC / f"{name}.py").write_text(source)
    return folder


# --- notebooks --------------------------------------------------------------------------------------------------------

ANSWERS = {
    "window_error": """
def window_error(w, t):
    n = t - w + 1
    return 0.0 if n <= 0 else 2.0 ** -(w - 1) * (1 - 2.0**-n) / 2
""",
    "rnn_step": """
def rnn_step(x, h, W_ih, W_hh, b_ih, b_hh):
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
""",
    "adder_weights": """
def adder_weights(gain):
    W_hh = torch.zeros(3, 3)
    W_hh[:, 1] = gain / 2
    return {
        "W_ih": torch.full((3, 2), float(gain)), "W_hh": W_hh, "b_ih": gain * torch.tensor([0.0, -1.0, -2.0]),
        "b_hh": torch.zeros(3), "h0": -torch.ones(3), "w_out": torch.tensor([0.5, -0.5, 0.5]),
        "b_out": torch.tensor(0.5),
    }
""",
    "rnn_forward": """
def rnn_forward(step, x, h0, lengths):
    h, outs = h0, []
    for t in range(x.shape[1]):
        alive = (t < lengths)[:, None]
        new = step(x[:, t], h)
        outs.append(torch.where(alive, new, torch.zeros_like(new)))
        h = torch.where(alive, new, h)
    return torch.stack(outs, 1), h
""",
    "last_valid": """
def last_valid(out, lengths):
    return out[torch.arange(len(out)), lengths - 1]
""",
    "n_params": """
def n_params(input_size, hidden_size, gates=1):
    return gates * hidden_size * (input_size + hidden_size + 2)
""",
}
_RELEASED = json.loads((ROOT / "lessons" / f"{LESSON}.ipynb").read_text())


def released() -> dict:
    """The released lesson, as parsed JSON."""
    return copy.deepcopy(_RELEASED)


def grade_id(cell: dict) -> str | None:
    """nbgrader's name of a cell."""
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def position(notebook: dict, name: str) -> int:
    """Where the cell of that grade_id stands."""
    return next(i for i, cell in enumerate(notebook["cells"]) if grade_id(cell) == name)


def filled(**answers: str) -> dict:
    """The lesson with exercise cells filled in."""
    notebook = released()
    for name, source in answers.items():
        notebook["cells"][position(notebook, name)]["source"] = textwrap.dedent(source)
    return notebook


def solved(**others: str) -> dict:
    """The lesson with every right answer, except for ``others``."""
    return filled(**{**ANSWERS, **others})


def code_cell(source: str, **extra) -> dict:
    """One cell, as JupyterLab writes it."""
    return {
        "cell_type": "code", "id": extra.pop("id", f"cell-{abs(hash(source)) % 10**9}"), "metadata": {},
        "execution_count": None, "outputs": [], "source": textwrap.dedent(source), **extra,
    }  # fmt: skip


def write(folder: Path, notebook: dict, name: str = "01_vanilla_rnn.ipynb") -> Path:
    """Write a notebook file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(notebook))
    return path
