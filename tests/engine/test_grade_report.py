"""Grading one exercise, and what a learner reads: points, text, HTML, the picture."""

import base64
import re
import struct
from html.parser import HTMLParser

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import autograde.handover
import autograde.notebook
from autograde.course import exercises
from autograde.exercise import Case, Requirement
from autograde.expect import CaseError
from autograde.grade import grade
from autograde.notebook import Check, CheckFailed, NotWritten, open_lesson
from autograde.observe import LocalObserver, Stopped
from autograde.probes import gradients
from autograde.report import as_html, as_text, headline
from engine.helpers import (
    ANSWERS,
    attention,
    exercise,
    finding,
    from_cell,
    matrix,
    requirement,
    result,
    scaled,
    toy_topic,
    without_scale,
)  # fmt: skip

TWO = exercise(
    scaled,
    requirements=(
        Requirement("values", (Case("four by eight", matrix), Case("hidden", matrix, shown=False)), points=2),
        requirement(matrix, name="gradients", probe=gradients, points=3),
    ),
)


def stub(*args):
    raise NotImplementedError


# --- points -----------------------------------------------------------------------------------------------------------


def test_each_requirement_carries_its_own_points():
    right, detached = result(TWO, scaled), result(TWO, lambda x: 2 * x.detach())
    assert (right.verdict, right.score, right.max_score) == ("ok", 5, 5)
    assert (detached.verdict, detached.score) == ("wrong", 2)
    assert [r.ok for r in detached.requirements] == [True, False]


def test_a_stub_scores_nothing_and_is_not_written_yet():
    found = result(TWO, stub)
    assert (found.score, found.not_written, found.ok) == (0, True, False)
    assert headline(found) == "scaled: not written yet (0 of 5 points)."


def test_what_is_met_counts_also_when_another_requirement_is_not_written_yet():
    def half_done(x):
        if x.requires_grad:
            raise NotImplementedError
        return 2 * x

    found = result(TWO, half_done)
    assert found.score == 2
    assert not found.ok


def test_hidden_cases_count_only_when_graded():
    seen = []

    def look(x):
        seen.append(x.clone())
        return 2 * x

    result(TWO, look)
    shown = len(seen)
    result(TWO, look, graded=True, seed=1)
    assert len(seen) - shown == shown + 1


def test_an_answer_for_the_shown_numbers_alone_fails_when_graded():
    known = exercise(scaled, matrix).requirements[0].cases[0].inputs(0)["x"]

    def learnt_by_heart(x):
        return 2 * x if torch.equal(x.detach(), known) else torch.zeros_like(x)

    made = exercise(scaled, matrix)
    assert result(made, learnt_by_heart).ok
    assert not result(made, learnt_by_heart, graded=True, seed=1).ok


def test_a_forbidden_operator_costs_the_whole_exercise():
    made = attention(forbids=("softmax",))
    found = result(made, without_scale)
    assert (found.score, found.verdict) == (0, "wrong")
    assert found.first.kind == "forbidden"


def test_what_was_met_before_a_timeout_counts():
    look = LocalObserver(scaled, quiet=True)

    def observer(probe, inputs, watch=()):
        if probe is gradients:
            raise Stopped("timeout", "It ran for more than 20 seconds and was stopped.", True)
        return look(probe, inputs, watch)

    found = grade(TWO, observer)
    assert (found.score, found.verdict) == (2, "timeout")
    assert "20 seconds" in as_text(found, "toy")


def test_our_own_broken_case_is_no_verdict_about_the_learner():
    def broken(x):
        raise ValueError

    with pytest.raises(CaseError):
        result(exercise(broken, matrix), scaled)


@pytest.mark.parametrize(
    "change",
    [
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float16),
        lambda: torch.set_grad_enabled(False),
        lambda: torch.manual_seed(12345),
        lambda: torch.set_default_device("meta"),
    ],
    ids=["float64", "float16", "grad mode", "seed", "default device"],
)
def test_the_global_state_of_a_notebook_does_not_change_the_verdict(change):
    def preallocated(x):
        out = torch.zeros(4, 8)
        out[:] = 2 * x
        return out

    assert result(exercise(scaled, matrix), preallocated).ok
    fresh = exercise(
        scaled, requirements=(requirement(matrix), requirement(matrix, name="b", probe=gradients))
    )
    change()
    found = result(fresh, preallocated)
    assert found.ok, as_text(found, "toy")
    assert result(fresh, lambda x: torch.zeros(4, 8)).score == 0


# --- text -------------------------------------------------------------------------------------------------------------


def test_the_text_report_has_the_case_the_numbers_and_a_line_for_bug_reports():
    text = as_text(result(TWO, lambda x: 2 * x + 1, graded=True, seed=7), "toy")
    lines = text.splitlines()
    assert lines[0] == "scaled: 0 of 2 requirements met (0 of 5 points)."
    assert "  FAIL  values (0/2)" in lines
    assert "In the case 'four by eight': 32 of 32 values of the result differ." in text
    assert "Largest error 1.00e+00" in text
    assert "It fails in 2 of 2 cases: also in 'hidden'." in text
    assert re.search(r"For a bug report: rederive \S+ · toy\.scaled · case 'four by eight' · seed 7$", text)


def test_the_text_of_success_is_short():
    text = as_text(result(TWO, scaled), "toy")
    assert text.splitlines()[0] == "scaled: all 2 requirements met (5 of 5 points)."
    assert len(text.splitlines()) <= 4
    assert text.count("pass") == 2


def test_the_diagnosis_comes_before_the_numbers():
    text = as_text(result(attention(), without_scale), "toy")
    assert text.splitlines()[1] == "  You left out the scale."


def test_a_finding_that_repeats_is_told_once():
    def stops(x):
        raise ValueError("same")

    same = exercise(scaled, requirements=(requirement(matrix), requirement(matrix, name="again")))
    text = as_text(result(same, stops), "toy")
    assert text.count("ValueError: same") == 1
    assert "The same as above." in text


def test_a_report_can_be_written_to_a_file_whatever_an_exception_says():
    def stops(x):
        raise ValueError("half a character: \udcff")

    found = result(TWO, stops)
    as_text(found, "toy").encode()
    as_html(found, "toy").encode()


# --- HTML -------------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.styles, self.colours = [], [], [], []

    def handle_starttag(self, tag, attrs):
        style = dict(attrs).get("style", "")
        self.tags.append(tag)
        self.styles.append(style)
        self.open.append((tag, "color:#" in style.replace("border-", "").replace(" ", "")))
        if tag in ("img", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip() and any(coloured for _, coloured in self.open):
            self.colours.append(data)


def parsed(found, topic="toy"):
    parser = Tags()
    parser.feed(as_html(found, topic))
    parser.close()
    assert parser.open == []
    return parser


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_html_from_a_learners_message_and_lines_is_escaped():
    stops = from_cell(f"def stops(x):\n    raise ValueError('{EVIL}')\n", "stops", "/tmp/ipykernel_1/7.py")
    found = result(TWO, stops)
    html = as_html(found, "toy")
    assert "&lt;script&gt;" in html
    parser = parsed(found)
    assert "script" not in parser.tags
    assert "img" not in parser.tags


def test_html_from_names_of_types_is_escaped():
    made = type(EVIL, (), {})
    assert "script" not in parsed(result(TWO, lambda x: made())).tags


def test_html_is_well_formed_in_every_outcome():
    for implementation in (scaled, stub, lambda x: 2 * x + 1, lambda x: None, lambda x: x.sum()):
        parsed(result(TWO, implementation))
    parsed(result(attention(), without_scale))


def test_text_takes_the_colour_of_the_page():
    parser = parsed(result(TWO, lambda x: 2 * x + 1))
    assert all(text.split()[0] in "✓✗" for text in parser.colours)
    assert not any("background:" in style.replace("background:transparent", "") for style in parser.styles)
    assert "color:black" not in "".join(parser.styles).replace(" ", "")


# --- the picture ------------------------------------------------------------------------------------------------------


def pictures(html):
    return [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_matrices_are_shown_side_by_side():
    (png,) = pictures(as_html(result(TWO, lambda x: 2 * x + 1), "toy"))
    width, height = size(png)
    assert 500 <= width <= 1200
    assert 150 <= height <= 500


def test_the_picture_has_a_text_alternative():
    assert 'alt="got, expected and their difference in the case &#x27;four by eight&#x27;"' in as_html(
        result(TWO, lambda x: 2 * x + 1), "toy"
    )


def total(x):
    return float(x.sum())


def vector(x):
    return x.sum(0)


@pytest.mark.parametrize("reference", [total, vector])
def test_scalars_and_vectors_have_no_picture(reference):
    made = exercise(reference, matrix)
    assert pictures(as_html(result(made, lambda x: reference(x) + 1), "toy")) == []


def test_success_a_stub_and_a_wrong_shape_have_no_picture():
    for implementation in (scaled, stub, lambda x: x.T):
        assert pictures(as_html(result(TWO, implementation), "toy")) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.filterwarnings("error")
def test_a_picture_is_drawn_also_of_values_that_are_not_finite(bad):
    def wrong(x):
        out = 2 * x
        out[1, 2] = bad
        return out

    (png,) = pictures(as_html(result(exercise(scaled, matrix), wrong), "toy"))
    assert size(png)[0] > 500


def test_a_picture_is_drawn_of_a_result_that_is_infinite_everywhere():
    assert len(pictures(as_html(result(exercise(scaled, matrix), lambda x: x / 0.0), "toy"))) == 1


def test_a_reference_whose_annotation_has_other_dimensions_does_not_break_the_picture():
    flat = exercise(scaled, lambda s: {"x": s.normal(2, 3, 4)})
    assert len(pictures(as_html(result(flat, lambda x: 2 * x + 1), "toy"))) == 1


def test_a_large_matrix_is_shown_around_its_worst_element():
    def cube(x: Float[Tensor, "batch time hidden"]) -> Float[Tensor, "batch time hidden"]:
        return 2 * x

    def large(s):
        return {"x": s.normal(3, 200, 300)}

    def wrong(x):
        out = 2 * x
        out[2, 150, 290] += 5
        return out

    html = as_html(result(exercise(cube, large), wrong), "toy")
    assert len(pictures(html)) == 1
    assert "[2]" in html or " 2" in re.search(r"<figcaption.*?</figcaption>", html)[0]


# --- check in a notebook ----------------------------------------------------------------------------------------------


def test_a_right_answer_raises_nothing_and_a_wrong_one_an_assertion_error(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    check = Check("toy/01", TWO)
    check(scaled)
    assert "all 2 requirements met" in capsys.readouterr().out
    with pytest.raises(CheckFailed, match="1 of 2 requirements met") as caught:
        check(lambda x: 2 * x.detach())
    assert isinstance(caught.value, AssertionError)
    assert caught.value._render_traceback_() == [
        "CheckFailed: scaled: 1 of 2 requirements met (2 of 5 points)."
    ]
    with pytest.raises(NotWritten) as caught:
        check(stub)
    assert isinstance(caught.value, NotImplementedError)


def test_infinity_in_a_result_is_a_failed_check_and_no_crash(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckFailed):
        Check("toy/01", TWO)(lambda x: x / 0.0)


def test_stopping_a_long_check_names_the_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    endless = from_cell(
        "def endless(x):\n    while True:\n        raise KeyboardInterrupt\n",
        "endless",
        "/tmp/ipykernel_2/8.py",
    )
    with pytest.raises(CheckFailed) as caught:
        Check("toy/01", TWO)(endless)
    assert str(caught.value) == (
        "scaled: you stopped it while it was running, at line 3 in endless: raise KeyboardInterrupt."
    )
    assert caught.value.__suppress_context__


def test_warnings_inside_a_check_go_to_stdout(capsys, monkeypatch, tmp_path):
    import sys
    import warnings

    monkeypatch.chdir(tmp_path)

    def warns(x):
        warnings.warn("careful", stacklevel=1)
        print("progress", file=sys.stderr)
        return 2 * x

    Check("toy/01", TWO)(warns)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "progress" in shown.out


def test_open_lesson_lists_its_exercises_and_explains_a_wrong_name(monkeypatch):
    toy_topic(monkeypatch)
    lesson = open_lesson("toytopic/01_toys")
    assert dir(lesson) == ["double"]
    with pytest.raises(AttributeError, match="There are: double"):
        lesson.dubble  # noqa: B018
    with pytest.raises(Exception, match="form topic/notebook"):
        open_lesson("toytopic")


def test_where_the_notebook_was_handed_over_a_check_decides_nothing(monkeypatch):
    monkeypatch.setattr(autograde.handover, "ACTIVE", True)
    assert open_lesson("rnn/01_vanilla_rnn").rnn_step(stub) is None


def test_under_nbgrader_all_cases_are_looked_at(monkeypatch):
    seen = []

    def look(x):
        seen.append(1)
        return 2 * x

    check = Check("toy/01", TWO)
    check.result(look)
    shown = len(seen)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("REDERIVE_STOCK_GRADING", "1")
    check.result(look)
    assert len(seen) > 2 * shown


def test_under_nbgrader_without_our_steps_a_check_raises_though_the_answer_is_right(monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(CheckFailed, match="autograde grade"):
        Check("toy/01", TWO)(lambda x: 2 * x)


def test_the_answers_that_other_tests_rely_on_are_right():
    for name, source in ANSWERS.items():
        space = {"torch": torch}
        exec(source, space)
        made = exercises("rnn")[name]
        assert result(made, space[name], graded=True, seed=1).ok
        assert finding(made, stub).kind == "not written"
