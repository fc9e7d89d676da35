"""The same class has the same grades however it is graded: on SQLite or PostgreSQL, by which command, by how many."""

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from postgres import move_to, new_database, postgres  # noqa: F401  (fixtures)
from toyclass import graded

from autograde.classroom.demo import cast, hand_in
from autograde.classroom.folder import ClassFolder, make_class
from autograde.classroom.seeds import class_secret
from autograde.course import root

sys.path.insert(0, str(root() / "benchmarks"))  # which starts Dask clusters, too

from grading_cluster import dask_cluster

TOPIC, NOTEBOOK, STUDENTS = "rnn", "01_vanilla_rnn", 6


def run(folder, *command):
    """A command as an instructor types it in the class folder."""
    environment = os.environ | {
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root()),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def exported(made: ClassFolder):
    """``nbgrader export``: all columns of every row."""
    run(made.root, "nbgrader", "export", "--to", "exported.csv")
    with (made.root / "exported.csv").open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["student_id"])


@dataclass(frozen=True)
class Way:
    """A way to grade a class: a database, and a command.

    Attributes:
        cluster: the number of workers of a Dask cluster whose address the command gets with ``--scheduler``.
    """

    name: str
    database: str
    command: tuple[str, ...]
    cluster: int = 0

    def grade(self, made: ClassFolder) -> None:
        """Run the command."""
        if not self.cluster:
            run(made.root, *self.command)
            return
        with dask_cluster(self.cluster, made.root) as cluster:
            run(made.root, *self.command, "--scheduler", cluster.address)


STOCK = ("nbgrader", "autograde", TOPIC)
OURS = (sys.executable, "-m", "autograde", "grade", TOPIC)
WAYS = [
    Way("nbgrader autograde", "postgresql", STOCK),
    Way("one worker", "sqlite", (*OURS, "--workers", "1")),
    Way("two workers", "postgresql", (*OURS, "--workers", "2")),
    Way("a Dask cluster", "sqlite", OURS, cluster=2),
]


@pytest.fixture(scope="module")
def ungraded(tmp_path_factory):
    """A class on SQLite whose submissions nobody has graded, and what each of them has earned."""
    made = make_class(tmp_path_factory.mktemp("ungraded") / "class", TOPIC, notebook=NOTEBOOK)
    students = [student for student in cast(TOPIC, STUDENTS, NOTEBOOK) if not student.missing]
    for student in students:
        hand_in(made, student)
    class_secret(made.root)  # the same hidden cases in every copy
    return made, {student.name: student.expected for student in students}


@pytest.fixture(scope="module")
def first_results():
    """What the first way to grade gave; the others are compared with it."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.name}, {way.database}")
def test_the_same_class_has_the_same_grades_however_it_is_graded(
    way, ungraded, first_results, request, tmp_path
):
    original, expected = ungraded
    made = ClassFolder(tmp_path / "class", TOPIC)
    shutil.copytree(original.root, made.root)
    if way.database == "postgresql":
        move_to(made, request.getfixturevalue("new_database")())
        run(made.root, "nbgrader", "generate_assignment", TOPIC, "--force")
    way.grade(made)
    grades, comments = graded(made)
    totals = dict.fromkeys(expected, 0.0)
    for (student, _, _), (score, _, manual) in grades.items():
        totals[student] += score
        assert not manual
    assert totals == expected
    assert "No response." in comments.values()
    sheet = exported(made)
    assert {row["student_id"]: float(row["score"]) for row in sheet} == expected
    first = first_results.setdefault("first", (way.name, grades, comments, sheet))
    assert (grades, comments, sheet) == first[1:], f"graded otherwise than by {first[0]}"
