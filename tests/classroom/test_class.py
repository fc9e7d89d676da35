"""A class with nbgrader: made, graded by us and by stock nbgrader, with feedback and grades."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autograde.classroom.demo import Row, cast
from autograde.classroom.folder import make_class
from autograde.classroom.settings import install
from autograde.course import CourseError, exercises

STUDENTS = 12
FEW = 6
"""How many of them stock nbgrader grades, which takes seconds for each."""
NOTEBOOK = "01_vanilla_rnn"
STUDENTS_ARE = [student for student in cast("rnn", STUDENTS, NOTEBOOK)]
ASKED = ("window_error", "rnn_step", "adder_weights", "rnn_forward", "last_valid", "n_params")
FULL = float(sum(exercises("rnn")[name].points for name in ASKED))


def run(folder, *command, **variables):
    """A command as an instructor types it in the class folder."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    environment |= variables
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, env=environment)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "demo"
    command = [sys.executable, "-m", "autograde", "demo-class", str(folder), "--students", str(STUDENTS)]
    done = run(None, *command, "--notebook", NOTEBOOK)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def grades(path):
    with path.open(newline="") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


def test_every_student_has_exactly_what_the_submission_earned(demo):
    folder, _ = demo
    expected = {student.name: student.expected for student in STUDENTS_ARE}
    assert grades(folder / "grades.csv") == expected
    assert expected["student-01"] == FULL
    assert expected["student-02"] == expected["student-04"] == 0
    assert len({score for score in expected.values() if 0 < score < FULL}) >= 3, (
        "partial credit of several kinds"
    )


def test_a_row_with_another_score_is_not_right():
    assert Row("a", "", 3.0, 3.0).right
    assert not Row("a", "", 3.0, 2.5).right


def test_everybody_who_handed_in_has_a_feedback_page_with_the_diagnosis(demo):
    folder, _ = demo
    for student in STUDENTS_ARE:
        page = folder / "feedback" / student.name / "rnn" / "01_vanilla_rnn.html"
        assert page.is_file() != student.missing
    texts = {path.parts[-3]: path.read_text() for path in folder.glob("feedback/*/rnn/*.html")}
    assert "You multiply by W_hh, not by its transpose." in texts["student-07"]
    assert "all 3 requirements met" in texts["student-01"]


def test_late_work_is_marked_late(demo):
    folder, _ = demo
    with (folder / "grades.csv").open(newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert rows["student-03"]["timestamp"] > rows["student-03"]["duedate"]
    assert rows["student-01"]["timestamp"] < rows["student-01"]["duedate"]


@pytest.mark.slow
def test_nbgraders_own_command_gives_the_same_grades(demo, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(demo[0], folder)
    done = run(folder, "nbgrader", "autograde", "rnn", "--force")
    assert done.returncode == 0, done.stderr[-3000:]
    assert by_exercise(folder) == by_exercise(demo[0])


@pytest.mark.slow
def test_stock_nbgrader_agrees_on_what_is_fully_right_or_fully_wrong(demo, tmp_path):
    """Stock nbgrader gives a check all of its points or none; ours gives a part where a part is right."""
    folder = tmp_path / "stock"
    shutil.copytree(demo[0], folder)
    for student in STUDENTS_ARE[FEW:]:
        shutil.rmtree(folder / "submitted" / student.name, ignore_errors=True)
    chosen = {student.name for student in STUDENTS_ARE[:FEW]}
    config = folder / "nbgrader_config.py"
    ours = "c.Autograde.autograde_preprocessors = AUTOGRADE_STEPS\n"
    assert ours in config.read_text()
    config.write_text(config.read_text().replace(ours, ""))
    done = run(folder, "nbgrader", "autograde", "rnn", "--force", REDERIVE_STOCK_GRADING="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert run(folder, "nbgrader", "generate_feedback", "rnn", "--force").returncode == 0
    assert run(folder, "nbgrader", "export", "--to", "stock.csv").returncode == 0
    ours, theirs = (
        {key: score for key, score in by_exercise(place).items() if key[0] in chosen}
        for place in (demo[0], folder)
    )
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6 * FEW
    assert len(set(ours.values())) > 3  # full points, a part of them, none
    bank = exercises("rnn")
    for (student, name), score in ours.items():
        full = bank[name.removeprefix("check_")].points
        assert theirs[student, name] == (score if score in (0, full) else 0), (student, name)


def by_exercise(folder):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        return {
            (submission.student.id, grade.name): grade.auto_score
            for submission in gradebook.assignment_submissions("rnn")
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


def test_demo_cells_were_not_run(demo):
    notebook = nbformat.read(
        demo[0] / "autograded" / "student-01" / "rnn" / "01_vanilla_rnn.ipynb", as_version=4
    )
    demos = [cell for cell in notebook.cells if "demo" in cell.metadata.get("tags", [])]
    assert demos
    assert not any(cell.outputs for cell in demos)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A class with one submission of everybody's: the solved notebook."""
    made = make_class(tmp_path_factory.mktemp("small") / "class", "rnn", notebook=NOTEBOOK)
    place = made.submitted("somebody")
    place.mkdir(parents=True)
    shutil.copy(made.source / "01_vanilla_rnn.ipynb", place)
    return made


HOSTILE = """
from IPython import get_ipython
import torch, autograde.notebook, autograde.compare
get_ipython().input_transformers_cleanup.append(lambda lines: [])
torch.allclose = torch.equal = lambda *a, **k: True
autograde.notebook.Check.__call__ = lambda self, implementation: None
autograde.compare.compare = lambda *a: None
"""


def test_a_notebook_that_tampers_with_its_checks_gets_nothing(small):
    """Each of these gives full marks under stock nbgrader: tags that skip the checks, and patched checks."""
    place = small.submitted("cheat")
    place.mkdir(parents=True)
    notebook = nbformat.read(small.release / "01_vanilla_rnn.ipynb", as_version=4)
    notebook.cells.insert(1, nbformat.v4.new_code_cell(HOSTILE))
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata["tags"] = ["skip-execution", "demo"]
    nbformat.write(notebook, place / "01_vanilla_rnn.ipynb")
    done = run(small.root, "nbgrader", "autograde", "rnn", "--student", "cheat")
    assert done.returncode == 0, done.stderr[-3000:]
    scores = {name: score for (student, name), score in by_exercise(small.root).items() if student == "cheat"}
    assert len(scores) == 6
    assert set(scores.values()) == {0.0}


@pytest.mark.parametrize(
    "line", ['raise RuntimeError("mine")', "c.Execute.timeout = = 3", 'c.LimitOutput.max_lines = "many"'],
    ids=["an exception", "no Python", "a wrong type"],
)  # fmt: skip
def test_a_broken_configuration_stops_nbgrader(small, line):
    before = small.config.read_text()
    small.config.write_text(before + line + "\n")
    try:
        done = run(small.root, "nbgrader", "autograde", "rnn", "--force")
    finally:
        small.config.write_text(before)
    assert done.returncode != 0
    assert not small.autograded("somebody").exists()


def test_validate_passes_on_the_solved_and_fails_on_the_unsolved_notebook(small):
    solved = run(small.root, "nbgrader", "validate", "source/rnn/01_vanilla_rnn.ipynb")
    unsolved = run(small.root, "nbgrader", "validate", "release/rnn/01_vanilla_rnn.ipynb")
    assert "Success! Your notebook passes all the tests." in solved.stdout + solved.stderr
    assert "not written yet" in unsolved.stdout + unsolved.stderr


def test_generate_assignment_works_in_a_class_folder(small):
    done = run(small.root, "nbgrader", "generate_assignment", "rnn", "--force")
    assert done.returncode == 0, done.stderr
    assert (small.release / "01_vanilla_rnn.ipynb").is_file()


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CourseError, match="not empty"):
        make_class(tmp_path, "rnn")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_topic_that_is_not_built_is_refused(tmp_path):
    with pytest.raises(CourseError, match="There are no lessons"):
        make_class(tmp_path / "new", "yolo")


def test_install_leaves_what_is_there_alone(tmp_path):
    path = install(tmp_path)
    assert "stop_on_errors()" in path.read_text()
    path.write_text("# mine\n")
    assert install(tmp_path).read_text() == "# mine\n"
