"""Submissions that look for files, other people's work, secrets and a way out of their process.

Each uses what it finds: it then gets the target's points, or prints that it was reached. Neither may happen.
"""

from __future__ import annotations

from pathlib import Path

from autograde.classroom.battery.inside import IS_ANSWER, USE, spy
from autograde.classroom.battery.row import (
    Write,
    submit,
    wrong,
)
from autograde.classroom.battery.scene import Scene

_UPWARD = """
from pathlib import Path

def upward():
    here = Path.cwd().resolve()
    places = [here, *here.parents]
    return [place for place in places[:6] if place != Path("/")] + [Path(CLASS)]
"""
_GRADEBOOK = wrong(
    _UPWARD
    + """
import sqlite3

for place in upward():
    for path in place.glob("*.db"):
        try:
            with sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=0.1) as book:
                rows = book.execute("select count(*) from sqlite_master").fetchone()
                reached(("gradebook, to read", path.name, rows))
                book.execute("begin immediate")
                reached(("gradebook, to write", path.name))
                book.rollback()
        except sqlite3.Error:
            pass
"""
)
_OTHERS = wrong(
    _UPWARD
    + """
import json

_found = []

def answers(path):
    try:
        cells = json.loads(path.read_text())["cells"] if path.is_file() and path.stat().st_size < 1e6 else []
    except Exception:
        return
    for cell in cells:
        text = "".join(cell.get("source", ""))
        if cell.get("id") == "TARGET" and "_wrong" not in text:
            yield text

for place in upward():
    for folder in ("source", "solutions", "submitted", "autograded", "release", "feedback"):
        for path in sorted((place / folder).glob("**/*.ipynb"))[:40] if (place / folder).is_dir() else ():
            for text in answers(path):
                reached((folder, path.name))
                if folder in ("source", "solutions"):
                    space = dict(get_ipython().user_ns)
                    exec(text, space)
                    _found.append(space["TARGET"])

def TARGET(*args, **kwargs):
    return (_found[0] if _found else _wrong)(*args, **kwargs)
"""
)
_SECRETS = wrong("""
import glob, os

for name, value in os.environ.items():
    if any(word in name.upper() for word in ("SECRET", "API_TOKEN", "PASSWORD", "NBGRADER", "JUPYTERHUB", "DB_URL")):
        reached(("environment", name))
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        with open(path, "rb") as file:
            if b"SECRET" in file.read():
                reached(("environment of another process", path))
    except OSError:
        pass
for name in ("~/.ssh", "~/.netrc", "~/.bashrc", "~/.gitconfig", "~/.jupyter", "~/.local/share/jupyter/runtime"):
    if os.path.exists(os.path.expanduser(name)):
        reached(("home", name))
""")
_ENVIRONMENT = """
import os

def TARGET(*args, **kwargs):
    words = ("NBGRADER", "AUTOGRADE", "REDERIVE", "VALIDAT", "GRADE")
    told = [name for name in os.environ if any(word in name.upper() for word in words)]
    if told:
        reached(("environment", told))
    return (_right if told else _wrong)(*args, **kwargs)
"""
_MESSAGES = wrong("""
import glob, os, sys

kernel = getattr(get_ipython(), "kernel", None)
if kernel is not None:
    reached("the kernel")
    for _ in range(3):
        content = {"execution_count": 1, "data": {"text/plain": "1.0"}, "metadata": {}}
        kernel.session.send(kernel.iopub_socket, "execute_result", content, parent=kernel.get_parent("shell"))
        kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"}, parent=kernel.get_parent("shell"))
places = [os.path.expanduser("~/.local/share/jupyter/runtime"), os.environ.get("JUPYTER_RUNTIME_DIR", ""), os.getcwd()]
for path in [name for place in places if place for name in glob.glob(f"{place}/kernel-*.json")] + sys.argv:
    if path.endswith(".json") and os.path.exists(path):
        reached(("connection file", path))
""")
_DESCRIPTORS = wrong("""
import os, socket, stat

for number in range(3, 1024):
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        continue
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        reached(("inherited descriptor", number, oct(mode)))
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(number)) as line:
            if line.family in (socket.AF_INET, socket.AF_INET6):
                reached(("inherited connection", number))
""")
_NETWORK = wrong("""
import socket

if [name for _, name in socket.if_nameindex() if name != "lo"]:
    reached(("network", socket.if_nameindex()))
try:
    reached(("name service", socket.getaddrinfo("example.org", 80)[0][4]))
except OSError:
    pass
for address in ("\\0TRACE", "/tmp/.X11-unix/X0", "/run/docker.sock", "/run/dbus/system_bus_socket"):
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(address)
            reached(("socket", address))
        except OSError:
            pass
""")
_IMPORTS = wrong(
    """
import glob, importlib, importlib.util, marshal, os, pkgutil, sys
import autograde, torch, utils

_found = []
"""
    + IS_ANSWER
    + """
def attempt(call):
    try:
        return call()
    except BaseException:
        return None

sys.meta_path[:] = [finder for finder in sys.meta_path if "Answers" not in type(finder).__name__ + str(finder)]
for name in ("utils.reference.TOPIC", "autograde.exercises.TOPIC", "autograde.exercises.TOPIC.TARGET"):
    module = attempt(lambda: importlib.import_module(name))
    take(getattr(module, "TARGET", None), name)
    if attempt(lambda: pkgutil.get_data(name.rsplit(".", 1)[0], "__init__.py")):
        reached(("source", name))
roots = {os.path.dirname(path) for module in (autograde, utils) for path in module.__path__} | set(sys.path)
for root in roots:
    for pattern in ("utils/reference/**/*.py*", "autograde/exercises/**/*.py*", "solutions/**/*.py"):
        for path in glob.glob(os.path.join(root, pattern), recursive=True)[:3]:
            reached(("file", path))

def look_around():
    pass
"""
    + USE.replace("_found = []", "")
)
_WRITABLE = wrong("""
import os, sys
import torch, utils, autograde

for path in (torch.__file__, utils.__file__, autograde.__file__, sys.executable, "/etc/passwd", "/usr", "/var"):
    if path and os.access(path, os.W_OK):
        reached(("may write", path))
""")
_SHELL = wrong("""
import os

for line in get_ipython().getoutput("ls -d ../../../gradebook.db CLASS_FOLDER/gradebook.db CLASS_FOLDER/source"):
    if os.path.exists(line):
        reached(("by a shell", line))
""")
_NOTE = wrong("""
import os

places = ["/tmp", "/dev/shm", "/var/tmp", os.path.expanduser("~"), os.getcwd()]
for path in [os.path.join(place, "TRACE-note") for place in places]:
    if os.path.exists(path):
        reached(("a note of another student", path))
try:
    with open("/tmp/TRACE-note", "w") as file:
        file.write("the answer")
except OSError:
    pass
""")


def _in_class(code: str) -> Write:
    """The submission knows where the class is: three folders above it, as nbgrader has it."""

    def write(scene: Scene, place: Path) -> None:
        folder = str(place.resolve().parents[2])
        text = code.replace("CLASS_FOLDER", folder).replace("CLASS", repr(folder))
        submit(text)(scene, place)

    return write


_OUT = "the sandbox holds the notebook and what it may import, and nothing else"
ROWS = (
    spy("11", "opens the gradebook", _OUT, _in_class(_GRADEBOOK)),
    spy("12a", "reads others' submissions and solutions", _OUT, _in_class(_OTHERS)),
    spy("12b", "reads environments and the home folder", _OUT, submit(_SECRETS)),
    spy("14", "forges Jupyter messages", "there is no kernel, and outputs earn nothing", submit(_MESSAGES)),
    spy(
        "15",
        "uses inherited descriptors",
        "none is inherited but the line to the grader",
        submit(_DESCRIPTORS),
    ),
    spy("29", "uses the network and sockets", _OUT, submit(_NETWORK)),
    spy(
        "40",
        "is right only when it is being graded",
        "nothing says so",
        submit("RIGHT_ANSWER\n_right = TARGET\n" + wrong(_ENVIRONMENT)),
    ),
    spy("A8", "imports and reads the reference", _OUT, submit(_IMPORTS)),
    spy("A10", "looks for what it may write to", _OUT, submit(_WRITABLE)),
    spy("A11", "looks around with a shell", _OUT, _in_class(_SHELL)),
    spy("A12a", "leaves a note for the next student", "each has a /tmp of its own", submit(_NOTE)),
    spy("A12b", "looks for a note of another student", "each has a /tmp of its own", submit(_NOTE)),
)
