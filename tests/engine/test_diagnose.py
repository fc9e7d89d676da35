"""Diagnosis: one mistake is recognised, two at once are not taken for a third, and nothing is read into a crash."""

import itertools

import pytest
import torch

from autograde.course import exercises
from autograde.exercise import Mistake
from autograde.grade import recognised
from autograde.observe import LocalObserver
from engine.helpers import (
    ATTENTION_MISTAKES,
    attend,
    attention,
    exercise,
    matrix,
    result,
    scaled,
    scaled_by_d,
    softmax_over_queries,
    without_scale,
)  # fmt: skip

RNN = exercises("rnn")
ATTENTION = attention()
TELLING = ATTENTION_MISTAKES[:3]


def sentence(made, implementation, **options):
    return result(made, implementation, **options).diagnosis


@pytest.mark.parametrize("mistake", TELLING, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_single_mistake_is_recognised(mistake, seed):
    assert sentence(ATTENTION, mistake.implementation) == mistake.sentence
    assert sentence(ATTENTION, mistake.implementation, graded=True, seed=seed) == mistake.sentence


def test_a_mistake_in_another_style_is_recognised_too():
    def other(q, k, v):
        weights = torch.exp(torch.einsum("id,jd->ij", q, k))
        return torch.einsum("ij,jd->id", weights / weights.sum(1, keepdim=True), v)

    assert sentence(ATTENTION, other) == TELLING[0].sentence


def test_a_right_answer_has_no_diagnosis():
    assert sentence(ATTENTION, attend) is None


def twice(q, k, v, *, scale=True, over_d=False, queries=False, plus=0.0):
    factor = (1 / q.shape[1] if over_d else q.shape[1] ** -0.5) if scale else 1.0
    return torch.softmax(q @ k.T * factor, 0 if queries else -1) @ v + plus


@pytest.mark.parametrize(
    "switches",
    [
        {"scale": False, "queries": True}, {"over_d": True, "queries": True}, {"plus": 1.0},
        {"scale": False, "plus": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_two_mistakes_at_once_are_not_taken_for_a_third(switches):
    assert sentence(ATTENTION, lambda q, k, v: twice(q, k, v, **switches)) is None


def test_pairs_of_mistakes_of_rnn_step_are_never_taken_for_another():
    def step(x, h, W_ih, W_hh, b_ih, b_hh, *, transposed, b1, b2, act):
        pre = x @ W_ih.T + h @ (W_hh if transposed else W_hh.T)
        return act(pre + (b_ih if b1 else 0) + (b_hh if b2 else 0))

    choices = itertools.product(
        (False, True), (True, False), (True, False), (torch.tanh, torch.sigmoid, torch.relu)
    )
    singles = {m.name: m for m in RNN["rnn_step"].mistakes}
    for transposed, b1, b2, act in choices:
        wrong = transposed + (not b1) + (not b2) + (act is not torch.tanh)
        if wrong < 2 or (wrong == 2 and not b1 and not b2):
            continue

        def both(*args, parts=(transposed, b1, b2, act)):
            names = ("transposed", "b1", "b2", "act")
            return step(*args, **dict(zip(names, parts, strict=True)))

        found = sentence(RNN["rnn_step"], both)
        allowed = {None} | ({singles["_untransposed"].sentence} if transposed else set())
        assert found in allowed, (transposed, b1, b2, act)


def test_nothing_is_recognised_from_an_exception_alone():
    def stops(q, k, v):
        raise ValueError("no")

    assert sentence(ATTENTION, stops) is None


def test_nothing_is_recognised_from_nan_alone():
    assert sentence(ATTENTION, lambda q, k, v: torch.full_like(q, float("nan"))) is None


def test_nothing_is_recognised_from_one_case_when_another_disagrees():
    def sometimes(q, k, v):
        return without_scale(q, k, v) if len(q) == 7 else attend(q, k, v) + 1

    assert sentence(ATTENTION, sometimes) is None


def test_a_wrong_shape_is_not_taken_for_a_mistake_of_values():
    assert sentence(ATTENTION, lambda q, k, v: without_scale(q, k, v).T.contiguous().T[:, :, None]) is None


def test_recognise_of_its_own_wins():
    special = Mistake("The special one.", scaled_by_d, recognise=lambda observed: True)
    made = attention(mistakes=(*TELLING, special))
    assert sentence(made, without_scale) == "The special one."
    shy = Mistake("The special one.", scaled_by_d, recognise=lambda observed: False)
    assert sentence(attention(mistakes=(*TELLING, shy)), without_scale) == TELLING[0].sentence


def test_a_mistake_with_recognise_is_not_recognised_by_its_values():
    shy = Mistake("The special one.", scaled_by_d, recognise=lambda observed: False)
    assert sentence(attention(mistakes=(shy,)), scaled_by_d) is None


def test_recognise_sees_what_was_observed_by_requirement_and_case():
    keys = []
    spy = Mistake("Spy.", scaled_by_d, recognise=lambda observed: bool(keys.extend(observed)))
    sentence(attention(mistakes=(spy,)), softmax_over_queries)
    assert keys[0] == ("matches the formula", "7 positions")


def test_a_recognise_that_stumbles_over_an_odd_result_does_not_take_the_check_with_it():
    def careless(observed):
        return any(entry.value.data.sum() > 0 for entry in observed.values())

    made = exercise(scaled, matrix, mistakes=(Mistake("Careless.", scaled, recognise=careless),))
    found = result(made, lambda x: "text")
    assert found.verdict == "wrong"
    assert found.diagnosis is None


def test_recognised_lists_every_mistake_that_fits():
    twin = Mistake("The twin.", lambda q, k, v: without_scale(q, k, v))
    made = attention(mistakes=(*TELLING, twin))
    _, found = recognised(made, LocalObserver(without_scale), graded=False, seed=0)
    assert [m.sentence for m in found] == [TELLING[0].sentence, "The twin."]
