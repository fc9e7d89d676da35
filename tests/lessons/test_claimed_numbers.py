"""Which numbers a text claims, how precisely, and which printed numbers support them."""

from decimal import Decimal
from pathlib import Path

import pytest
from claimed_numbers import Claims, Number, claiming, literals, numbers, printed, unsupported
from nbformat.v4 import new_code_cell, new_notebook, new_output
from reading import Lesson

from autograde.sources import Source, SourceCell


def claimed(text):
    return [written for _, written, _ in Claims(text).found]


def only(text):
    ((_, _, number),) = numbers(text)
    return number


def lesson(*cells):
    """A lesson of markdown texts (str) and of code cells (1-tuples)."""
    made = [
        SourceCell("code", "", frozenset(), cell[0])
        if isinstance(cell, tuple)
        else SourceCell("markdown", "", frozenset(), cell)
        for cell in cells
    ]
    return Lesson(Source("rnn/made", Path(__file__), tuple(made)))


def ran(*texts):
    return new_notebook(
        cells=[new_code_cell("print()", outputs=[new_output("stream", text=text)]) for text in texts]
    )


def missing(text, output, code=""):
    return [complaint.reason.split("'")[1] for complaint in unsupported(lesson(text, (code,)), ran(output))]


@pytest.mark.parametrize(
    ("text", "value", "unit", "percent"),
    [
        ("3.34", "3.34", "0.01", False),
        ("0.50", "0.5", "0.01", False),
        ("1.7e-5", "0.000017", "1e-6", False),
        ("2e+3", "2000", "1e3", False),
        ("1.7·10^-5", "0.000017", "1e-6", False),
        ("1.7 · 10^-5", "0.000017", "1e-6", False),
        ("1.7 × 10⁻⁵", "0.000017", "1e-6", False),
        ("1.7 x 10^{-5}", "0.000017", "1e-6", False),
        ("1.7*10**-5", "0.000017", "1e-6", False),
        ("12.5 %", "12.5", "0.1", True),
        ("12.5%", "12.5", "0.1", True),
        ("5 percent", "5", "1", True),
        ("1,000,000", "1000000", "1", False),
        ("1\u202f000", "1000", "1", False),
        ("-0.3", "-0.3", "0.1", False),
        ("−0.3", "-0.3", "0.1", False),
        ("(-0.3)", "-0.3", "0.1", False),
        ("+16", "16", "1", False),
        ("12x", "12", "1", False),
        ("200-bit", "200", "1", False),
        ("16.", "16", "1", False),
    ],
)
def test_a_number_is_read_as_it_is_written(text, value, unit, percent):
    assert only(text) == Number(Decimal(value), Decimal(unit), percent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 10-20 or 10–20", ["10", "20", "10", "20"]),
        ("0.1-0.3", ["0.1", "0.3"]),
        ("1/16 of them", ["16"]),
        ("about 12.5 %, 25% or 98.4 percent", ["12.5 %", "25%", "98.4 percent"]),
        ("is 25x faster, in 20 ms", ["25", "20"]),
        ("16 units, 3.5, and then 40.", ["16", "3.5", "40"]),
        ("the 16-dimensional state, the 11th line", ["16", "11"]),
        ("| 0.44 | 63 |", ["0.44", "63"]),
        ("**0.022**, *17*", ["0.022", "17"]),
        ("5 % and 0%", ["5 %", "0%"]),
        ("## 200 bits", ["200"]),
        ("in 2000 steps", ["2000"]),
        ("trained for 1990 steps", ["1990"]),
        ("44 of 2000.", ["44", "2000"]),
        ("<details>\n<summary>Answer</summary>\n\n1.50\n\n</details>", ["1.50"]),
        ('<details>\n<summary>"I see 0.25"</summary>\n\nNo.\n\n</details>', ["0.25"]),
        ("costs \\$12.50", ["12.50"]),
        ("lists 1,200 of 30,000", ["1,200", "30,000"]),
        ("[after 40 steps](https://example.org/99)", ["40"]),
        ("10. ten items of 30", ["30"]),
        ("after 16 steps (1990 of them)", ["16", "1990"]),
    ],
)
def test_these_are_claims(text, expected):
    assert claimed(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "$0.95$ and $1.7 \\cdot 10^{-5}$ and $2^{29}$",
        "$$ p = 0.25 ,\n q = 16 . $$",
        "a formula $16\n+ 17$ over two lines",
        "`0.95` and ``x = 17``",
        "```text\n0.95\n```",
        "<!-- 0.95 -->",
        "1. one\n2. two\n10. ten\n12) twelve",
        "one digit: 3 of 4, 2x, 3D, part 1 of 4",
        "Python 3.11, PyTorch 2.6, torch 2.6.0, version 1.16 and v0.1.10",
        "notebook 02 and notebooks 03 and 04",
        "exercise 12, Exercises 10 to 12",
        "sections 3.2, 3.4 and 12.1, Section 12, §4.2",
        "equation (12), eq. 13, Eqs. (12)-(14), figure 10, Table 2.1, pages 179–211, chapter 18, Appendix 11",
        "arXiv:1706.03762, arXiv 1409.0473v7",
        "Elman (1990), (Werbos, 1990), (see Hinton 1986a)",
        "in 1997, and since 2014.",
        "3 March 2019, on 14 March 2019, March 2019, 2019-03-14",
        "https://example.org/16/0.5 and [text](../a/12.html)",
        "W_16, h100, H200, float32, Conv2d, x_12",
        "sixteen, a million",
        "seed 10 and seeds 11, 12 and 13",
        "<details>\n<summary>Hint 1: the idea</summary>\n\n0.95 of 16\n\n</details>",
    ],
)
def test_these_are_no_claims(text):
    assert claimed(text) == []


@pytest.mark.parametrize(
    ("claim", "output"),
    [
        ("3.34", "3.34"),
        ("3.34", "loss: 3.3412"),
        ("3.34", "3.3351"),
        ("3", "3.34"),
        ("12.5 %", "12.48%"),
        ("12.5 %", "0.1248"),
        ("0.125", "12.48%"),
        ("12 %", "12%"),
        ("1.7e-5", "1.7e-05"),
        ("1.7·10^-5", "1.66e-05"),
        ("0.000017", "1.7e-05"),
        ("1,000,000", "1000000"),
        ("1000000", "of 1,000,000"),
        ("25", "24.632"),
        ("-0.40", "tensor([-0.4003, 1.0])"),
        ("2.5", "2.45"),
        ("2.4", "2.45"),
    ],
)
def test_a_printed_number_supports_a_claim(claim, output):
    assert any(only(claim).means(number) for _, _, number in numbers(output))


@pytest.mark.parametrize(
    ("claim", "output"),
    [
        ("3.34", "3.346"),
        ("3.34", "3.3"),  # printed less precisely
        ("3.340", "3.34"),
        ("0.40", "-0.40"),
        ("12.5 %", "12.4%"),
        ("12.5 %", "1.25"),
        ("1.7e-5", "1.7e-06"),
        ("1000", "1024"),
        ("16", "x_16"),
    ],
)
def test_a_printed_number_does_not_support_a_claim(claim, output):
    assert not any(only(claim).means(number) for _, _, number in numbers(output))


def test_whole_numbers_may_stand_in_the_code_and_decimals_may_not():
    assert missing("200 bits, 5,000 sums, a rate of 0.03", "", "f(200, 5_000, rate=0.03)") == ["0.03"]
    assert missing("width 16", "", "f(16.0)") == []
    assert missing("width 16", "", "f('16', 17)") == ["16"]
    assert Number(Decimal(-12), Decimal(1)) in literals(lesson(("x = -12",)))


def test_checks_progress_bars_figures_and_standard_error_print_nothing_that_counts():
    data = {"text/plain": "window of 4:  44%|    | 12/1000 [00:00<?, 99it/s]"}
    figure = {"text/plain": "<Figure size 935x429 with 1 Axes>"}
    cells = [
        new_code_cell("", outputs=[new_output("display_data", data), new_output("display_data", figure)]),
        new_code_cell("", outputs=[new_output("stream", name="stderr", text="17.5")]),
        new_code_cell(
            "", metadata={"nbgrader": {"grade": True}}, outputs=[new_output("stream", text="18.5")]
        ),
        new_code_cell("", outputs=[new_output("execute_result", {"text/plain": "19.5"})]),
    ]
    assert printed(new_notebook(cells=cells)) == [only("19.5")]


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("<!-- not printed: 0.95, 3.2 (Table 2 of the paper) -->", None),
        ("<!-- not printed: 0.95; 3.2 (Table 2\nof the paper (p. 4)) -->", None),
        ("<!-- any other comment 17 -->", None),
        ("<!-- not printed: 0.95, 3.2 -->", "write "),
        ("<!-- not printed: 0.95, 3.2 () -->", "write "),
        ("<!-- Not-printed 0.95 (why) -->", "write "),
        ("<!-- not printed: 0.96 (why) -->", "does not claim"),
        ("<!-- not printed: 0.950 (why) -->", "does not claim"),
        ("<!-- not printed: the loss (why) -->", "is not one number"),
        ("<!-- not printed: 0.95 and 3.2 (why) -->", "is not one number"),
        ("<!-- not printed: (why) -->", "is not one number"),
    ],
)
def test_a_declaration_is_read_or_refused(comment, says):
    declared, wrong = Claims(f"A loss of 0.95 and of 3.2.\n{comment}").declared()
    if says is None:
        assert wrong == []
        assert declared == ([only("0.95"), only("3.2")] if "not printed" in comment else [])
    else:
        assert any(says in reason for _, reason in wrong)


def test_a_declaration_holds_for_its_own_cell_only():
    one = "0.95 in the paper.\n<!-- not printed: 0.95 (the paper) -->"
    found = list(unsupported(lesson(one, "And 0.95 again.", ("",)), ran("")))
    assert [(complaint.cell, complaint.at) for complaint in found] == [(1, 4)]


def test_the_time_the_notation_the_sources_and_the_headings_of_exercises_claim_nothing():
    texts = dict(
        claiming(
            lesson(
                "# Title\n\n| **Time** | 45 minutes |\n| **Graded** | 17 points |",
                "## Notation\n\nOf 12 symbols:\n\n| $g$ | 13 |\n\n## Next\n\n| 14 |\n\n### Exercise 1 · f  ●○○  15 minutes\n\n16",
                "The end: 18.\n\n## Sources\n\n- volume 19, 1.50",
                "- and 20",
            )
        )
    )
    assert [claimed(text) for text in texts.values()] == [["17"], ["12", "14", "16"], ["18"], []]
