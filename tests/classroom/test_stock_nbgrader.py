"""What stock nbgrader (0.9.6) does with hostile submissions: why a class is graded by steps of our own.

Each test shows one row of the battery going wrong with nbgrader's own steps, in a small course of its own. When one of them
fails, nbgrader has mended it: look at the row, and delete the test.
"""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograde.classroom.folder import ClassFolder, convert

pytestmark = [
    pytest.mark.stock,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="hostile code is run in bubblewrap only"),
]
FILE = "problem.ipynb"
DOUBLE, TRIPLE = 2, 3
"""The points of the two exercises."""
HONEST = DOUBLE + TRIPLE
CELLS = {
    "setup": "import math, os, statistics, sys",
    "double": "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION",
    "check_double": "assert double(3) == 6\n### BEGIN HIDDEN TESTS\nassert double(7) == 14\n### END HIDDEN TESTS",
    "triple": "def triple(x):\n    ### BEGIN SOLUTION\n    return 3 * x\n    ### END SOLUTION",
    "check_triple": "assert math.isclose(triple(2.0), 6.0)\n### BEGIN HIDDEN TESTS\n"
    "assert statistics.mean([triple(1.0), triple(3.0)]) == 6.0\n### END HIDDEN TESTS",
}
WRONG = "def double(x):\n    return 0\n"
RIGHT = "def double(x):\n    return 2 * x\n"
RIGHT_TRIPLE = "def triple(x):\n    return 3 * x\n"
SOCKET = "\0rederive-battery-stock"


@dataclass(frozen=True)
class Attack:
    """A submission: the two answers, a cell above them and one below, more files, and tags for the checks."""

    double: str = WRONG
    triple: str = RIGHT_TRIPLE
    early: str = ""
    late: str = ""
    tags: tuple = ()
    files: dict = field(default_factory=dict)
    links: dict = field(default_factory=dict)
    twice: str = ""
    text: str = ""


FORGES_OUTPUT = """
def double(x):
    kernel = get_ipython().kernel
    content = {"execution_count": 1, "data": {"text/plain": "2.0"}, "metadata": {}}
    kernel.session.send(kernel.iopub_socket, "execute_result", content, parent=kernel.get_parent("shell"))
    return 0
"""
BLANKS = "get_ipython().input_transformers_cleanup.append(lambda lines: [] if 'assert' in ''.join(lines) else lines)"
NO_ASSERTS = """
import ast
class Quiet(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)
get_ipython().ast_transformers.append(Quiet())
"""
NUMBERS = """
import ast
class Generous(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Expr(ast.copy_location(ast.Constant(2.0), node)), node)
get_ipython().ast_transformers.append(Generous())
"""
EQUAL = """
class Right:
    __hash__ = None
    __eq__ = lambda self, other: True
def double(x):
    return Right()
"""
NO_TRACEBACK = """
import IPython.core.interactiveshell
shell = get_ipython()
def quiet(request, *args, **kwargs):
    result = run(request, *args, **kwargs)
    result.error_in_exec = result.error_before_exec = None
    return result
run, shell.run_cell = shell.run_cell, quiet
shell.showtraceback = shell._showtraceback = lambda *args, **kwargs: None
"""
READS_TEST = """
def double(x):
    import linecache, re, sys
    frame = sys._getframe(1)
    cell = "".join(linecache.getlines(frame.f_code.co_filename))
    return int(re.search(rf"double\\({x}\\) == (\\d+)", cell)[1])
"""
HOOK = """
cells = []
get_ipython().events.register("pre_run_cell", lambda info: cells.append(info.raw_cell))
"""
LOOKS = """
import glob, os, socket, sqlite3
book = sqlite3.connect("../../../gradebook.db")
print("GRADES", book.execute("select count(*) from grade").fetchone()[0])
book.execute("update grade set auto_score = 0 where notebook_id in (select id from submitted_notebook where assignment_id in "
             "(select id from submitted_assignment where student_id = 'a-victim'))")
book.commit()
print("OTHERS", len(glob.glob("../../../submitted/*/*/*.ipynb")), len(glob.glob("../../../source/*/*.ipynb")))
print("ENVIRONMENT", os.environ.get("BATTERY_SECRET"))
with socket.socket(socket.AF_UNIX) as line:
    line.connect("\\0rederive-battery-stock")
    print("CONNECTED")
"""
ORPHAN = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 1024)
        for _ in range(200):
            with open("../../../alive.txt", "w") as file:
                file.write("still here")
            time.sleep(0.1)
    os._exit(0)
"""
SCRIPT = "<script>rederive_battery()</script>"
SCRIPTS = f"from IPython.display import HTML\ndisplay(HTML('{SCRIPT}'))\n"
SHOW_TESTS = "print([cell for cell in cells if '14' in cell and 'assert' in cell])"
CASES = {
    "a-victim": Attack(RIGHT),
    "s01": Attack(tags=("skip-execution",)),
    "s02": Attack(early=BLANKS),
    "s03": Attack(early=NO_ASSERTS),
    "s04": Attack(early=NUMBERS, triple="def triple(x):\n    return 0.0\n"),
    "s05": Attack(EQUAL),
    "s07": Attack(
        RIGHT,
        "def triple(x):\n    return 0.0\n",
        early="math.isclose = lambda *a: True\nstatistics.mean = lambda v: 6.0",
    ),
    "s08": Attack(early=NO_TRACEBACK),
    "s10": Attack(READS_TEST),
    "s11": Attack(RIGHT, early=LOOKS, links={"book.txt": "gradebook.db"}),
    "s14": Attack(FORGES_OUTPUT),
    "s17": Attack("def double(x):\n    import os\n    os._exit(0)\n"),
    "s21": Attack(
        "def double(x):\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass\n"
    ),
    "s25": Attack(early=f"{ORPHAN}{SCRIPTS}{HOOK}print('x' * 20_000_000)", late=SHOW_TESTS, text=SCRIPT),
    "s31": Attack(RIGHT.replace("return", "print('thinking', file=sys.stderr)\n    return")),
    "s37": Attack(
        RIGHT, "def triple(x):\n    return 6.0\n", files={"statistics.py": "mean = lambda values: 6.0\n"}
    ),
    "s40": Attack("def double(x):\n    return 2 * x if os.environ.get('NBGRADER_EXECUTION') else 0\n"),
    "s54": Attack(RIGHT, files={"timestamp.txt": "a day that never was"}),
    "z-last": Attack(RIGHT),
}
SETTINGS = """
c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.course_id = "stock"
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError"}}
c.Execute.timeout = 3
"""


def source():
    """The instructor's notebook."""
    cells = []
    for name, text in CELLS.items():
        cell = new_code_cell(text, id=name)
        check = name.startswith("check_")
        if name != "setup":
            cell.metadata["nbgrader"] = {
                **{"grade_id": name, "schema_version": 3, "cell_type": "code", "task": False},
                **{"grade": check, "locked": check, "solution": not check},
                **({"points": DOUBLE if name.endswith("double") else TRIPLE} if check else {}),
            }
        cells.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def new_course(folder, more=""):
    made = ClassFolder(folder.resolve(), "ps1")
    made.source.mkdir(parents=True)
    nbformat.write(source(), made.source / FILE)
    made.config.write_text(SETTINGS.format(root=str(made.root)) + more)
    convert("GenerateAssignment", made)
    return made


def hand_in(made, student, attack):
    place = made.submitted(student)
    place.mkdir(parents=True)
    notebook = nbformat.read(made.release / FILE, as_version=4)
    answers = {"double": attack.double, "triple": attack.triple}
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
        if attack.tags and cell.id.startswith("check_"):
            cell.metadata["tags"] = list(attack.tags)
    for name in (attack.twice,) if attack.twice else ():
        index = next(i for i, cell in enumerate(notebook.cells) if cell.id == name)
        copy = new_code_cell(notebook.cells[index].source, id="copy")
        copy.metadata.update(notebook.cells[index].metadata)
        notebook.cells.insert(index, copy)
    if attack.early:
        notebook.cells.insert(1, new_code_cell(attack.early, id="early"))
    if attack.late:
        notebook.cells.append(new_code_cell(attack.late, id="late"))
    if attack.text:
        notebook.cells.append(new_markdown_cell(attack.text, id="text"))
    nbformat.write(notebook, place / FILE)
    for name, text in attack.files.items():
        (place / name).write_text(text)
    for name, target in attack.links.items():
        (place / name).symlink_to(made.root / target)


def run_nbgrader(made, *command):
    """nbgrader's own command, in a sandbox in which only the class folder and /tmp can be written to.

    Configuration outside of the class folder is not read: ours may be there.
    """
    inside = {
        **{"HOME": "/tmp", "IPYTHONDIR": "/tmp/ipython", "JUPYTER_RUNTIME_DIR": "/tmp/runtime"},
        **{"JUPYTER_NO_CONFIG": "1", "BATTERY_SECRET": "seen", "PYTHONDONTWRITEBYTECODE": "1"},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    folder = str(made.root)
    box = [
        *(
            "bwrap",
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--ro-bind",
            sys.prefix,
            sys.prefix,
            "--bind",
            folder,
            folder,
        ),
        *("--unshare-pid", "--proc", "/proc", "--die-with-parent", "--new-session", "--chdir", folder),
    ]
    return subprocess.run(
        [*box, sys.executable, "-m", "nbgrader", *command],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | inside,
    )


@dataclass(frozen=True)
class Graded:
    made: ClassFolder
    said: str
    status: int
    grades: dict

    def total(self, student):
        """The sum of what the gradebook has; None where nothing was recorded."""
        found = [score for (name, _), score in self.grades.items() if name == student]
        return None if not found or None in found else sum(found)

    def outputs(self, student):
        """What was printed, and nothing of what was written in cells."""
        path = self.made.autograded(student) / FILE
        cells = nbformat.read(path, as_version=4).cells
        return "\n".join(output.get("text", "") for cell in cells for output in cell.get("outputs", ()))


def grades(made):
    """By student and cell: the score, or None."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{made.root / 'gradebook.db'}") as book:
        return {
            (entry.student.id, grade.name): grade.auto_score
            for entry in book.assignment_submissions("ps1")
            for notebook in entry.notebooks
            for grade in notebook.grades
        }


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Everybody, graded by stock nbgrader in one run."""
    made = new_course(tmp_path_factory.mktemp("stock") / "course")
    for student, attack in CASES.items():
        hand_in(made, student, attack)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        done = run_nbgrader(made, "autograde", "ps1")
    return Graded(made, done.stdout + done.stderr, done.returncode, grades(made))


def test_an_honest_right_answer_gets_its_points(graded):
    """Not an attack: it shows that the course works."""
    assert graded.total("z-last") == HONEST
    assert graded.total("s25") == TRIPLE, "and that a wrong answer gets none"


WRONG_BUT_FULL = {
    "1": ("s01", "nbclient leaves out cells tagged skip-execution, and a cell without output has full marks"),
    "2": ("s02", "a test cell whose text a transformer has deleted has no output, so full marks"),
    "3": ("s03", "a test cell whose asserts an AST transformer has deleted has full marks"),
    "5": ("s05", "asserts compare with an object that the student wrote"),
    "7": ("s07", "asserts call functions that the student has replaced"),
    "8": ("s08", "an error that the kernel is kept from reporting is no error"),
    "10": (
        "s10",
        "hidden tests run in the student's kernel: a function reads the expected value in its caller's text",
    ),
    "14": ("s14", "the first result that a cell shows counts, also one that the student's code has sent"),
    "37": ("s37", "a file beside the notebook is imported in place of a module that the hidden tests use"),
    "40": ("s40", "NBGRADER_EXECUTION tells the student's code that it is being graded"),
}


@pytest.mark.parametrize(("student", "reason"), WRONG_BUT_FULL.values(), ids=WRONG_BUT_FULL)
def test_a_wrong_answer_gets_full_marks(graded, student, reason):
    """Stock nbgrader gives all points to a submission of which one answer is wrong."""
    assert graded.total(student) == HONEST, reason


def test_row_4_a_number_is_partial_credit(graded):
    """Stock nbgrader takes the number that a test cell shows for its points: both answers are wrong, and get 2 each."""
    assert graded.total("s04") == 4


def test_row_9_hidden_tests_can_be_read(graded):
    """Stock nbgrader puts hidden tests back before it runs the notebook; a hook of the shell is handed their text."""
    assert "assert double(7) == 14" in graded.outputs("s25")


def test_row_11_the_gradebook_can_be_read_and_written(graded):
    """Stock nbgrader runs a notebook below the folder of the gradebook, as the same user.

    The student has set another one's grades to zero, who was graded before and was right.
    """
    assert re.search(r"GRADES [1-9]", graded.outputs("s11"))
    assert graded.total("a-victim") == 0


def test_row_12_other_submissions_solutions_and_secrets_can_be_read(graded):
    """Stock nbgrader hides neither files nor the environment of the one who grades."""
    said = graded.outputs("s11")
    assert re.search(rf"OTHERS {len(CASES)} 1", said)
    assert "ENVIRONMENT seen" in said


def test_row_13_links_are_followed(graded):
    """Stock nbgrader copies what a link in the submission leads to: here the gradebook."""
    copied = graded.made.autograded("s11") / "book.txt"
    assert not copied.is_symlink()
    assert copied.read_bytes().startswith(b"SQLite format 3")


def test_row_17_what_was_right_is_lost_when_the_kernel_dies(graded):
    """Stock nbgrader throws a submission away whose kernel ends: the other answer is right, and has no points."""
    assert graded.total("s17") is None
    assert not graded.made.autograded("s17").exists()


def test_row_21_what_was_right_is_lost_when_a_loop_cannot_be_interrupted(graded):
    """Stock nbgrader interrupts a cell, and gives up when that does not help: no points for the other answer."""
    assert graded.total("s21") is None


def test_row_25_a_process_outlives_its_notebook(graded):
    """Stock nbgrader ends the kernel and not what it has started: it was still writing when the next one was graded."""
    written = (graded.made.root / "alive.txt").stat().st_mtime
    assert written > (graded.made.autograded("s25") / FILE).stat().st_mtime + 0.2


def test_row_27_one_long_line_is_kept(graded):
    """Stock nbgrader limits lines, not characters: 20 MB of output are kept."""
    assert (graded.made.autograded("s25") / FILE).stat().st_size > 20_000_000


def test_row_29_sockets_of_the_machine_can_be_used(graded):
    """Stock nbgrader leaves the network and abstract sockets open."""
    assert "CONNECTED" in graded.outputs("s11")


def test_row_31_a_right_answer_that_writes_to_stderr_gets_zero(graded):
    """Stock nbgrader takes any text on stderr for a failed test."""
    assert graded.grades["s31", "check_double"] == 0
    assert graded.grades["s31", "check_triple"] == TRIPLE


def test_row_41_scripts_get_into_the_feedback(graded):
    """Stock nbgrader writes what a student displays, and text cells, into the feedback page as they are."""
    assert convert("GenerateFeedback", graded.made, "s25") is not None
    page = (graded.made.root / "feedback" / "s25" / "ps1" / "problem.html").read_text()
    assert page.count(SCRIPT) >= 2


def test_row_a54_a_timestamp_that_is_none_loses_everything(graded):
    """Stock nbgrader refuses the submission."""
    assert graded.total("s54") is None


def test_rows_35_and_48_a_tag_and_a_missing_version(tmp_path):
    """Stock nbgrader can leave out demo cells by their tag, so a check that a student tags so has full marks (48).

    Metadata without a version ends the whole run (35): the student after it is not graded.
    """
    made = new_course(tmp_path / "course", 'c.Execute.skip_cells_with_tag = "demo"\n')
    hand_in(made, "a", Attack(tags=("demo",)))
    hand_in(made, "b", Attack(RIGHT))
    hand_in(made, "c", Attack(RIGHT))
    path = made.submitted("b") / FILE
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["metadata"].get("nbgrader", {}).pop("schema_version", None)
    path.write_text(json.dumps(notebook))
    done = run_nbgrader(made, "autograde", "ps1")
    assert done.returncode != 0
    assert "old version" in done.stderr
    found = grades(made)
    assert sum(score for (name, _), score in found.items() if name == "a") == HONEST
    assert not [name for name, _ in found if name == "c"]


def test_row_32_a_check_that_stands_twice_ends_the_run(tmp_path):
    """Stock nbgrader empties the metadata of one of the two, takes that for an old version, and ends: nobody after it is graded."""
    made = new_course(tmp_path / "course")
    hand_in(made, "a", Attack(RIGHT, twice="check_double"))
    hand_in(made, "b", Attack(RIGHT))
    done = run_nbgrader(made, "autograde", "ps1")
    assert done.returncode != 0
    assert "old version" in done.stderr
    assert not [name for name, _ in grades(made) if name == "b"]


def test_row_46_a_broken_configuration_is_passed_over(tmp_path):
    """Stock nbgrader reports an error in its configuration, goes on without it, and ends normally.

    The configuration was to run no cell at all, so that nobody could have points; its last line is wrong, so it is not used.
    """
    steps = "c.Autograde.autograde_preprocessors = []\nraise RuntimeError('a plain mistake')\n"
    made = new_course(tmp_path / "course")
    hand_in(made, "a", Attack(tags=("skip-execution",)))
    made.config.write_text(made.config.read_text() + steps)
    done = run_nbgrader(made, "autograde", "ps1")
    assert done.returncode == 0, done.stderr
    assert sum(score for (name, _), score in grades(made).items() if name == "a") == HONEST


def test_row_49_a_locked_gradebook_ends_the_run(tmp_path):
    """Stock nbgrader waits for five seconds, and then ends, with nobody graded."""
    made = new_course(tmp_path / "course")
    hand_in(made, "a", Attack(RIGHT))
    with sqlite3.connect(made.root / "gradebook.db", isolation_level=None) as book:
        book.execute("begin exclusive")
        done = run_nbgrader(made, "autograde", "ps1")
        book.execute("rollback")
    assert done.returncode != 0
    assert "locked" in done.stderr
    assert not grades(made)
