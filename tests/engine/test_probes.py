"""Probes: each sees an honest implementation, and is not fooled by the usual ways around it."""

import collections
import pickle

import cloudpickle
import pytest
import torch

from autograde.observe import CHANGED, Counted, observe
from autograde.probes import Allocations, Gradients, allocations, gradients, inputs_unchanged, outputs, twice
from autograde.values import Foreign, SeenTensor
from engine.helpers import exercise, finding, requirement

X = {"x": torch.arange(12.0).reshape(3, 4) / 7, "y": torch.ones(3, 4)}


def watched(implementation, inputs=X, probe=outputs):
    return observe(probe, implementation, inputs)


# --- outputs ----------------------------------------------------------------------------------------------------------


def test_outputs_hands_over_the_inputs_in_their_order():
    assert torch.equal(watched(lambda a, b: a - 2 * b).value.data, X["x"] - 2 * X["y"])
    assert not torch.equal(watched(lambda a, b: b - 2 * a).value.data, X["x"] - 2 * X["y"])


def test_an_observed_result_does_not_change_when_the_implementation_keeps_a_hand_on_it():
    kept = []

    def keeps(x, y):
        kept.append(x + y)
        return kept[0]

    seen = watched(keeps)
    kept[0].zero_()
    assert bool(seen.value.data.any())


def test_numbers_and_nests_keep_their_types():
    value = watched(lambda x, y: [1, 2.5, True, "a", None, (x,), {"k": y}]).value
    assert [type(item) for item in value] == [int, float, bool, str, type(None), tuple, dict]


@pytest.mark.parametrize("subclass", [float, int, str])
def test_a_subclass_of_a_plain_type_is_foreign(subclass):
    class Liar(subclass):
        def __eq__(self, other):
            return True

        __hash__ = None

    assert isinstance(watched(lambda x, y: Liar("3")).value, Foreign)


def test_named_tuples_and_dict_subclasses_are_read_past_their_own_methods():
    class L(list):
        def __iter__(self):
            return iter(["another"])

    class D(dict):
        def items(self):
            return [("another", 1)]

    pair = collections.namedtuple("pair", "out h_last")
    assert watched(lambda x, y: pair(1, 2)).value == (1, 2)
    assert watched(lambda x, y: L([3])).value == (3,)
    assert watched(lambda x, y: D(a=4)).value == {"a": 4}


def test_a_list_that_holds_itself_is_foreign_and_soon():
    def endless(x, y):
        nest = []
        nest += [nest, nest]
        return nest

    assert "levels deep" in str(watched(endless).value) or "parts" in str(watched(endless).value)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda x: x.to_sparse(), "sparse"),
        (lambda x: x.to("meta"), "meta"),
        (lambda x: x + 1j, "complex64"),
        (lambda x: x.numpy(), "numpy.ndarray"),
        (lambda x: torch.tanh, "did you forget to call it"),
        (lambda x: (i for i in [x]), "generator"),
        (lambda x: {1, 2}, "set"),
        (lambda x: {(1, 2): x}, "keys that are not texts"),
        (lambda x: torch.nn.Linear(1, 1), "Linear"),
    ],
)
def test_everything_else_is_foreign_and_says_what_it_is(made, why):
    value = watched(lambda x, y: made(x)).value
    assert isinstance(value, Foreign)
    assert why in value.why


def test_a_list_that_contains_itself_is_cut_off():
    def cyclic(x, y):
        found = [x]
        found.append(found)
        return found

    assert watched(cyclic).raised is None


def test_a_result_that_cannot_be_read_is_an_observation_and_no_crash_of_the_engine():
    # a number too long for Python to turn into text, used as a key
    value = watched(lambda x, y: {10**5000: x})
    assert isinstance(value.value, Foreign) or value.raised is not None


def test_a_result_may_share_memory_with_an_input():
    assert watched(lambda x, y: x).changed == ()


def test_system_exit_and_generator_exit_are_observed_and_do_not_leave():
    for kind in (SystemExit, GeneratorExit, MemoryError, RecursionError):

        def leaves(x, y, kind=kind):
            raise kind("bye")

        assert watched(leaves).raised.kind == kind.__name__


def test_keyboard_interrupt_passes_through():
    def stop(x, y):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(stop)


def test_an_exception_that_cannot_be_printed_is_still_observed():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def odd(x, y):
        raise Odd

    assert watched(odd).raised.kind == "Odd"


def test_not_written_is_only_a_bare_not_implemented_error():
    def stub(x, y):
        raise NotImplementedError

    def library(x, y):
        raise NotImplementedError("Could not run 'aten::foo'")

    assert watched(stub).raised.not_written
    assert not watched(library).raised.not_written


# --- global state -----------------------------------------------------------------------------------------------------


def test_every_probe_runs_in_the_same_global_state_and_puts_it_back():
    def look(x, y):
        return (str(torch.get_default_dtype()), torch.is_grad_enabled(), torch.rand(3))

    plain = watched(look).value
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.manual_seed(99)
    before = torch.default_generator.get_state()
    other = watched(look).value
    assert plain[:2] == other[:2] == ("torch.float32", True)
    assert torch.equal(plain[2].data, other[2].data)
    assert torch.get_default_dtype() is torch.float64
    assert not torch.is_grad_enabled()
    assert torch.equal(torch.default_generator.get_state(), before)


def test_what_an_implementation_does_to_the_global_state_is_undone():
    def rude(x, y):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.manual_seed(3)
        raise ValueError

    before = torch.default_generator.get_state()
    watched(rude)
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(torch.default_generator.get_state(), before)


def test_the_default_device_of_a_notebook_does_not_reach_the_probe():
    torch.set_default_device("meta")
    try:
        value = watched(lambda x, y: x + torch.ones(3, 4)).value
    finally:
        torch.set_default_device(None)
    assert isinstance(value, SeenTensor)


# --- in-place changes -------------------------------------------------------------------------------------------------


def through_slice(x, y):
    x[0, 0] = 5.0
    return x


def through_method(x, y):
    return y.add_(x)


def through_data(x, y):
    x.data[1] = 3.0
    return x


def through_numpy(x, y):
    y.numpy()[2, 2] = -1.0
    return y


def through_view(x, y):
    x.view(-1)[3:5] = 9.0
    return x


def through_resize(x, y):
    return y.resize_(2, 2)


def through_out(x, y):
    return torch.add(x, y, out=x)


def to_nan(x, y):
    x[0, 0] = float("nan")
    return y


@pytest.mark.parametrize(
    ("implementation", "names"),
    [
        (through_slice, ("x",)), (through_method, ("y",)), (through_data, ("x",)), (through_numpy, ("y",)),
        (through_view, ("x",)), (through_resize, ("y",)), (through_out, ("x",)), (to_nan, ("x",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("probe", [outputs, inputs_unchanged])
def test_every_way_to_change_an_input_is_seen(implementation, names, probe):
    assert watched(implementation, probe=probe).changed == names
    assert watched(lambda x, y: x * y, probe=probe).changed == ()


def test_a_change_that_is_undone_is_no_change_and_the_callers_tensors_stay_as_they_were():
    def back(x, y):
        x.add_(1.0)
        result = x * y
        x.sub_(1.0)
        return result

    ones = {"x": torch.ones(2), "y": torch.ones(2)}
    assert observe(outputs, back, ones).changed == ()
    before = X["x"].clone()
    watched(through_slice)
    assert torch.equal(X["x"], before)


def test_nan_in_an_input_is_not_a_change():
    assert observe(outputs, lambda x: x, {"x": torch.tensor([float("nan"), float("inf"), 1.0])}).changed == ()


def test_changes_in_nested_inputs_are_named_by_their_path():
    def nested(params, parts):
        params["w"].zero_()
        parts[1][0].mul_(2)

    inputs = {"params": {"w": torch.ones(2), "b": torch.ones(2)}, "parts": [torch.ones(1), (torch.ones(3),)]}
    assert observe(outputs, nested, inputs).changed == ("params['w']", "parts[1][0]")


def test_integer_and_boolean_inputs_are_watched_too():
    inputs = {"n": torch.arange(3), "m": torch.tensor([True, False])}

    def change(n, m):
        n[0] = 7
        m[1] = True

    assert observe(outputs, change, inputs).changed == ("n", "m")


@pytest.mark.parametrize(
    "change", [lambda d: d.sort(), lambda d: d.reverse(), lambda d: d.append(1), lambda d: d.clear()]
)
def test_changes_of_a_list_of_numbers_are_seen(change):
    changed = observe(outputs, change, {"d": [3, 2, 5]}).changed
    assert changed
    assert all(name.startswith("d") for name in changed)


@pytest.mark.parametrize(
    "change", [lambda p: p.pop("w"), lambda p: p.update(extra=torch.ones(1)), lambda p: p.update(w=None)]
)
def test_changes_of_a_dict_are_seen(change):
    def use(p):
        change(p)

    assert observe(outputs, use, {"p": {"w": torch.ones(1), "v": [torch.ones(1)]}}).changed != ()


def test_replacing_a_nested_list_is_a_change_and_no_crash():
    def use(p):
        p["v"] = None

    assert observe(outputs, use, {"p": {"v": [torch.ones(1)]}}).changed != ()


# --- strides ----------------------------------------------------------------------------------------------------------

STRIDED = {
    "transposed": torch.randn(5, 3).t(),
    "every second row": torch.randn(6, 4)[::2],
    "every second column": torch.randn(4, 6)[:, ::2],
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("probe", [outputs, gradients, allocations], ids=lambda p: type(p).__name__)
def test_inputs_that_are_not_contiguous_keep_their_strides(name, probe):
    strides = []

    def look(x):
        strides.append(x.stride())
        return x + 0

    observe(probe, look, {"x": STRIDED[name]})
    assert strides == [STRIDED[name].stride()]


@pytest.mark.parametrize("name", STRIDED)
def test_strides_survive_the_way_to_the_other_process(name):
    sent = pickle.loads(cloudpickle.dumps((outputs, {"x": STRIDED[name]}, ())))[1]["x"]
    assert sent.stride() == STRIDED[name].stride()
    assert torch.equal(sent, STRIDED[name])


def test_an_expanded_input_can_be_handed_in():
    seen = observe(outputs, lambda x: x.sum(0), {"x": torch.arange(3.0).expand(4, 3)})
    assert torch.equal(seen.value.data, torch.tensor([0.0, 4.0, 8.0]))


def test_view_on_a_transposed_input_fails_as_it_would_for_a_learner():
    seen = observe(outputs, lambda x: x.view(-1), {"x": STRIDED["transposed"]})
    assert seen.raised.kind == "RuntimeError"


# --- gradients --------------------------------------------------------------------------------------------------------


def product(x, y):
    return torch.sin(x) * y


GRADIENT = exercise(
    product,
    requirements=(
        requirement(lambda s: {"x": s.normal(3, 4), "y": s.normal(3, 4)}, probe=gradients, name="gradients"),
    ),
)


def test_gradients_of_every_floating_input_are_observed():
    value = observe(gradients, product, {**X, "n": torch.tensor(2)} | {}).raised
    assert value is not None  # three arguments for a function of two
    seen = observe(gradients, lambda x, y, n: product(x, y) * n, {**X, "n": torch.tensor(2)}).value
    assert set(seen) == {"value", "gradient of x", "gradient of y", CHANGED}
    assert torch.allclose(seen["gradient of y"].data / seen["gradient of x"].data, torch.tan(X["x"]) * 1.0)


@pytest.mark.parametrize(
    ("cheat", "kind"),
    [
        (lambda x, y: product(x.detach(), y), "gradient missing"),
        (lambda x, y: product(x, y).detach(), "gradient missing"),
        (lambda x, y: product(x.data, y.data), "gradient missing"),
        (lambda x, y: torch.from_numpy(product(x, y).detach().numpy()), "gradient missing"),
        (lambda x, y: torch.tensor(product(x, y).tolist()), "gradient missing"),
        (lambda x, y: product(x, y).detach().requires_grad_(), "gradient missing"),
        (lambda x, y: torch.sin(x).detach() * y + 0 * x, "gradient"),
        (lambda x, y: product(x, y).detach().numpy(), "type"),
        (lambda x, y: None, "none"),
    ],
)
def test_lost_and_wrong_gradients_are_found(cheat, kind):
    assert finding(GRADIENT, cheat).kind == kind


def test_honest_gradients_pass_however_they_are_made():
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return torch.sin(x) * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * torch.cos(x) * y, g * torch.sin(x)

    class Wrong(Own):
        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * torch.cos(x), g * torch.sin(x)

    assert finding(GRADIENT, product) is None
    assert finding(GRADIENT, Own.apply) is None
    wrong = finding(GRADIENT, Wrong.apply)
    assert wrong.kind == "gradient"
    assert wrong.message.startswith("12 of 12 values of gradient of x differ.")


def test_no_grad_inside_the_implementation_is_a_missing_gradient():
    with torch.no_grad():
        pass

    def hidden(x, y):
        with torch.no_grad():
            return product(x, y)

    assert finding(GRADIENT, hidden).kind == "gradient missing"
    assert finding(GRADIENT, torch.no_grad()(product)).kind == "gradient missing"


def test_an_implementation_that_raises_under_the_gradient_probe_is_observed():
    seen = observe(gradients, lambda x, y: x.numpy(), X)
    assert seen.raised.kind == "RuntimeError"


def test_a_backward_that_raises_is_observed():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise ValueError("my backward")

    assert observe(gradients, lambda x, y: Broken.apply(x) * y, X).raised.message == "my backward"


def test_in_place_work_on_own_tensors_does_not_raise_under_the_gradient_probe():
    def own(x, y):
        out = torch.zeros_like(x)
        out[:] = torch.sin(x)
        out *= y
        return out

    assert finding(GRADIENT, own) is None


def test_in_place_work_on_an_input_gives_no_error_of_autograd_about_leaves():
    seen = observe(gradients, lambda x, y: x.add_(y), X)
    assert seen.raised is None


def test_gradients_of_nested_inputs_and_outputs_are_named():
    seen = observe(
        Gradients(), lambda p: (p["w"] * 2, [p["b"].sum()]), {"p": {"w": torch.ones(2), "b": torch.ones(3)}}
    )
    assert set(seen.value) == {"value", "gradient of p['w']", "gradient of p['b']", CHANGED}


def test_a_gradient_that_the_reference_does_not_have_either_is_not_asked_for():
    def first(x, y):
        return x * 2

    made = exercise(
        first,
        requirements=(requirement(lambda s: {"x": s.normal(2), "y": s.normal(2)}, probe=gradients),),
    )
    assert finding(made, lambda x, y: x + x + 0 * y) is None
    assert finding(made, lambda x, y: 2 * x.detach()) is not None


# --- costs ------------------------------------------------------------------------------------------------------------


def test_allocations_returns_the_value_and_three_numbers():
    seen = observe(allocations, lambda x, y: x * y, X).value
    assert set(seen) == {"value", "largest allocation", "peak memory", "saved for backward"}
    assert torch.equal(seen["value"].data, X["x"] * X["y"])
    assert seen["largest allocation"] == 12 * 4


def test_allocations_without_gradients_saves_nothing():
    assert (
        observe(Allocations(track_gradients=False), lambda x, y: (x * y).exp(), X).value["saved for backward"]
        == 0
    )


def test_counted_counts_and_passes_everything_through():
    seen = []
    step = Counted(lambda *args, **kwargs: seen.append((args, kwargs)) or "out")
    assert step(1, b=2) == "out"
    assert seen == [((1,), {"b": 2})]
    assert step.calls == 1
    step(1)
    assert step.calls == 2


def test_counted_counts_a_call_that_raises():
    def stop():
        raise ValueError

    step = Counted(stop)
    with pytest.raises(ValueError):  # noqa: PT011
        step()
    assert step.calls == 1


def test_two_calls_show_a_buffer_that_outlives_the_call():
    buffer = torch.zeros(3)

    def honest(x):
        return 2 * x

    def leaking(x):
        return torch.mul(x, 2, out=buffer)

    x = torch.tensor([1.0, 2.0, 3.0])
    for function, first in ((honest, 2 * x), (leaking, -2 * x)):
        seen = observe(twice, function, {"x": x}).value
        assert torch.equal(seen["the first result"].data, first)
        assert torch.equal(seen["the second result"].data, -2 * x)


def test_a_change_in_place_is_seen_where_only_gradients_are_looked_at():
    def honest(x, b):
        return x + b

    def overwriting(x, b):
        b += x
        return b.clone()

    made = exercise(
        honest,
        requirements=(requirement(lambda s: {"x": s.normal(2), "b": s.normal(2)}, probe=gradients),),
    )
    assert finding(made, honest) is None
    found = finding(made, overwriting)
    assert found.kind == "changed"
    assert "in place: b." in found.message
