"""Sources and build: every refusal has a source that earns it, and what is built is what was meant."""

import json

import nbformat
import pytest

from autograde import build as building
from autograde import cli
from autograde.build import BuildRefused, build, differences, worked_in, write
from autograde.course import CourseError, read_course
from autograde.sources import BEGIN, END, defined_names, read_sources, used_names
from engine.helpers import (
    ROOT,
    SOURCE,
    TOML,
    TOPIC,
    code_cell,
    double,
    exercise,
    matrix,
    toy_course,
    toy_topic,
)

NAME = f"{TOPIC}/01_toys"
FILE = f"solutions/{NAME}.py"
LESSON_FILE = f"lessons/{NAME}.ipynb"


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    toy_topic(monkeypatch)


def reasons(folder, source=SOURCE, toml=TOML):
    with pytest.raises(BuildRefused) as caught:
        build(toy_course(folder, source, toml))
    return caught.value.reasons


def changed(*pairs):
    source = SOURCE
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The toy course, built once."""
    patch = pytest.MonkeyPatch()
    toy_topic(patch)
    made = build(toy_course(tmp_path_factory.mktemp("toys")))
    patch.undo()
    return made


# --- refusals ---------------------------------------------------------------------------------------------------------

EXERCISE, CHECK = '# %% double tags=["exercise"]', '# %% check_double tags=["check"]'
AFTER = "\n\n# %%\n"
REFUSED = {
    "no markers": (
        changed(("    ### BEGIN SOLUTION\n", ""), ("    ### END SOLUTION\n", "")),
        "double", "has no pair of lines ### BEGIN SOLUTION and ### END SOLUTION",
    ),
    "only one marker": (changed(("    ### END SOLUTION\n", "")), "double", "has no pair of lines"),
    "markers the wrong way round": (
        changed(("### BEGIN SOLUTION", "### X"), ("### END SOLUTION", "### BEGIN SOLUTION"), ("### X", "### END SOLUTION")),
        "double", "",
    ),
    "markers outside a function": (
        changed(("def double(x):", "### BEGIN SOLUTION\nhelper = 1\n### END SOLUTION\ndef double(x):")),
        "double", "solution markers belong inside the body of a function",
    ),
    "markers in a class body": (
        changed(("def double(x):", "class A:\n    ### BEGIN SOLUTION\n    a = 1\n    ### END SOLUTION\n\ndef double(x):")),
        "double", "solution markers belong inside the body of a function",
    ),
    "one pair of markers around two functions": (
        changed(
            ("    return 2 * secret_intermediate\n", "    return 2 * secret_intermediate\n\n\ndef other(x):\n    y = x\n"),
        ),
        "double", "",
    ),
    "markers without the tag": (changed((EXERCISE, "# %% double")), "double", "has solution markers, but not the tag exercise"),
    "an exercise that defines something else": (
        changed(("def double(x):", "def twice(x):")), "double", "does not define double",
    ),
    "an exercise without a title": (changed((EXERCISE, '# %% tags=["exercise"]')), "def double(x):", "needs a title"),
    "an exercise that is text": (
        changed((EXERCISE, EXERCISE + "\ndef double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION\n"
                 '\n# %% [markdown] halve tags=["exercise"]')),
        "halve", "",
    ),
    "a check of no exercise": (
        changed((CHECK, CHECK.replace("double", "triple")), ("check.double(double)", "check.triple(triple)")),
        "check_triple", "the exercise 'triple' does not exist in autograde/exercises",
    ),
    "a check with more than its line": (
        changed(("check.double(double)", "check.double(double)\nprint(1)")),
        "check_double", "has to be the one line check.double(double)",
    ),
    "a check before its exercise": (
        changed((EXERCISE, CHECK + "\ncheck.double(double)\n\n" + EXERCISE), (CHECK + "\ncheck.double(double)\n\n# %% tags", "# %% tags")),
        "check_double", "no exercise cell of that title stands before it",
    ),
    "an exercise that nobody checks": (
        changed((CHECK + "\ncheck.double(double)\n", "")), "double", "no cell checks this exercise",
    ),
    "a title twice": (SOURCE + "\n\n# %% setup\nx = 1\n", "setup", "this title is used twice"),
    "an unknown tag": (changed(('tags=["demo"]', 'tags=["dmeo"]')), "shown_only", "unknown tag 'dmeo'"),
    "two tags": (changed((CHECK, '# %% check_double tags=["check", "demo"]')), "check_double", "more than one of the tags"),
    "a magic": (SOURCE + AFTER + "%timeit 1\n", "%timeit", "no valid Python (no magics in sources)"),
    "a shell line": (SOURCE + AFTER + "!ls\n", "!ls", "no valid Python"),
    "a syntax error": (SOURCE + AFTER + "def broken(:\n    pass\n", "def broken", "no valid Python"),
    "another lesson's name": (
        changed(('open_lesson("toytopic/01_toys")', 'open_lesson("toytopic/02_toys")')),
        "setup", 'has to call open_lesson("toytopic/01_toys") once',
    ),
    "no lesson opened": (changed(('check = open_lesson("toytopic/01_toys")', "check = None")), "setup", "it calls it for []"),
    "a name of a demo cell": (SOURCE + AFTER + "late = shown_only + 1\n", "late", "uses 'shown_only', which only a demo cell defines"),
    "a name of a demo cell in a function": (
        SOURCE + AFTER + "def late():\n    def inner():\n        return shown_only\n    return inner()\n",
        "def late", "uses 'shown_only'",
    ),
    "a name of a demo cell in a comprehension": (
        SOURCE + AFTER + "late = [shown_only for _ in range(3)]\n", "late", "uses 'shown_only'",
    ),
    "a name of a demo cell in a class, a default and a decorator": (
        SOURCE + AFTER + "class Late:\n    kept = shown_only\n\n    def f(self, x=shown_only): ...\n", "class Late", "uses 'shown_only'",
    ),
    "a name of a demo cell in an f-string": (SOURCE + AFTER + 'late = f"{shown_only}"\n', "late", "uses 'shown_only'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_source_is_refused_with_file_cell_and_reason(tmp_path, what):
    source, label, reason = REFUSED[what]
    found = reasons(tmp_path, source)
    fitting = [line for line in found if line.startswith(f"{FILE}, cell '{label}") and reason in line]
    assert fitting, found
    assert not any("\n" in line for line in found)


FINE = {
    "as it is": SOURCE,
    "a name that a graded cell defines too": SOURCE + AFTER + "shown_only = 1\nlate = shown_only\n",
    "a local variable of the same name": SOURCE + AFTER + "def late(shown_only):\n    return shown_only\n",
    "an attribute of the same name": SOURCE + AFTER + "late = torch.shown_only if False else 1\n",
    "a demo cell that uses a demo cell": SOURCE + '\n\n# %% tags=["demo"]\nprint(shown_only)\n',
    "a comment after the solution": changed(("    ### END SOLUTION\n", "    ### END SOLUTION\n    # that was all\n")),
    "markers in a method": changed(
        ("def double(x):", "class Helper:\n    def f(self):\n        ### BEGIN SOLUTION\n        return 1\n        ### END SOLUTION\n\n\ndef double(x):")
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FINE)
def test_a_source_is_not_refused_without_need(tmp_path, what):
    build(toy_course(tmp_path, FINE[what]))


def test_an_exercise_of_the_topic_that_no_lesson_checks_is_refused(tmp_path, monkeypatch):
    def triple(x):
        return 3 * x

    toy_topic(monkeypatch, exercise(double, matrix), exercise(triple, matrix))
    (reason,) = reasons(tmp_path)
    assert reason.startswith("autograde/exercises/toytopic")
    assert "no lesson of solutions/toytopic checks the exercise 'triple'." in reason


def test_an_exercise_that_two_lessons_check_is_refused(tmp_path):
    toy_course(tmp_path, SOURCE.replace("01_toys", "02_toys"), name="02_toys")
    assert "solutions/toytopic: the exercise 'double' is checked more than once." in reasons(tmp_path)


def test_an_entry_without_a_folder_and_a_folder_without_an_entry_are_refused(tmp_path):
    toml = TOML.replace("planned = true\n", "")
    (tmp_path / "solutions" / "stray").mkdir(parents=True)
    (tmp_path / "solutions" / "stray" / "01_x.py").write_text("# %%\nx = 1\n")
    found = reasons(tmp_path, toml=toml)
    assert any(
        line.startswith("course.toml: the topic 'later' has no lesson in solutions/later.") for line in found
    )
    assert "solutions/stray: there is no entry for it in course.toml." in found
    assert len(found) == 2


def test_a_planned_topic_with_lessons_is_refused(tmp_path):
    found = reasons(tmp_path, toml=TOML.replace("minutes = 10\n", "minutes = 10\nplanned = true\n"))
    assert any("'toytopic' is planned, but solutions/toytopic has lessons" in line for line in found)


def test_a_topic_without_exercises_is_refused(tmp_path, monkeypatch):
    course = TOML.replace("toytopic", "nothere")
    folder = tmp_path / "solutions" / "nothere"
    folder.mkdir(parents=True)
    (folder / "01_toys.py").write_text(SOURCE.replace("toytopic", "nothere"))
    (tmp_path / "course.toml").write_text(course)
    with pytest.raises(BuildRefused) as caught:
        build(tmp_path)
    assert any(
        "autograde/exercises/nothere" in line and "is missing" in line for line in caught.value.reasons
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "Toys"', "", "title is missing"),
        ("order = 1", "order = 1\nodrer = 1", "unknown key odrer"),
        ('family = "foundations"', 'family = "nothing"', "there is no family 'nothing'"),
        ('["toytopic"]', '["nothing"]', "needs 'nothing', which is no topic"),
        ("order = 1", "order =", "not valid TOML"),
    ],
)
def test_a_broken_course_file_is_refused(tmp_path, old, new, words):
    assert old in TOML
    toy_course(tmp_path, toml=TOML.replace(old, new))
    with pytest.raises(CourseError, match=words):
        read_course(tmp_path)


def test_a_missing_course_file_is_refused(tmp_path):
    with pytest.raises(CourseError, match=r"There is no course\.toml"):
        read_course(tmp_path)


def test_names_that_a_cell_binds_and_reads():
    code = "import a.b\nfrom c import d as e\nfor f in g: h = f\ndef k(l=m): return n\nwith o as p: q: int = 3\n(r := s)\n"
    assert {"a", "e", "f", "h", "k", "p", "q", "r"} <= defined_names(code)
    assert not defined_names(code) & {"b", "c", "d", "g", "l", "m", "n", "o", "s"}
    assert {"g", "m", "n", "o", "s"} <= used_names(code)
    assert "l" not in used_names(code)


# --- what is built ----------------------------------------------------------------------------------------------------


def notebook(built, name=NAME):
    return nbformat.reads(built.lessons[f"{name}.ipynb"], 4)


def test_building_twice_gives_the_same_bytes(built, tmp_path):
    again = build(toy_course(tmp_path / "another" / "folder"))
    assert again == built


def test_the_released_notebook_has_the_stub_and_not_the_solution(built):
    text = built.lessons[f"{NAME}.ipynb"]
    assert "secret" not in text
    assert BEGIN not in text
    assert END not in text
    (cell,) = [c for c in notebook(built).cells if c.id == "double"]
    assert "YOUR CODE HERE" in cell.source
    assert "raise NotImplementedError" in cell.source
    assert cell.source.startswith('def double(x):\n    """Twice x."""')
    assert "secret" in built.sources[f"{NAME}.ipynb"]


def test_the_released_notebook_has_nbgraders_metadata_and_no_outputs(built):
    cells = {c.id: c for c in notebook(built).cells}
    entry = cells["check_double"].metadata.nbgrader
    assert (entry.grade, entry.locked, entry.points, entry.schema_version) == (True, True, 1, 3)
    assert cells["double"].metadata.nbgrader.solution
    assert [c.id for c in notebook(built).cells if "demo" in c.metadata.get("tags", [])]
    assert all(not c.get("outputs") for c in cells.values())
    assert notebook(built).metadata.rederive.lesson == NAME


def test_cell_ids_depend_on_the_cell_alone(built, tmp_path):
    longer = build(
        toy_course(
            tmp_path,
            SOURCE.replace("# Write it.", "# Write it.\n\n# %%\nnew = 1\n\n# %% [markdown]\n# More."),
        )
    )
    before, after = ([c.id for c in notebook(b).cells] for b in (built, longer))
    assert set(before) - set(after) == set()
    assert len(after) == len(before) + 2


def test_equal_cells_have_different_ids(tmp_path):
    made = build(toy_course(tmp_path, SOURCE + "\n\n# %%\n1\n\n# %%\n1\n"))
    ids = [c.id for c in notebook(made).cells]
    assert len(ids) == len(set(ids))


def test_no_solution_line_of_the_real_sources_is_in_a_released_exercise_cell():
    for source in read_sources(ROOT / "solutions", read_course(ROOT)):
        path = ROOT / "lessons" / f"{source.name}.ipynb"
        if not path.is_file():
            continue
        text = path.read_text()
        released = json.loads(text)["cells"]
        cells = {c["id"]: "".join(c["source"]) for c in released}
        code = "\n".join(cells[c["id"]] for c in released if c["cell_type"] == "code")
        assert BEGIN not in text
        for cell in source.tagged("exercise"):
            hidden = cell.source.split(BEGIN, 1)[1].split(END, 1)[0]
            lines = [line.strip() for line in hidden.splitlines() if len(line.strip()) > 8]
            assert lines
            assert "YOUR CODE HERE" in cells[cell.title]
            for line in lines:
                assert line not in cells[cell.title], (source.name, cell.title, line)
                assert line not in cells.values()
                assert len(line) < 40 or line not in code, (
                    source.name,
                    cell.title,
                    line,
                )  # a hint may say it


# --- writing ----------------------------------------------------------------------------------------------------------


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def place(built, tmp_path):
    """A course folder in which the toy course has been built."""
    folder = toy_course(tmp_path / "place")
    assert sorted(write(built, folder)) == ["README.md", "lessons/start.ipynb", LESSON_FILE]
    return folder


def test_writing_again_changes_nothing(built, place):
    before = tree(place)
    assert write(built, place) == []
    assert differences(built, place) == []
    assert tree(place) == before


def test_the_readme_gets_its_table_and_keeps_the_rest(built, place):
    text = (place / "README.md").read_text()
    assert "| Foundations | Toys | Nothing in particular | [Toys](lessons/toytopic/01_toys.ipynb) |" in text
    assert "| Foundations | Later | Still to be written | not yet |" in text
    assert text.startswith("# A toy\n")
    assert text.endswith("The rest.\n")


@pytest.mark.parametrize("readme", [None, "# No marks\n"])
def test_a_readme_that_is_missing_or_has_no_marks_is_told_in_words(tmp_path, readme):
    toy_course(tmp_path)
    (tmp_path / "README.md").unlink()
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    with pytest.raises(CourseError, match=r"README\.md"):
        build(tmp_path)


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


WORKED = {
    "a cell was changed": lambda d: d["cells"][1].update(source="x = 1"),
    "a cell was added": lambda d: d["cells"].append(code_cell("mine = 1")),
    "a cell was removed": lambda d: d["cells"].pop(),
    "a cell was run": lambda d: d["cells"][-1].update(
        outputs=[{"output_type": "stream", "name": "stdout", "text": "hello"}], execution_count=1
    ),
}


@pytest.mark.parametrize("what", WORKED)
def test_a_lesson_that_somebody_worked_in_is_not_overwritten(built, place, what):
    edit(place / LESSON_FILE, WORKED[what])
    (place / "lessons" / "start.ipynb").unlink()
    before = tree(place)
    assert worked_in(place / LESSON_FILE)
    with pytest.raises(BuildRefused, match="has been worked in"):
        write(built, place)
    assert tree(place) == before


def test_a_lesson_whose_metadata_were_stripped_is_not_overwritten_with_somebodys_answers_in_it(built, place):
    def strip(data):
        data["metadata"] = {}
        data["cells"][-1]["source"] = "my answer"

    edit(place / LESSON_FILE, strip)
    with pytest.raises(BuildRefused):
        write(built, place)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "{}", '{"cells": null, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'],
)
def test_a_file_in_lessons_that_is_no_notebook_is_refused_and_left_alone(built, place, content):
    path = place / "lessons" / TOPIC / "99_mine.ipynb"
    path.write_text(content)
    with pytest.raises(BuildRefused):
        write(built, place)
    assert path.read_text() == content


def test_a_lesson_that_nobody_touched_is_replaced_and_one_without_a_source_removed(built, place, tmp_path):
    old = place / "lessons" / TOPIC / "00_old.ipynb"
    old.write_text((place / LESSON_FILE).read_text())
    newer = build(toy_course(tmp_path / "newer", SOURCE.replace("# Write it.", "# Write it well.")))
    assert sorted(write(newer, place)) == [f"lessons/{TOPIC}/00_old.ipynb", LESSON_FILE]
    assert not old.exists()
    assert "Write it well." in (place / LESSON_FILE).read_text()


def test_build_check_fails_on_a_changed_lesson_and_changes_nothing(built, tmp_path, monkeypatch, capsys):
    toy_course(tmp_path)
    write(built, tmp_path)
    monkeypatch.setenv("REDERIVE_ROOT", str(tmp_path))
    monkeypatch.setattr(building, "build", lambda folder: built)
    assert run_cli(monkeypatch, "build", "--check") == 0
    edit(tmp_path / LESSON_FILE, WORKED["a cell was changed"])
    before = tree(tmp_path)
    assert run_cli(monkeypatch, "build", "--check") == 1
    assert LESSON_FILE in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_a_refused_build_is_status_2_and_no_traceback(tmp_path, monkeypatch, capsys):
    toy_course(tmp_path, SOURCE + AFTER + "%magic\n")
    monkeypatch.setenv("REDERIVE_ROOT", str(tmp_path))
    assert run_cli(monkeypatch, "build") == 2
    shown = capsys.readouterr()
    assert "no valid Python" in shown.err
    assert "Traceback" not in shown.err + shown.out


def run_cli(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["autograde", *arguments])
    try:
        cli.main()
    except SystemExit as leaving:
        return leaving.code or 0
    return 0
