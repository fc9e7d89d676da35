"""Every command in docs/for-instructors.md is run, in order, in one shell.

`autograde` and `nbgrader` are what is installed, run in a process that has imported torch already (`warm.py`).
"""

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from warm import functions

from autograde.build import build
from autograde.course import root

pytestmark = pytest.mark.timeout(600)
DOCUMENT = root() / "docs" / "for-instructors.md"
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
PORT = 8899
WAIT = """
import sys, time, urllib.error, urllib.request
for _ in range(120):
    try:
        urllib.request.urlopen("http://127.0.0.1:{port}/api", timeout=5)
        break
    except (urllib.error.URLError, ConnectionError):
        time.sleep(0.5)
else:
    sys.exit("nothing answers on port {port}")
"""
WRONG_STEP = """
def rnn_step(x, h, W_ih, W_hh, b_ih, b_hh):
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh + b_hh)
"""
WRONG_FORWARD = """
def rnn_forward(step, x, h0, lengths):
    rows = [[h0[i : i + 1]] for i in range(len(x))]
    outs = torch.zeros(*x.shape[:2], h0.shape[1], dtype=h0.dtype)
    for i, row in enumerate(rows):
        for t in range(int(lengths[i])):
            row.append(step(x[i : i + 1, t], row[-1]))
            outs[i, t] = row[-1][0]
    return outs, torch.cat([row[-1] for row in rows])
"""


def blocks(text):
    """(reason not to run it, or None; commands) for each block of commands."""
    found = list(BLOCK.finditer(text))
    assert {match["language"] for match in found} == {"bash"}, "a block of another language would not be run"
    assert text.count("```") == 2 * len(found)
    return [(match["reason"], match["text"]) for match in found]


def submissions(folder):
    """What the document calls a download of Canvas's: one student's is all right, the other's has two wrong answers."""
    solved = build(root()).sources["rnn/01_vanilla_rnn.ipynb"]
    wrong = nbformat.reads(solved, as_version=4)
    for cell in wrong.cells:
        cell.source = {"rnn_step": WRONG_STEP, "rnn_forward": WRONG_FORWARD}.get(cell.id, cell.source)
    with zipfile.ZipFile(folder / "submissions.zip", "w") as archive:
        archive.writestr("lovelaceada_101_5550101_01_vanilla_rnn.ipynb", solved)
        archive.writestr("nunezjosemaria_LATE_102_5550102_01_vanilla_rnn-1.ipynb", nbformat.writes(wrong))


def script(commands, before=""):
    """One shell script; a block that starts a server is followed by a wait for its answer."""
    lines = ["set -euo pipefail", before]
    for number, text in enumerate(commands):
        lines += [f'echo "=== block {number + 1} after $SECONDS s"', text]
        if text.rstrip().endswith("&"):
            lines.append(f"server=$!; python -c '{WAIT.format(port=PORT)}'; : $server")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder after all commands were run, and what they printed."""
    folder = tmp_path_factory.mktemp("instructor")
    submissions(folder)
    jupyter = folder / "jupyter"
    jupyter.mkdir()
    (jupyter / "jupyter_server_config.py").write_text(
        "c.ServerApp.allow_root = True\n"
    )  # a container's only user
    commands = []
    for reason, text in blocks(DOCUMENT.read_text(encoding="utf-8")):
        if reason:
            print(f"Not run, because {reason}:\n{text}")
        else:
            commands.append(text)
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("NBGRADER", "JUPYTER", "JPY", "REDERIVE"))
    }
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root()),
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),
        "JUPYTER_CONFIG_DIR": str(jupyter),
    }
    address = str(folder / "warm")
    warm = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm.py"), "serve", address], env=environment
    )
    try:
        for _ in range(600):
            if Path(address).exists() or warm.poll() is not None:
                break
            time.sleep(0.1)
        done = subprocess.run(
            ["bash", "-c", script(commands, functions(address))],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=580,
        )  # fmt: skip
    finally:
        warm.kill()
        warm.wait()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(*re.findall(r"=== block.*", done.stdout), sep="\n")
    return folder / "my-class", done.stdout


def test_every_block_is_run_or_says_why_not():
    found = blocks(DOCUMENT.read_text(encoding="utf-8"))
    skipped = [reason for reason, _ in found if reason]
    print(f"{len(found) - len(skipped)} of {len(found)} blocks are run. Not run: {'; '.join(skipped)}")
    assert len(found) >= 18
    assert len(skipped) <= 3


@pytest.mark.slow
def test_the_commands_lead_from_an_empty_folder_to_grades(walked):
    made, shown = walked
    assert "4 added" in shown
    table = (made / "grades-table.csv").read_text(encoding="utf-8").split()
    assert "rnn,total,out_of" in table[0].replace("email,", "")
    assert any(line.startswith("101,Lovelace,Ada") and line.endswith(",28,28,28") for line in table)
    assert any(line.startswith("104,Noether,Emmy,,,0,28") for line in table)


@pytest.mark.slow
def test_the_grades_for_canvas_are_those_after_grading_again(walked):
    """rnn_forward gives 5 of 6 points for one call of the step per sequence: 10 of 12 before, 5 of 6 after."""
    made, shown = walked
    lines = (made / "grades-canvas.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "Student,ID,SIS User ID,SIS Login ID,Section,rnn (4711)"
    assert lines[2] == '"Lovelace, Ada",101,S-101,ada,Monday,22'
    assert lines[3] == '"Núñez, José María",102,S-102,jose,Monday,16'
    assert lines[4] == '"Curie, Marie",103,S-103,marie,Tuesday,'
    assert lines[5] == '"Noether, Emmy",104,S-104,emmy,Tuesday,'
    assert "Canvas has 28 points for 'rnn (4711)', the gradebook 22." in " ".join(shown.split())
    assert "2 submissions graded again; 2 students have another score." in shown
    assert re.search(r"102 +│ rnn_forward +│ 10 +│ 5", shown)


@pytest.mark.slow
def test_nothing_that_was_started_is_left_running(walked):
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", PORT))


def test_a_block_in_another_language_is_noticed():
    assert blocks("<!-- not run: no network -->\n```bash\nmake\n```\n\n```bash\nls\n```\n") == [
        ("no network", "make\n"), (None, "ls\n")
    ]  # fmt: skip
    with pytest.raises(AssertionError):
        blocks("```sh\nls\n```\n")


def test_the_document_names_every_verdict_and_setting():
    from autograde.classroom.feedback import INSTRUCTOR
    from autograde.classroom.preprocessors import RunAndCheck

    text = DOCUMENT.read_text(encoding="utf-8")
    for verdict in INSTRUCTOR:
        assert f"`{verdict}`" in text, verdict
    config = (root() / "autograde" / "classroom" / "nbgrader_config.py").read_text(encoding="utf-8")
    for name in RunAndCheck.class_own_traits(config=True):
        assert f"c.RunAndCheck.{name}" in config + text, name


def test_the_lesson_of_the_document_is_there():
    notebook = json.loads((root() / "lessons" / "rnn" / "01_vanilla_rnn.ipynb").read_text())
    assert {"rnn_step", "rnn_forward", "n_params"} <= {cell["id"] for cell in notebook["cells"]}
