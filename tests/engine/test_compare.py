"""Comparison: derived tolerances, and every kind of finding with its message and numbers."""

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from autograde.compare import compare
from autograde.course import exercises
from autograde.exercise import Bound, Case, Exercise, Requirement, Tolerance, samples
from autograde.expect import CaseError, expect
from autograde.observe import Counted, Observation
from autograde.probes import gradients
from autograde.values import Foreign, SeenTensor
from engine.helpers import (
    ANSWERS,
    attend,
    attention,
    exercise,
    finding,
    from_cell,
    heads,
    matrix,
    only_sample,
    requirement,
    result,
    scaled,
)  # fmt: skip

RNN = exercises("rnn")
SCALED = exercise(scaled, matrix)


# --- the derived tolerance --------------------------------------------------------------------------------------------


def step(x, h, W_ih, W_hh, b_ih, b_hh):
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)


def step_backwards(x, h, W_ih, W_hh, b_ih, b_hh):
    """Sums from the last term to the first."""
    pre = b_hh + b_ih
    for k in reversed(range(h.shape[1])):
        pre = pre + h[:, k : k + 1] * W_hh[:, k]
    for k in reversed(range(x.shape[1])):
        pre = pre + x[:, k : k + 1] * W_ih[:, k]
    return pre.tanh()


def in_double(*args):
    return step(*(t.double() for t in args)).to(args[0].dtype)


def half(dtype, function):
    """``function`` with its floating-point tensors in half precision."""

    def low(*args):
        down = [t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t for t in args]
        found = function(*down)
        return tuple(t.float() for t in found) if isinstance(found, tuple) else found.float()

    return low


@pytest.mark.parametrize("right", [step, step_backwards, in_double])
def test_rnn_step_accepts_other_orders_and_double_intermediates(right):
    for seed in (1, 2, 3):
        assert result(RNN["rnn_step"], right, graded=True, seed=seed).ok


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rnn_step_rejects_half_precision(dtype):
    found = finding(RNN["rnn_step"], half(dtype, step))
    assert found.kind == "values"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rnn_forward_rejects_a_state_in_half_precision(dtype):
    space = {"torch": torch}
    exec(ANSWERS["rnn_forward"], space)
    right = space["rnn_forward"]

    def low(cell, x, h0, lengths):
        return right(lambda x_t, h: cell(x_t, h.to(dtype).float()), x, h0, lengths)

    assert result(RNN["rnn_forward"], right, graded=True, seed=4).ok
    assert finding(RNN["rnn_forward"], low).kind == "values"


def attend_by_rows(q, k, v):
    rows = []
    for row in q:
        scores = (k * row).sum(-1) / row.shape[0] ** 0.5
        weights = torch.exp(scores - scores.max())
        rows.append((weights[:, None] * v).flip(0).sum(0) / weights.flip(0).sum())
    return torch.stack(rows)


def attend_in_double(q, k, v):
    return attend(q.double(), k.double(), v.double()).float()


def probabilities_in(dtype):
    def low(q, k, v):
        return torch.softmax(q @ k.T * q.shape[1] ** -0.5, -1).to(dtype).float() @ v

    return low


@pytest.mark.parametrize("right", [attend, attend_by_rows, attend_in_double])
@pytest.mark.parametrize("draw", [heads(7, 4), heads(1, 3), heads(40, 8, scale=30.0)])
def test_attention_accepts_other_orders_also_over_one_key_and_with_large_logits(right, draw):
    assert finding(exercise(attend, draw), right) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_rejects_half_precision_also_of_the_probabilities_alone(dtype):
    assert finding(exercise(attend, heads(7, 4)), half(dtype, attend)).kind == "values"
    assert finding(exercise(attend, heads(7, 4)), probabilities_in(dtype)).kind == "values"


def test_the_tolerance_is_no_wider_than_a_few_roundings():
    sample = only_sample(SCALED)
    expected = expect(scaled, sample)
    assert float(expected.tolerance("")) < 1e-4 * float(sample.inputs["x"].abs().max())
    assert finding(SCALED, lambda x: 2 * x + 1e-4).kind == "values"


def chaotic(x):
    for _ in range(60):
        x = 3.99 * x * (1 - x)
    return x


def test_a_chaotic_case_is_refused():
    made = exercise(chaotic, lambda s: {"x": s.uniform(5, low=0.1, high=0.9)})
    with pytest.raises(CaseError, match="chaotic"):
        result(made, chaotic)


def test_a_case_that_is_not_chaotic_is_not_refused():
    assert finding(exercise(chaotic, lambda s: {"x": torch.full((5,), 0.0)}), chaotic) is None


def spoils(x):
    return x.mul_(2)


def test_a_reference_that_changes_its_input_is_refused():
    with pytest.raises(CaseError, match="changed its inputs: x"):
        result(exercise(spoils, matrix), scaled)


def breaks(x):
    raise ValueError("broken reference")


def test_a_reference_that_raises_is_refused_and_not_the_learners_fault():
    with pytest.raises(CaseError, match="broken reference"):
        result(exercise(breaks, matrix), scaled)


def tripled(x):
    return 3 * x


def test_two_exercises_may_share_a_requirement():
    shared = requirement(matrix)
    twice = exercise(scaled, requirements=(shared,))
    thrice = exercise(tripled, requirements=(shared,))
    assert finding(twice, scaled) is None
    assert finding(thrice, tripled) is None
    assert finding(thrice, scaled) is not None


def rowwise(x):
    return x * torch.tensor([[1.0], [1e6]]).to(x)


def test_rows_compares_each_row_with_a_tolerance_of_its_own():
    def small_row_wrong(x):
        out = rowwise(x).clone()
        out[0] += 0.01
        return out

    draw = lambda s: {"x": s.normal(2, 5)}  # noqa: E731
    assert finding(exercise(rowwise, draw), small_row_wrong) is None
    assert finding(exercise(rowwise, draw, requirement={"rows": True}), small_row_wrong).kind == "values"
    assert finding(exercise(rowwise, draw, requirement={"rows": True}), rowwise) is None


def test_a_tolerance_by_hand_is_a_multiple_of_the_derived_one():
    wide = exercise(scaled, matrix, requirement={"tolerance": Tolerance(100.0, "for the test")})
    off = lambda x: 2 * x + 1e-4  # noqa: E731
    assert finding(SCALED, off) is not None
    assert finding(wide, off) is None


# --- kinds of findings ------------------------------------------------------------------------------------------------


def said(implementation, made=SCALED):
    found = finding(made, implementation)
    assert found is not None
    return found.kind, found.message


def test_right_answers_have_no_finding():
    assert finding(SCALED, lambda x: x + x) is None
    assert finding(SCALED, lambda x: torch.nn.Parameter(x + x)) is None


def test_not_written():
    def stub(x):
        raise NotImplementedError

    assert said(stub) == ("not written", "Not written yet.")


def test_none_asks_for_the_return():
    assert said(lambda x: None) == ("none", "Your function returned None: is a return missing?")


class Sub(Tensor):
    pass


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: [row.numpy() for row in 2 * x], "expected a Tensor, got a"),
        (lambda x: (2 * x).numpy(), "got a numpy.ndarray"),
        (lambda x: (2 * x).as_subclass(Sub), "got a subclass of Tensor"),
        (lambda x: scaled, "did you forget to call it?"),
        (lambda x: 1.5, "got a float"),
        (lambda x: (2 * x,), " of 1."),
        (lambda x: {"out": 2 * x}, "got a dict with the keys out"),
        (lambda x: "text", "got a str"),
    ],
)
def test_wrong_types_are_named(wrong, words):
    kind, message = said(wrong)
    assert kind == "type"
    assert words in message


def test_a_list_is_called_a_list():
    assert "list of 4" in said(lambda x: list(2 * x))[1]


def test_an_object_that_is_equal_to_everything_is_rejected():
    class Equal:
        def __eq__(self, other):
            return True

        __hash__ = None
        shape, dtype = (4, 8), torch.float32

        def __torch_function__(self, *args, **kwargs):
            return True

    assert said(lambda x: Equal())[0] == "type"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: (2 * x).T, "expected (batch=4, hidden=8), got (8, 4): transposed?"),
        (lambda x: (2 * x)[0], "got (8,): batch is missing"),
        (lambda x: (2 * x)[:, 0], "got (4,): hidden is missing"),
        (lambda x: (2 * x)[:, None], "there is one dimension too many, number 1 of size 1"),
        (lambda x: x.sum(), "got () (a scalar)"),
        (lambda x: (2 * x)[:, :7], "expected (batch=4, hidden=8), got (4, 7)."),
        (lambda x: torch.zeros(0), "got (0,)"),
    ],
)
def test_wrong_shapes_name_dimensions_and_guess(wrong, words):
    kind, message = said(wrong)
    assert kind == "shape"
    assert words in message


def cube(x: Float[Tensor, "batch time hidden"]) -> Float[Tensor, "batch time hidden"]:
    return 2 * x


def test_a_wrong_order_of_three_dimensions_is_guessed():
    made = exercise(cube, lambda s: {"x": s.normal(2, 3, 4)})
    assert "time, batch, hidden?" in said(lambda x: (2 * x).transpose(0, 1), made)[1]


def test_dtype():
    assert said(lambda x: 2 * x.double()) == (
        "dtype",
        "Wrong dtype of the result: expected float32, got float64.",
    )


@pytest.mark.parametrize(
    ("bad", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "infinity")]
)
def test_values_that_are_not_finite_are_counted_and_located(bad, word):
    def wrong(x):
        out = 2 * x
        out[2, 5] = out[3, 0] = bad
        return out

    kind, message = said(wrong)
    assert kind == "not finite"
    assert word in message
    assert "2 of 32 values, the first at [2, 5]." in message


def with_holes(x):
    return torch.where(x > 0, x, float("nan"))


def test_a_number_where_nan_belongs_is_wrong():
    made = exercise(with_holes, matrix)
    assert finding(made, with_holes) is None
    assert finding(made, lambda x: torch.where(x > 0, x, 0.0)) is not None


def masked(x):
    return torch.where(x > 0, x, float("-inf"))


def test_a_number_where_infinity_belongs_is_wrong():
    made = exercise(masked, matrix)
    assert finding(made, masked) is None
    assert finding(made, lambda x: torch.where(x > 0, x, -1e9)) is not None
    assert finding(made, lambda x: torch.where(x > 0, x, float("inf"))) is not None


def test_wrong_values_say_how_many_how_far_where_and_what():
    def wrong(x):
        out = 2 * x
        out[3, 1] += 0.5
        out[0, 0] += 0.25
        return out

    x = only_sample(SCALED).inputs["x"]
    kind, message = said(wrong)
    assert kind == "values"
    assert message.startswith("2 of 32 values of the result differ. Largest error 5.00e-01 at [3, 1]:")
    assert f"got {(2 * x)[3, 1].item() + 0.5:.6g}, expected {(2 * x)[3, 1].item():.6g}" in message


def total(x):
    return float(x.sum())


def test_wrong_numbers_say_got_and_expected():
    made = exercise(total, matrix)
    x = only_sample(made).inputs["x"]
    assert finding(made, lambda x: x.sum()) is None
    assert finding(made, lambda x: np.float32(x.sum())) is None
    kind, message = said(lambda x: total(x) + 1, made)
    assert kind == "values"
    assert f"got {total(x) + 1:.6g}, expected {total(x):.6g}" in message
    assert said(lambda x: float("nan"), made)[0] == "not finite"
    assert said(lambda x: True, made)[0] == "type"


def test_a_huge_whole_number_is_wrong_and_no_crash():
    assert finding(exercise(total, matrix), lambda x: 10**400) is not None


def count(x):
    return x.numel()


def test_whole_numbers_texts_and_truth_values_are_compared_exactly():
    made = exercise(count, matrix)
    assert finding(made, lambda x: np.int64(32)) is None
    assert finding(made, lambda x: torch.tensor(32)) is None
    kind, message = said(lambda x: 33, made)
    assert kind == "values"
    assert "got 33, expected 32." in message
    assert said(lambda x: 32.0, made)[0] == "type"
    assert said(lambda x: True, made)[0] == "type"


def order(x):
    return x.argsort(-1)


def test_integer_tensors_are_compared_exactly():
    made = exercise(order, matrix)
    kind, message = said(lambda x: x.argsort(-1).clamp(max=6), made)
    assert kind == "values"
    assert "4 of 32 values of the result differ" in message
    assert "expected 7" in message
    assert said(lambda x: x.argsort(-1).int(), made)[0] == "dtype"


def pair(x):
    return 2 * x, x.sum(0)


def test_elements_of_a_tuple_are_called_by_their_names():
    made = exercise(pair, matrix, returns=("double", "sums"))
    assert "Wrong shape of sums" in said(lambda x: (2 * x, x.sum(1)), made)[1]
    assert said(lambda x: (2 * x, None), made) == ("none", "sums is None.")
    assert " of 3." in said(lambda x: (2 * x, x, x), made)[1]
    assert finding(made, lambda x: [2 * x, x.sum(0)]) is None


def test_a_changed_input_is_named():
    def spoils(x):
        out = 2 * x
        x.data.zero_()
        return out

    kind, message = said(spoils)
    assert kind == "changed"
    assert "in place: x." in message


def test_a_wrong_value_is_told_before_a_changed_input():
    assert said(lambda x: x.add_(1))[0] == "values"


CURVED = exercise(scaled, matrix, requirement={"probe": gradients})


def test_gradients_missing_and_wrong():
    kind, message = said(lambda x: 2 * x.detach(), CURVED)
    assert kind == "gradient missing"
    assert "gradient of x is missing" in message
    kind, message = said(lambda x: 2 * x.detach() + (x - x.detach()), CURVED)
    assert kind == "gradient"
    assert "32 of 32 values of gradient of x differ" in message


def test_a_forbidden_operator_is_named_before_anything_else():
    def library(x):
        torch.softmax(x, -1)
        raise ValueError

    made = exercise(scaled, matrix, forbids=("softmax", "tanh"))
    kind, message = said(library, made)
    assert kind == "forbidden"
    assert message.startswith("Your function calls softmax,")


def repeated(step, n):
    return [step(i) for i in range(n)][-1]


def counting(implementation, inputs):
    step = Counted(lambda i: float(i))
    return {"value": implementation(step, inputs["n"]), "calls of step": step.calls}


COSTLY = exercise(
    repeated,
    requirements=(
        Requirement(
            "few calls",
            (Case("the case", lambda s: {"n": 5}),),
            counting,
            bounds={
                "calls of step": Bound(lambda i: i["n"], "calls", "One call each.", lambda i: 10 * i["n"])
            },
        ),
    ),
)


def test_a_cost_over_its_bound_is_told_with_the_bound_and_the_naive_cost():
    assert finding(COSTLY, repeated) is None
    assert finding(COSTLY, lambda step, n: step(n - 1)) is None
    kind, message = said(lambda step, n: [step(i) for i in range(n) for _ in range(3)][-1], COSTLY)
    assert kind == "cost"
    assert message.startswith("Too costly: ")
    for part in ("15 calls", " 5", "One call each.", "The naive version needs 50."):
        assert part in message


def test_a_wrong_value_is_told_before_a_cost():
    assert said(lambda step, n: next(step(0) for _ in range(99)), COSTLY)[0] == "values"


# --- exceptions -------------------------------------------------------------------------------------------------------


def test_an_exception_shows_only_the_learners_own_lines():
    wrong = from_cell(
        """
        def inner(x):
            return torch.cat([x, x.new_zeros(3)])

        def outer(x):
            y = 2 * x
            return inner(y)
        """,
        "outer",
    )
    found = finding(SCALED, wrong)
    assert found.kind == "raised"
    assert found.message.startswith("Your function raised RuntimeError: Tensors must have same number")
    assert found.frames == (
        "line 7 in outer: return inner(y)",
        "line 3 in inner: return torch.cat([x, x.new_zeros(3)])",
    )


def test_frames_of_libraries_between_and_below_the_learners_are_left_out():
    wrong = from_cell(
        """
        def pick(a):
            return {}["key"]

        def outer(x):
            return torch.utils.checkpoint.checkpoint(pick, x, use_reentrant=False)
        """,
        "outer",
        "/tmp/ipykernel_4711/99.py",
    )
    found = finding(SCALED, wrong)
    assert [frame.split(":")[0] for frame in found.frames] == ["line 6 in outer", "line 3 in pick"]


def test_endless_recursion_is_told_with_few_lines():
    wrong = from_cell("def loop(x):\n    return loop(x)\n", "loop", "/tmp/ipykernel_4711/5.py")
    found = finding(SCALED, wrong)
    assert "RecursionError" in found.message
    assert 1 <= len(found.frames) <= 4


def test_a_function_that_takes_other_arguments_is_not_told_about_what_it_returned():
    found = finding(SCALED, lambda x, extra: 2 * x)
    assert found.kind == "raised"
    assert "used what your function returned" not in found.message


def test_something_that_is_no_function_is_not_told_about_what_it_returned():
    found = finding(SCALED, 3)
    assert found is not None
    assert "used what your function returned" not in found.message


def test_an_exception_without_a_text_has_no_dangling_colon():
    def stop(x):
        raise KeyError

    assert said(stop)[1].startswith("Your function raised KeyError")
    assert "KeyError:" not in said(stop)[1]


# --- observations that no probe would give: a comparison never falls over -------------------------------------------------

TENSOR = SeenTensor(torch.zeros(4, 8))
FORGED = [
    None, True, 1, 1.5, float("nan"), 10**400, "text", TENSOR, SeenTensor(torch.tensor(1.0)),
    SeenTensor(torch.tensor(1)), SeenTensor(torch.zeros(0)), Foreign("odd"), (), (TENSOR,), {}, {"value": TENSOR},
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED, ids=lambda v: repr(v)[:20])
def test_a_forged_observation_is_a_finding_and_no_crash(forged):
    for made in (
        SCALED,
        CURVED,
        COSTLY,
        exercise(total, matrix),
        exercise(count, matrix),
        exercise(pair, matrix),
    ):
        sample = only_sample(made)
        expected = expect(made.reference, sample)
        for value in (
            forged,
            {"value": forged, "gradient of x": forged},
            {"value": 4.0, "calls of step": forged},
        ):
            if made is COSTLY and value == {"value": 4.0, "calls of step": forged} and forged in (True, 1):
                continue
            found = compare(made, sample, expected, Observation(value))
            if found is not None:
                assert found.message


def test_a_forged_gradient_is_not_accepted():
    sample = only_sample(CURVED)
    expected = expect(scaled, sample)
    right = expected.single.value["value"]
    for forged in ("text", 1.0, (TENSOR,), {}, Foreign("odd"), TENSOR):
        value = {"value": right, "gradient of x": forged}
        assert compare(CURVED, sample, expected, Observation(value)) is not None


def test_every_sample_is_drawn_anew_and_the_same_for_the_same_seed():
    requirement_ = attention().requirements[0]
    first, second = (list(samples(requirement_, graded=True, seed=3)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a.inputs[k], b.inputs[k]) for k in a.inputs)
        assert all(a.inputs[k] is not b.inputs[k] for k in a.inputs)
    other = next(iter(samples(requirement_, graded=True, seed=4)))
    assert not torch.equal(first[0].inputs["q"], other.inputs["q"])


def test_exercise_takes_its_name_and_points_from_its_parts():
    made = Exercise(scaled, (requirement(matrix, points=2), requirement(matrix, name="b")), ())
    assert (made.name, made.points) == ("scaled", 3)
