"""A sandbox for notebooks of other people: bubblewrap around a warm process that forks a child for each notebook.

Bubblewrap chooses what can be seen: the Python installation and system libraries, read-only, and of this project only
what runs a notebook (``SEEN``). No gradebook, no solutions, no references, no exercises, no other submission, no home, no
network. Inside, ``autograde.warm`` and ``autograde.confine`` keep one notebook from the next and bound what it uses.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autograde import confine, process
from autograde.confine import Limits
from autograde.course import lesson_ids, root
from autograde.lessons import read_lesson
from autograde.process import Pipe, how_it_ended

PACKAGE = Path(__file__).resolve().parents[1]
UTILS = PACKAGE.parent / "utils"
SEEN = (
    "confine", "frames", "handover", "integrity", "meters", "modes", "nests", "observe", "probes", "student", "values",
    "version", "warm", "wire",
)  # fmt: skip
"""The modules of autograde that exist in the sandbox."""
PARTS = (
    "bin",
    "etc",
    "include",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "libx32",
    "pyvenv.cfg",
    "sbin",
    "share",
    "ssl",
)
"""What an installation of Python, or /usr, consists of."""
START = 120.0
ANSWER = 15.0
MESSAGE = 1 << 16
SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
NAME = ("--hostname", "sandbox")
PASSWD = "student:x:{0}:{0}::/tmp:/bin/sh\n"


class NoSandbox(Exception):
    """There is no sandbox on this machine; the message says why, and what helps."""


@functools.cache
def why_not() -> str:
    """Why there is no sandbox here; empty when there is one."""
    if sys.platform != "linux":
        return f"the sandbox needs Linux with bubblewrap, and this is {sys.platform}"
    if not confine.supported():
        return f"the sandbox does not know this kind of processor ({os.uname().machine})"
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed (Debian and Ubuntu: sudo apt-get install bubblewrap)"
    tried = subprocess.run(
        [program, "--ro-bind", "/", "/", "--unshare-all", "true"], capture_output=True, text=True
    )
    if tried.returncode != 0:
        return f"bubblewrap cannot make a sandbox here: {tried.stderr.strip()[:200]}"
    return ""


class Sandbox:
    """One warm process in bubblewrap. ``start`` gives each notebook a child of its own, one after the other.

    Args:
        modules: what the warm process imports beforehand.
        limits: what a notebook may use.

    Raises:
        NoSandbox: bubblewrap is missing, or does not work here.
    """

    def __init__(self, modules: Sequence[str] = (), limits: Limits | None = None) -> None:
        reason = why_not()
        if reason:
            raise NoSandbox(reason)
        self.limits = limits or Limits()
        self._modules = tuple(modules)
        self._bwrap: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        atexit.register(self.close)

    def start(self, folder: Path | None = None) -> Boxed:
        """A child that waits for the commands of ``autograde.student``, in an empty folder.

        Raises:
            NoSandbox: the warm process does not start, or cannot lock a child in.
        """
        for last_try in (False, True):
            theirs_in, ours_out = os.pipe()
            ours_in, theirs_out = os.pipe()
            try:
                self._ready()
                self._tell({"do": "start", "limits": asdict(self.limits)}, [theirs_in, theirs_out])
                answer = self.heard(ANSWER, "started", "failed")
            except OSError:
                answer = {"is": "failed", "why": "the warm process is gone"}
            finally:
                os.close(theirs_in)
                os.close(theirs_out)
            if answer["is"] == "started":
                return Boxed(self, Pipe(ours_in, ours_out))
            os.close(ours_in)
            os.close(ours_out)
            self.close()
            if last_try:
                raise NoSandbox(f"a notebook cannot be locked in: {answer.get('why', 'no answer')}")
        raise AssertionError

    def _ready(self) -> None:
        if self._bwrap is not None and self._bwrap.poll() is None:
            return
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passwd_end, passwd = os.pipe()
        os.write(passwd, PASSWD.format(os.getuid() or 65534).encode())
        os.close(passwd)
        command = [
            *bubblewrap(passwd_end),
            *(str(_inside(Path(sys.executable))), "-P", "-m", "autograde.warm", str(theirs.fileno())),
            *self._modules,
        ]
        with theirs:
            self._bwrap = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), passwd_end),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        os.close(passwd_end)
        self._control = ours
        if self.heard(START, "ready")["is"] != "ready":
            self._bwrap.kill()
            _, told = self._bwrap.communicate()
            self.close()
            lines = told.decode(errors="replace").strip().splitlines() or ["no answer"]
            raise NoSandbox(f"the warm process does not start: {lines[-1][:300]}")

    def _tell(self, message: dict[str, Any], descriptors: Iterable[int] = ()) -> None:
        if self._control is None:
            raise OSError("no warm process")
        socket.send_fds(self._control, [json.dumps(message).encode()], list(descriptors))

    def tell(self, what: str) -> None:
        """``interrupt`` or ``kill`` the child that runs."""
        with contextlib.suppress(OSError):
            self._tell({"do": what})

    def heard(self, seconds: float, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds; ``{"is": ""}`` when there is none in time."""
        deadline = time.monotonic() + seconds
        while self._control is not None:
            ready, _, _ = select.select([self._control], [], [], max(0.0, deadline - time.monotonic()))
            try:
                data = self._control.recv(MESSAGE) if ready else b""
            except ConnectionError:
                data = b""  # reset: it ended before it had read everything
            if not data:
                break
            message: dict[str, Any] = json.loads(data)
            if message["is"] in kinds:
                return message
        return {"is": ""}

    def close(self) -> None:
        """End the warm process and everything below it."""
        control, self._control = self._control, None
        bwrap, self._bwrap = self._bwrap, None
        if control is not None:
            control.close()  # the warm process ends when it sees this
        if bwrap is not None:
            try:
                bwrap.wait(5)
            except subprocess.TimeoutExpired:
                bwrap.kill()
                bwrap.wait()
            if bwrap.stderr is not None:
                bwrap.stderr.close()


@dataclass
class Boxed:
    """A child in the sandbox."""

    sandbox: Sandbox
    pipe: Pipe
    starting: bool = False
    _end: tuple[str, str] | None = None

    def interrupt(self) -> None:
        """KeyboardInterrupt in the notebook."""
        self.sandbox.tell("interrupt")

    def kill(self) -> None:
        """End the child and all that it has started; with it goes its process namespace."""
        if self._end is None:
            self.sandbox.tell("kill")
            self._note(self.sandbox.heard(ANSWER, "ended"))

    def ended(self) -> tuple[str, str]:
        """Wait a moment for the end; then kill."""
        if self._end is None:
            message = self.sandbox.heard(process.GRACE, "ended")
            if message["is"]:
                self._note(message)
            else:
                self.kill()
                if self._end is not None and self._end[0] != "grader-error":
                    self._end = "crash", "The process stopped answering."
        assert self._end is not None
        return self._end

    def _note(self, message: dict[str, Any]) -> None:
        limits = self.sandbox.limits
        reasons = {
            "memory": ("oom", f"It used more than {limits.memory / 1e9:g} GB of memory."),
            "cpu": ("timeout", f"It used more than {limits.cpu_seconds} seconds of the processor."),
            "processes": ("crash", f"It started more than {limits.processes} processes and threads."),
        }
        if not message["is"]:
            self.sandbox.close()  # it does not answer: the next notebook gets a new one
            self._end = (
                "grader-error",
                "The sandbox itself was stopped from outside, which is not your fault.",
            )
        elif message["why"] in reasons:
            self._end = reasons[message["why"]]
        elif message["code"] > 128:
            number = message["code"] - 128
            over = number == 24  # SIGXCPU
            self._end = reasons["cpu"] if over else ("crash", how_it_ended(-number))
        else:
            self._end = "crash", how_it_ended(message["code"])


def bubblewrap(passwd: int) -> list[str]:
    """The command that makes the sandbox, up to the program that runs in it.

    Args:
        passwd: a descriptor with the text of ``/etc/passwd``.
    """
    program = shutil.which("bwrap") or "bwrap"
    return [program, *_namespaces(), *_environment(), *_files(passwd), "--chdir", "/tmp"]


def _namespaces() -> list[str]:
    # Root needs no user namespace, and gives its rights away inside: so it is an ordinary user there, whose processes
    # can be counted.
    if os.getuid() == 0:
        kinds = ("pid", "net", "ipc", "uts")
        capabilities = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        return [*(f"--unshare-{kind}" for kind in kinds), "--unshare-cgroup-try", *capabilities, *NAME]
    return ["--unshare-all", *NAME]


def _environment() -> list[str]:
    kept = {
        "PATH": f"{_inside(Path(sys.executable)).parent}:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "/course",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "0",
        "TRITON_INTERPRET": "1",  # it has no GPU, and has to be set before the warm process imports triton
    }
    return ["--clearenv", *(word for key, value in kept.items() for word in ("--setenv", key, value))]


def _files(passwd: int) -> list[str]:
    bound = _installation()
    words: list[str] = []
    for place in SYSTEM:
        if os.path.islink(place):
            words += ["--symlink", os.readlink(place), place]
        elif os.path.isdir(place):
            words += ["--ro-bind", place, place]
    words += [*_open_folders(Path("/etc/x")), *_open_folders(Path("/sys/devices/system/cpu"))]
    for place in ("/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu"):
        words += ["--ro-bind-try", place, place]
    for path in bound:
        words += [*_open_folders(_inside(path)), "--ro-bind", str(path), str(_inside(path))]
    for secret in (PACKAGE, UTILS, root().resolve()):
        if any(path in secret.parents for path in bound):
            words += ["--tmpfs", str(_inside(secret)), "--remount-ro", str(_inside(secret))]
    words += ["--perms", "0644", "--ro-bind-data", str(passwd), "/etc/passwd"]
    # What could be written outside of /tmp and /dev/shm would have no limit, and stay for the next notebook.
    words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    words += ["--perms", "1777", "--tmpfs", "/tmp"]
    words += _course()
    return [*words, "--remount-ro", "/"]


def _installation() -> list[Path]:
    """The folders of Python and of the system's libraries, none inside another.

    Only those that an installation has: a course or a class that lies in the same folder is not among them.
    """
    prefixes = {Path(p).resolve() for p in ("/usr", "/usr/local", sys.prefix, sys.base_prefix)} | {
        Path(sys.prefix)
    }
    wanted = {prefix / part for prefix in prefixes for part in PARTS if (prefix / part).exists()}
    return sorted(path for path in wanted if not any(other in path.parents for other in wanted))


def _inside(path: Path) -> Path:
    """Where a path of the installation is in the sandbox: where it is outside, but for what lies below ``/tmp``.

    ``/tmp`` is the notebook's own. A virtual environment works at any place.
    """
    return Path("/environment") / path.relative_to("/tmp") if path.is_relative_to("/tmp") else path


def _open_folders(path: Path) -> list[str]:
    """The folders above a path, for everybody to pass through; bubblewrap makes them for their owner only."""
    return [word for parent in [*path.parents][-2::-1] for word in ("--perms", "0755", "--dir", str(parent))]


def _course() -> list[str]:
    words = _open_folders(Path("/course/autograde/x")) + _open_folders(Path("/course/utils/x"))
    words += ["--ro-bind", str(PACKAGE / "classroom" / "shim.py"), "/course/autograde/__init__.py"]
    for name in SEEN:
        words += ["--ro-bind", str(PACKAGE / f"{name}.py"), f"/course/autograde/{name}.py"]
    hidden = UTILS / "reference"
    for path in sorted(UTILS.iterdir()):
        if path != hidden and path.name != "__pycache__":
            words += ["--ro-bind", str(path), f"/course/utils/{path.name}"]
    return words


def imports(topic: str) -> list[str]:
    """What the lessons of a series import, for the warm process to have it ready."""
    folder = root()
    names: dict[str, None] = dict.fromkeys(("matplotlib.pyplot", "numpy", "torch", "utils"))
    for lesson in lesson_ids(folder / "lessons", "*.ipynb"):
        if lesson.split("/")[0] == topic:
            for cell in read_lesson(folder, lesson).cells:
                if cell.cell_type == "code":
                    names.update(dict.fromkeys(_imported(cell.source)))
    return [name for name in names if name.split(".")[0] != "autograde"]


def _imported(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
