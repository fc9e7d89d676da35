"""Every lesson keeps every rule of the contract; and each rule complains about a lesson that breaks it.

The lessons that break a rule are made from fixtures/good.py by the edits in BROKEN and FALSE. To read what each of them
draws: python -m pytest tests/lessons/test_contract.py -v -rP -k broken
"""

from pathlib import Path

import pytest
from claimed_numbers import unsupported
from contract import RULES, has_widget
from executed import Executed
from reading import Lesson, read_lesson

from autograde.build import source_notebook, to_text
from autograde.course import read_course, root
from autograde.sources import complaints, read_sources

COURSE = read_course()
SOLUTIONS = root() / "solutions"
LESSONS = {source.name: Lesson(source) for source in read_sources(SOLUTIONS, COURSE)}
GOOD = Path(__file__).parent / "fixtures" / "good.py"

EXERCISE_3 = ("# %% [markdown]\n# ### Exercise 3 · n_params", "# %% [markdown]\n# A layer of 16 units")
HINT_3 = (
    "# <details>\n# <summary>Hint 2: nearly the line</summary>\n#\n# $H I",
    '# <details>\n# <summary>"I think',
)
SYMPTOM_3 = ('# <details>\n# <summary>"I think', "\n# %% check_n_params")
LONG = "".join(f"    total += {k}\n" for k in range(20))
PRINTS_3 = 'print(f"a layer of 16 units: {n_params(2, 16)} numbers")'
MARKED_DOCSTRING = '''    ### BEGIN SOLUTION
    """Numbers.

    Arguments:
        input_size: I. hidden_size: H. gates: blocks.

    Returns:
        How many.

    Example:
        n_params(2, 3) is 21.
    """
'''

# The rule, the text in good.py (or from where to where), what stands there instead.
BROKEN = [
    ("one_title", "# # How often a window is wrong", "# ## How often a window is wrong"),
    ("one_title", "# ## Notation", "# # Another title\n#\n# ## Notation"),
    ("claim_and_facts", "# **Claim.** A model", "# A model"),
    ("claim_and_facts", "# | **Graded** | three exercises |\n", ""),
    ("claim_and_facts", "# | **You need** |", "# | **Before** |"),
    ("claim_and_facts", "about 15 minutes", "an evening"),
    ("notation", "# ## Notation", "# ## Symbols"),
    ("notation", "# | $t$ | position of the sum bit | 0 and up |\n", ""),
    ("exercise_headings", "●●○  8 minutes", "●●○ 8 minutes"),
    ("exercise_headings", "●●○  8 minutes", "○○○  8 minutes"),
    ("exercise_headings", "●●○  8 minutes", "●●○○  8 minutes"),
    ("exercise_headings", "### Exercise 2 · last_valid", "### Exercise 3 · last_valid"),
    ("exercise_headings", "### Exercise 2 · last_valid", "#### Exercise 2 · last_valid"),
    ("exercise_headings", "### Exercise 2 · last_valid", "### Exercise 2 · last_state"),
    ("exercise_headings", "# ### Exercise 2 · last_valid  ●○○  3 minutes\n#\n", ""),
    (
        "exercise_headings",
        "# ## What you built",
        "# ### Exercise 4 · more  ●○○  1 minute\n#\n# ## What you built",
    ),
    ("check_follows", "# %% check_n_params", '# %%\nprint("between")\n\n# %% check_n_params'),
    ("hints", HINT_3, ""),
    ("hints", "Hint 2: nearly the line</summary>\n#\n# $H I", "Hint: nearly the line</summary>\n#\n# $H I"),
    ("symptoms", SYMPTOM_3, ""),
    ("symptoms", '"I think the number of time steps is missing"', "The number of time steps is missing"),
    ("docstrings", "    Arguments:\n        input_size: I.", "    Takes:\n        input_size: I."),
    ("docstrings", "    Returns:\n        How many", "    Gives:\n        How many"),
    ("docstrings", "\n    Example:\n        n_params(2, 3) is 21.\n", ""),
    ("docstrings", "n_params(2, 3) is 21.", "A small layer has few."),
    ("annotations", "def window_error(w: int, t: int)", "def window_error(w: int, t)"),
    ("annotations", "gates: int = 1) -> int:", "gates: int = 1):"),
    (
        "answer_length",
        "    return gates * hidden_size",
        f"    total = 0\n{LONG}    return gates * hidden_size",
    ),
    ("three_to_six_exercises", EXERCISE_3, ""),
    ("minutes", "●●○  8 minutes", "●●○  11 minutes"),
    ("something_is_seen", PRINTS_3, "layer = n_params(2, 16)"),
    ("something_is_seen", PRINTS_3, 'print("a layer of 16 units: 320 numbers")'),
    ("widget_question", "from which width on can you not tell the points from zero?", "move the control."),
    ("negative_control", "negative control", "comparison"),
    ("what_you_built", "# ## What you built", "# ## The end"),
    ("what_you_built", "# **Limits.** Random", "# Random"),
    ("what_you_built", "# **Cost.** Nothing", "# Nothing"),
    ("sources_last", "Proceedings of the IEEE 78 (1990)", "Proceedings of the IEEE"),
    ("sources_last", "# ## Sources", "# ## Papers"),
    ("no_exclamation", "Nothing is trained.", "Nothing is trained!"),
    ("no_fillers", "Nothing is trained.", "Of course nothing is trained."),
    ("no_fillers", "Nothing is trained.", "It is just\n# a count."),
    ("no_fillers", "Nothing is trained.", "It is easy to count."),
    ("captions", '    plotting.caption(fig, "The error grows from zero to its limit.")\n', ""),
    ("axis_labels", 'xlabel="bit position t", ', ""),
    ("axis_labels", ', ylabel="wrong answers (fraction)"', ""),
    ("links", "(01_vanilla_rnn.ipynb)", "(00_before.ipynb)"),
    ("links", "(01_vanilla_rnn.ipynb)", "(/lessons/rnn/01_vanilla_rnn.ipynb)"),
    ("links", "Random numbers only.", "Random numbers only, see `utils/no_such_file.py`."),
    ("links", "Random numbers only.", "Random numbers only; notebook 07 has others."),
    ("stub_and_solution", ('    """Numbers in', "    return gates * hidden_size"), MARKED_DOCSTRING),
    ("like_the_reference", "def n_params(input_size:", "def n_params(inputs:"),
    ("like_the_reference", "gates: int = 1", "gates: int = 3"),
    (
        "like_the_reference",
        'out: Float[Tensor, "batch time hidden"]',
        'out: Float[Tensor, "time batch hidden"]',
    ),
    ("no_machine", PRINTS_3, f'{PRINTS_3}\nprint(open("/home/me/notes.txt"))'),
    ("no_machine", "Nothing is trained.", "Nothing is trained: see http://localhost:8888."),
]

ALLOWED = [
    ("Nothing is trained.", "One copy has just made a carry. As easy to count as before, just above 2."),
    ("Nothing is trained.", "`!ls` and $n!$ are code and a formula."),
    (
        "Random numbers only.",
        "Random numbers only; notebook 02 has others, and `utils/plotting.py` draws them.",
    ),
]

# As BROKEN, for the numbers in the text: they are compared with what good.py prints.
FALSE = [
    ("misses 0.0618 of", "misses 0.0619 of"),  # wrong
    ("misses 0.0618 of", "misses 0.06180 of"),  # more digits than are printed
    ("gets 6.18 % of", "gets 6.2 % of its bits and 6.19 % of"),
    ("has 320 numbers", "has 321 numbers"),
    ("# <!-- not printed: -0.69 (the natural logarithm of one half) -->\n", ""),
    ("not printed: -0.69 (", "not printed: -0.69, 3.2 ("),  # declares what does not occur
    ("not printed: -0.69 (", "not printed: 0.69 ("),
    ("-0.69 (the natural logarithm of one half) -->", "-0.69 -->"),  # no reason
]


def changed(old, new) -> str:
    """The text of good.py with one place changed."""
    text = GOOD.read_text(encoding="utf-8")
    start, stop = old if isinstance(old, tuple) else (old, None)
    assert text.count(start) == 1, f"{start!r} has to stand in good.py once"
    at = text.index(start)
    end = at + len(start) if stop is None else text.index(stop, at)
    return text[:at] + new + text[end:]


def fixture(folder: Path, old, new) -> Lesson:
    """The lesson that good.py becomes by a change."""
    path = folder / "good.py"
    path.write_text(changed(old, new), encoding="utf-8")
    return read_lesson(path, "rnn/good")


def broken_rules(lesson: Lesson) -> dict[str, list[str]]:
    """What each rule that complains has to say."""
    found = {name: [lesson.readable(complaint) for complaint in rule(lesson)] for name, rule in RULES.items()}
    return {name: texts for name, texts in found.items() if texts}


def notebook(lesson: Lesson) -> str:
    return to_text(source_notebook(lesson.source))


@pytest.fixture(scope="module")
def good(executed) -> Executed:
    return executed("rnn/good", notebook(read_lesson(GOOD, "rnn/good")))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_keeps(lesson, name):
    rule = RULES[name]
    found = [LESSONS[lesson].readable(complaint) for complaint in rule(LESSONS[lesson])]
    if found:
        pytest.fail("\n".join([f"{rule.__doc__} ({name})", *found]), pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_every_number_in_the_text_is_printed(lesson, executed):
    ran = executed(lesson, notebook(LESSONS[lesson]))
    assert ran.ok, ran.report[-4000:]
    found = [LESSONS[lesson].readable(complaint) for complaint in unsupported(LESSONS[lesson], ran.notebook)]
    if found:
        pytest.fail("\n".join([str(unsupported.__doc__), *found]), pytrace=False)


@pytest.mark.parametrize("topic", sorted({lesson.source.topic for lesson in LESSONS.values()}))
def test_each_series_has_an_interactive_figure(topic):
    assert any(has_widget(lesson) for lesson in LESSONS.values() if lesson.source.topic == topic)


def test_the_good_fixture_keeps_every_rule():
    lesson = read_lesson(GOOD, "rnn/good")
    assert broken_rules(lesson) == {}
    assert has_widget(lesson)
    assert [line for line in complaints([lesson.source], COURSE, SOLUTIONS) if "rnn/good" in line] == []


@pytest.mark.parametrize(
    ("name", "old", "new"), BROKEN, ids=[f"{k}-{edit[0]}" for k, edit in enumerate(BROKEN)]
)
def test_a_broken_fixture_draws_a_complaint_of_its_rule_and_of_no_other(name, old, new, tmp_path):
    found = broken_rules(fixture(tmp_path, old, new))
    print(*(text for texts in found.values() for text in texts), sep="\n")
    assert list(found) == [name]
    assert len(found[name]) == 1


def test_each_rule_has_a_broken_fixture():
    assert set(RULES) == {name for name, _, _ in BROKEN}


@pytest.mark.parametrize(("old", "new"), ALLOWED)
def test_no_rule_complains_about_this(old, new, tmp_path):
    assert broken_rules(fixture(tmp_path, old, new)) == {}


def test_a_complaint_says_file_line_and_cell(tmp_path):
    lesson = fixture(tmp_path, "Nothing is trained.", "Nothing is trained!")
    (complaint,) = RULES["no_exclamation"](lesson)
    text = lesson.readable(complaint)
    lines = lesson.source.path.read_text(encoding="utf-8").splitlines()
    line = lines.index("# **Cost.** Nothing is trained!") + 1
    assert text.startswith(
        f"solutions/rnn/good.py:{line}, cell 'A layer of 16 units has 320 numbers.': no exclamation"
    )


def test_a_fixture_without_widgets_has_none(tmp_path):
    assert not has_widget(fixture(tmp_path, "widgets.explore(draw_errors", "print(draw_errors"))


@pytest.mark.slow
def test_the_good_fixture_runs_and_prints_its_numbers(good):
    assert good.ok, good.report
    assert (good.widgets, good.calls) == (1, 2)
    assert list(unsupported(read_lesson(GOOD, "rnn/good"), good.notebook)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), FALSE)
def test_a_broken_number_is_found_and_no_rule_complains(old, new, tmp_path, good):
    lesson = fixture(tmp_path, old, new)
    found = [lesson.readable(complaint) for complaint in unsupported(lesson, good.notebook)]
    print(*found, sep="\n")
    assert len(found) >= 1
    assert broken_rules(lesson) == {}


@pytest.mark.slow
def test_a_broken_widget_fails_at_the_end_of_its_control(tmp_path, executed):
    lesson = fixture(
        tmp_path, 'xlabel="bit position t"', 'title=f"{1 / (12 - w):.2f}", xlabel="bit position t"'
    )
    assert broken_rules(lesson) == {}
    ran = executed("rnn/good_with_a_broken_widget", notebook(lesson))
    print(ran.report)
    assert not ran.ok
    assert "the interactive figure fails at the end of a control: draw_errors(w=12)" in ran.report
    assert list(unsupported(lesson, ran.notebook)) == []
