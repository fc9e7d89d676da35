"""Meters: bytes of storage and operators, with an honest implementation and one that costs more."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from autograde.meters import measure_memory, operators_called
from autograde.observe import observe
from autograde.probes import allocations, outputs

N, D = 256, 16
Q = {"q": torch.randn(N, D), "k": torch.randn(N, D), "v": torch.randn(N, D)}


def naive(q, k, v):
    return torch.softmax(q @ k.T * D**-0.5, -1) @ v


def tiled(q, k, v, tile=16):
    rows = []
    for start in range(0, N, tile):
        block = q[start : start + tile] @ k.T * D**-0.5
        rows.append(torch.softmax(block, -1) @ v)
    return torch.cat(rows)


class Recompute(torch.autograd.Function):
    """Tiled attention that keeps only its inputs for the backward pass."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return tiled(q, k, v)

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            return torch.autograd.grad(naive(*inputs), inputs, g)


class Hoards(Recompute):
    """The same, but it hides the probabilities on the context, past save_for_backward."""

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        ctx.p = torch.softmax(q @ k.T * D**-0.5, -1)
        return ctx.p @ v


def memory(implementation, inputs=Q):
    seen = observe(allocations, implementation, inputs)
    assert seen.raised is None, seen.raised
    return seen.value


def test_attention_with_and_without_the_square_matrix():
    square = N * N * 4
    assert memory(naive)["largest allocation"] >= square
    assert memory(tiled)["largest allocation"] < square / 4
    assert memory(naive)["peak memory"] >= 2 * square
    assert memory(naive)["saved for backward"] >= square


def test_what_is_saved_for_backward_is_seen_also_where_it_hangs_on_the_context():
    square = N * N * 4
    assert memory(Recompute.apply)["saved for backward"] < square / 8
    assert memory(Hoards.apply)["saved for backward"] >= square


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_saves_less_in_both_modes(reentrant):
    inputs = {"x": torch.randn(64, 128)}

    def plain(x):
        for _ in range(6):
            x = torch.tanh(x).exp()
        return x

    def checkpointed(x):
        for _ in range(3):
            x = checkpoint(lambda y: torch.tanh(torch.tanh(y).exp()).exp(), x, use_reentrant=reentrant)
        return x

    assert (
        memory(checkpointed, inputs)["saved for backward"] < memory(plain, inputs)["saved for backward"] / 2
    )


def test_views_and_expand_allocate_nothing():
    seen = memory(lambda x: x.expand(1000, 50).t()[:7].unsqueeze(0), {"x": torch.randn(1, 50)})
    assert seen["largest allocation"] == 0
    assert (
        memory(lambda x: x.expand(1000, 50).clone(), {"x": torch.randn(1, 50)})["largest allocation"]
        == 200_000
    )


def test_in_place_work_allocates_nothing():
    assert memory(lambda x: x.mul_(2).add_(1), {"x": torch.randn(100)})["peak memory"] == 0


def test_several_small_tensors_add_up_in_the_peak_and_not_in_the_largest():
    def many(x):
        return torch.cat([x + i for i in range(10)])

    seen = memory(many, {"x": torch.randn(100)})
    assert seen["largest allocation"] == 4000
    assert seen["peak memory"] >= 8000


def test_what_is_freed_is_not_alive_any_more():
    def chain(x):
        with torch.no_grad():
            for _ in range(20):
                x = x + 1
        return x

    assert memory(chain, {"x": torch.randn(1000)})["peak memory"] <= 3 * 4000


def test_the_result_does_not_count_as_saved():
    assert memory(lambda x: x + 1, {"x": torch.randn(1000)})["saved for backward"] == 0


def test_what_only_a_reference_cycle_keeps_alive_is_not_saved_for_backward():
    def recursive(x):
        big = torch.cat([x] * 100).detach()

        def inner(depth):  # refers to itself, so it and `big` wait for the garbage collector
            return big[:1].sum() if depth == 0 else inner(depth - 1)

        return x.sum() + inner(3)

    assert memory(recursive, {"x": torch.randn(1000)})["saved for backward"] < 400_000


def test_a_storage_that_grows_counts_with_its_final_size():
    _, seen = measure_memory(lambda: torch.empty(0).resize_(10_000), [])
    assert seen.largest == 40_000


def test_measuring_twice_gives_the_same_numbers():
    assert memory(tiled)["peak memory"] == memory(tiled)["peak memory"]


# --- operators --------------------------------------------------------------------------------------------------------

RNN = ("rnn_tanh", "rnn_tanh_cell", "scaled_dot_product_attention", "softmax", "tanh")


def called(work, watch=RNN):
    found: set[str] = set()
    with operators_called(found, watch):
        work()
    return found


def test_library_layers_are_seen_by_the_operator_they_call():
    x = torch.randn(2, 3)
    assert "rnn_tanh_cell" in called(lambda: torch.nn.RNNCell(3, 4)(x))
    assert "rnn_tanh" in called(lambda: torch.nn.RNN(3, 4)(x[None]))
    assert "rnn_tanh_cell" in called(
        lambda: torch.rnn_tanh_cell(x, torch.zeros(2, 4), torch.ones(4, 3), torch.ones(4, 4))
    )


def test_fused_attention_is_seen_from_every_entrance():
    q = torch.randn(1, 2, 5, 4)
    watch = ("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
    assert "scaled_dot_product_attention" in called(lambda: F.scaled_dot_product_attention(q, q, q), watch)
    assert "scaled_dot_product_attention" in called(
        lambda: torch.ops.aten.scaled_dot_product_attention(q, q, q), watch
    )
    layer = torch.nn.MultiheadAttention(4, 2)
    assert called(lambda: layer(q[0], q[0], q[0], need_weights=False), watch)
    assert called(lambda: layer(q[0], q[0], q[0]), ("multi_head_attention_forward",))


def test_methods_functions_and_functional_are_the_same_operator():
    x = torch.randn(3)
    for work in (lambda: x.softmax(0), lambda: torch.softmax(x, 0), lambda: F.softmax(x, 0)):
        assert called(work) == {"softmax"}


def test_in_place_and_out_variants_do_not_slip_through_unnoticed():
    x = torch.randn(3)
    assert "tanh" in called(lambda: torch.tanh(x, out=torch.empty(3)))
    assert "tanh_" in called(lambda: x.clone().tanh_(), ("tanh_",))


def test_a_python_function_of_the_same_name_does_not_count():
    def rnn_tanh(x):
        return x * 2

    class Layer(torch.nn.Module):
        def softmax(self, x):
            return x

    assert called(lambda: (rnn_tanh(torch.ones(2)), Layer().softmax(torch.ones(2)))) == set()


def test_only_watched_names_are_noted_and_nothing_without_a_watch():
    assert called(lambda: torch.ones(2).exp(), ("tanh",)) == set()
    assert called(lambda: torch.ones(2).tanh(), ()) == set()


def test_a_call_before_an_exception_is_noted():
    def stop(x):
        torch.tanh(x)
        raise ValueError

    assert observe(outputs, stop, {"x": torch.ones(2)}, ("tanh",)).called == ("tanh",)


def test_the_backward_pass_is_watched_too():
    x = torch.ones(2, requires_grad=True)
    assert called(lambda: x.tanh().sum().backward(), ("tanh_backward",)) == {"tanh_backward"}


def test_operators_in_another_thread_are_not_seen():
    """Modes belong to one thread: a documented limit of the meters, not a promise."""

    def elsewhere():
        thread = threading.Thread(target=lambda: torch.tanh(torch.ones(2)))
        thread.start()
        thread.join()

    assert called(elsewhere) == set()
