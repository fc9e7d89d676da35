"""The sandbox, looked at from inside and from outside while a notebook runs."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import NEEDS_SANDBOX, below, gone, raised, session, shown

from autograde import confine, process
from autograde.build import build
from autograde.classroom import sandbox as module
from autograde.classroom.grader import Job, Settings, close_sandboxes, grade_job
from autograde.classroom.sandbox import PACKAGE, SEEN, UTILS, NoSandbox, Sandbox, imports
from autograde.confine import Limits
from autograde.course import lesson_ids, root
from autograde.lessons import lesson_info, read_lesson
from autograde.observe import Lost, Stopped
from autograde.probes import outputs
from autograde.run import MOST_LOST, grade_submission
from autograde.session import Session
from autograde.submission import Step, Submission

pytestmark = NEEDS_SANDBOX
ROOT = root()
SMALL = Limits(cpu_seconds=60, memory=400_000_000, processes=24, disk=8_000_000, files=60)
ANSWER = "import torch\ndef rnn_step(x, h, W_ih, W_hh, b_ih, b_hh):\n    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)"
SECRET = "the-secret-of-the-grader"
CLASS = (
    "gradebook.db",
    ".class-secret",
    "solutions/it.py",
    "submitted/ann/rnn/it.ipynb",
    "verdicts/rnn/ann.json",
)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """A class folder, and a file that is open."""
    folder = tmp_path_factory.mktemp("class")
    for name in CLASS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def box(secrets):
    """One sandbox for these tests, started by a process with secrets in its environment and in an open file."""
    with pytest.MonkeyPatch.context() as patch, (secrets / CLASS[0]).open() as file:
        patch.setenv("GRADEBOOK_PASSWORD", SECRET)
        patch.setattr(process, "GRACE", 1.5)
        os.set_inheritable(file.fileno(), True)
        made = Sandbox(["torch", "matplotlib.pyplot"])
        made.start().kill()
        yield made
        made.close()


# --- what can be seen -------------------------------------------------------------------------------------------------------


def test_of_the_course_there_is_only_what_runs_a_notebook(box):
    listed = "sorted(os.path.join(p, f) for p, _, fs in os.walk('/course') for f in fs)"
    with session(box) as opened:
        found = {name for name in shown(opened, listed, "import os") if "__pycache__" not in name}
    ours = {f"/course/autograde/{name}.py" for name in ("__init__", *SEEN)}
    assert {name for name in found if name.startswith("/course/autograde")} == ours
    assert "/course/utils/plotting.py" in found
    assert not [name for name in found if "reference" in name or "exercises" in name]


def test_nothing_that_decides_is_visible(box, secrets):
    hidden = [
        *(ROOT / name for name in ("solutions", "lessons", "tests", "course.toml", ".git")),
        *(PACKAGE / name for name in ("exercises", "grade.py", "compare.py", "expect.py", "classroom")),
        *(UTILS / "reference", secrets, *(secrets / name for name in CLASS)),
        *map(
            Path, ("/root/.ssh", "/home", "/var", "/etc/shadow", "/etc/hosts", "/run", "/boot", "/opt/secret")
        ),
    ]
    with session(box) as opened:
        there = shown(opened, f"[p for p in {[str(p) for p in hidden]} if os.path.lexists(p)]", "import os")
        (pid,) = students(box)
        outside = [path for path in hidden if os.path.lexists(f"/proc/{pid}/root{path}")]
    assert there == []
    assert outside == []


def students(box):
    """The processes in which a notebook runs now, by their numbers out here: those without children."""
    everybody = below(box._bwrap.pid)
    return [pid for pid in everybody if not below(pid) and len(everybody) > 2]


def warm_of(box):
    """The number of the warm process, which is the only child of bubblewrap's first process."""
    (first,) = below(box._bwrap.pid) - {pid for child in below(box._bwrap.pid) for pid in below(child)}
    (warm,) = below(first) - {pid for child in below(first) for pid in below(child)}
    return warm


def idle(box):
    """The processes that are there when no notebook runs: bubblewrap's first, and the warm one."""
    warm = warm_of(box)
    return below(box._bwrap.pid) - below(warm)


def test_the_mounts_are_these_and_only_two_can_be_written(box):
    with session(box) as opened:
        shown(opened, "1")
        (pid,) = students(box)
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    # A later line covers an earlier one of the same place.
    mounts = {words[4]: words[5].split(",") for words in (line.split() for line in lines)}
    python = {str(path) for path in module._installation()}
    system = {
        "/",
        *module.SYSTEM,
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/etc/passwd",
        "/sys/devices/system/cpu",
    }
    devices = {
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts", "console")
    }
    known = python | system | devices | {"/dev", "/dev/shm", "/tmp", "/proc", "/proc/bus", "/proc/irq"}
    other = [place for place in mounts if place not in known and not place.startswith("/course/")]
    covered = {str(PACKAGE), str(UTILS), str(ROOT.resolve())}
    assert set(other) <= covered
    assert {place for place, how in mounts.items() if "rw" in how} - devices == {"/tmp", "/dev/shm"}


def test_no_folder_but_two_can_be_written(box):
    lines = (
        "import os, contextlib",
        "places = ['/']",
        "for p in places:",
        "    with contextlib.suppress(OSError):",
        "        places += [os.path.join(p, d) for d in os.listdir(p) if p.count('/') < 3 and not os.path.islink(os.path.join(p, d))]",
        "places = [p for p in places if os.path.isdir(p)]",
        "def writable(p):",
        "    try:",
        "        open(p + '/x', 'w').close()",
        "    except OSError:",
        "        return False",
        "    return True",
    )
    with session(box) as opened:
        found = shown(opened, "sorted(p for p in places if writable(p))", *lines)
    assert found == ["/dev/shm", "/tmp", "/tmp/work"]


def test_there_is_no_proc(box):
    with session(box) as opened:
        assert shown(opened, "os.listdir('/proc')", "import os") == []


def test_the_environment_is_made_for_it(box):
    with session(box) as opened:
        found = shown(opened, "dict(os.environ)", "import os")
    assert SECRET not in json.dumps(found)
    assert not [
        name for name in found if name.startswith(process.HIDDEN_ENVIRONMENT) and name != "PYTHONPATH"
    ]
    assert found["HOME"] == "/tmp"
    assert found["PYTHONPATH"] == "/course"


def test_no_descriptor_is_inherited(box):
    lines = (
        "import os, stat",
        "kinds = {}",
        "for i in range(3000):",
        "    try: kinds[i] = os.fstat(i)",
        "    except OSError: pass",
    )
    with session(box) as opened:
        expression = (
            "[[i, stat.S_ISFIFO(s.st_mode), s.st_rdev == os.makedev(1, 3)] for i, s in kinds.items()]"
        )
        found = shown(opened, expression, *lines)
    assert [i for i, _, null in found if null] == [0, 1, 2]
    assert len([i for i, fifo, _ in found if fifo]) == 2
    assert len(found) == 5


def test_it_is_an_ordinary_user_whom_the_system_knows(box):
    with session(box) as opened:
        number, name = shown(opened, "[os.getuid(), getpass.getuser()]", "import os, getpass")
        assert raised(opened, "import os", "os.setuid(0)")[0] in ("OSError", "PermissionError")
    assert number != 0
    assert name == "student"


def test_its_own_autograde_hands_nothing_out(box):
    with session(box) as opened:
        lines = ("from autograde import open_lesson, given", "check = open_lesson('rnn/01_vanilla_rnn')")
        assert shown(opened, "check.rnn_step(None)", *lines) is None
        assert raised(opened, "given('rnn_step')")[0] == "RuntimeError"
        for name in ("autograde.exercises", "autograde.grade", "utils.reference", "utils.reference.rnn"):
            assert raised(opened, f"import {name}")[0] in ("ImportError", "ModuleNotFoundError")


def test_the_shim_raises_where_no_process_grades(tmp_path):
    """A check that is silently skipped would look like one that passed."""
    code = "import autograde; autograde.open_lesson('rnn/01_vanilla_rnn')"
    place = tmp_path / "autograde"
    place.mkdir()
    (place / "__init__.py").write_text((PACKAGE / "classroom" / "shim.py").read_text())
    for name in ("handover", "version"):
        (place / f"{name}.py").write_text((PACKAGE / f"{name}.py").read_text())
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Nothing was checked." in done.stderr


# --- the way out ------------------------------------------------------------------------------------------------------------


def test_no_network(box):
    with socket.create_server(("127.0.0.1", 0)) as server, session(box) as opened:
        port = server.getsockname()[1]
        assert shown(opened, "[n for _, n in socket.if_nameindex()]", "import socket") == ["lo"]
        for place in (f"('127.0.0.1', {port})", "('192.0.2.1', 80)", "('1.1.1.1', 53)"):
            assert raised(opened, f"socket.create_connection({place}, 2)")[0] in (
                "ConnectionRefusedError",
                "OSError",
            )
        assert raised(opened, "socket.getaddrinfo('example.org', 80)")[0] == "gaierror"
        assert raised(opened, "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)")[0] == "PermissionError"
        for family in ("AF_PACKET", "AF_VSOCK", "AF_ALG"):
            message = raised(opened, f"socket.socket(socket.{family}, socket.SOCK_DGRAM)")[1]
            assert os.strerror(errno.EAFNOSUPPORT) in message


def test_no_unix_socket_of_others(box, secrets):
    name = "\0rederive-test"
    with (
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
        session(box) as opened,
    ):
        for server, place in ((abstract, name), (named, str(secrets / "s"))):
            server.bind(place)
            server.listen()
        lines = "import socket\ns = socket.socket(socket.AF_UNIX)"
        assert raised(opened, lines, f"s.connect({name!r})")[0] == "ConnectionRefusedError"
        assert raised(opened, lines, f"s.connect({str(secrets / 's')!r})")[0] == "FileNotFoundError"


SYSCALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef call(*a):\n    r = libc.syscall(*a)\n    return [r, ctypes.get_errno()]"


def test_system_calls_that_no_lesson_needs_are_refused(box):
    column, _ = confine.ARCHITECTURES[os.uname().machine]
    numbers = {name: pair[column] for name, pair in confine.REFUSED.items()}
    with session(box) as opened:
        found = shown(opened, f"{{n: call(i, 0, 0, 0, 0, 0, 0) for n, i in {numbers}.items()}}", SYSCALL)
        new_user = shown(opened, f"call({confine.CLONE[column]}, {confine.CLONE_NEWUSER}, 0, 0, 0, 0)")
        clone3 = shown(opened, f"call({confine.CLONE3[column]}, 0, 0)")
    assert {name: result for name, result in found.items() if result != [-1, errno.EPERM]} == {}
    assert new_user == [-1, errno.EPERM]
    assert clone3 == [-1, errno.ENOSYS]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another ABI of x86-64")
def test_the_other_abi_ends_the_process(box):
    with session(box) as opened, pytest.raises(Stopped, match="SIGSYS") as stopped:
        opened.run(SYSCALL + "\ncall(0x40000000 + 39)")
    assert stopped.value.verdict == "crash"


def test_no_capability_is_left(box):
    lines = (
        SYSCALL,
        "data = (ctypes.c_uint32 * 6)()",
        "header = (ctypes.c_uint32 * 2)(0x20080522, 0)",
        "libc.capget(header, data)",
    )
    with session(box) as opened:
        assert shown(opened, "list(data)", *lines) == [0] * 6
        assert shown(opened, "libc.prctl(39, 0, 0, 0, 0)") == 1, "no new privileges"
        assert shown(opened, "libc.prctl(21, 0, 0, 0, 0)") == 2, "a filter of system calls"
        assert shown(opened, "[libc.prctl(23, i, 0, 0, 0) for i in range(38)]") == [0] * 38, "none to gain"


def test_it_cannot_touch_its_keepers(box):
    with session(box) as opened:
        assert shown(opened, "os.getpid()", "import os") == 2
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
            raised(opened, f"os.kill(1, {int(number)})")
        assert shown(opened, "1 + 1") == 2
        opened.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nos.kill(1, signal.SIGINT)")
        assert shown(opened, "1 + 1") == 2


# --- limits -----------------------------------------------------------------------------------------------------------------


def test_seconds_of_the_processor(box):
    limits = replace(SMALL, cpu_seconds=1)
    with session(box, limits) as opened, pytest.raises(Stopped, match="of the processor") as stopped:
        opened.run("while True: pass")
    assert (stopped.value.verdict, stopped.value.alive) == ("timeout", False)


def test_seconds_of_the_processor_in_other_processes(box):
    code = "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(60)"
    limits = replace(SMALL, cpu_seconds=1)
    with session(box, limits) as opened, pytest.raises(Stopped, match="processor") as stopped:
        opened.run(code)
    assert stopped.value.verdict == "timeout"


def test_seconds_of_the_clock(box):
    with session(box, cell=0.5) as opened:
        with pytest.raises(Stopped, match=r"for more than [01] seconds") as stopped:
            opened.run("import time\ntime.sleep(60)")
        assert (stopped.value.verdict, stopped.value.alive) == ("timeout", True)
        assert shown(opened, "1 + 1") == 2


def test_a_loop_that_swallows_everything_is_killed(box):
    code = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException: pass"
    with session(box, cell=0.5) as opened:
        with pytest.raises(Stopped) as stopped:
            opened.run(code)
        assert (stopped.value.verdict, stopped.value.alive) == ("timeout", False)


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(10**9)",
        "import torch\nx = torch.ones(250_000_000)",
        "x = []\nwhile True: x.append(bytearray(10**6))",
        "import mmap\nx = mmap.mmap(-1, 10**9, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nx.write(bytes(10**9))",
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        x = os.urandom(150_000_000)\n        time.sleep(60)\ntime.sleep(60)",
        "import mmap\nx = mmap.mmap(-1, 10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1",
    ],
    ids=["at once", "a tensor", "bit by bit", "a private map", "in children", "a shared map"],
)  # fmt: skip
def test_memory(box, code):
    with session(box, SMALL) as opened, pytest.raises(Stopped) as stopped:
        opened.run(code)
    assert stopped.value.verdict == "oom"


def test_processes_and_threads(box):
    code = "import threading, time\nfor _ in range(200): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    with session(box, SMALL) as opened:
        assert raised(opened, code)[0] == "RuntimeError"


def test_a_fork_bomb(box):
    with session(box, SMALL, cell=3) as opened:
        with pytest.raises(Stopped) as stopped:
            opened.run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
        assert len(below(box._bwrap.pid)) <= SMALL.processes + 3
    assert stopped.value.verdict in ("crash", "timeout")
    assert below(box._bwrap.pid) == idle(box)


def test_the_disk(box):
    with session(box, SMALL) as opened:
        code = "open('x', 'wb').write(bytes({size}))"
        assert raised(opened, code.format(size=7_000_000)) is None
        for folder in ("/tmp/work", "/dev/shm"):
            kind, message = raised(opened, f"import os\nos.chdir({folder!r})", code.format(size=9_000_000))
            assert kind == "OSError"
            assert os.strerror(errno.EFBIG) in message or os.strerror(errno.ENOSPC) in message
        many = "os.chdir('/tmp/work')\nfor i in range(9): open(str(i), 'wb').write(bytes(1_000_000))"
        assert os.strerror(errno.ENOSPC) in raised(opened, many)[1]


def test_the_number_of_files(box):
    with session(box, SMALL) as opened:
        for folder in ("/tmp/work", "/dev/shm"):
            code = f"import os\nos.chdir({folder!r})\nfor i in range(1000): open(str(i), 'w').close()"
            assert os.strerror(errno.ENOSPC) in raised(opened, code)[1]
        assert raised(opened, "kept = [open('/dev/null') for _ in range(1000)]")[0] == "OSError"


def test_files_beside_the_notebook_may_lie_in_folders(box):
    with session(box) as opened:
        opened.put({"data.csv": b"1", "deep/er/x.csv": b"2", "torch.py": b"raise SystemExit"})
        assert shown(opened, "open('deep/er/x.csv').read()") == "2"
        assert shown(opened, "torch.ones(1).item()", "import torch") == 1.0


# --- what one notebook leaves for the next ------------------------------------------------------------------------------------

TRACES = """
import os, sys, subprocess, torch, json, builtins, signal
for place in ("/tmp/trace", "/tmp/work/trace", "/dev/shm/trace", os.path.expanduser("~/.trace")):
    open(place, "w").write("trace")
torch.add = torch.nn.functional.relu = json.dumps_before = lambda *a: 42
builtins.trace = sys.modules["trace"] = torch
os.environ["TRACE"] = "1"
torch.set_default_dtype(torch.float64)
torch.manual_seed(5)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        import time; time.sleep(1000)
    os._exit(0)
"""


def test_one_notebook_leaves_nothing_for_the_next(box):
    looks = {
        "files": "[f for p in ('/tmp', '/tmp/work', '/dev/shm') for f in os.listdir(p)]",
        "patched": "[torch.add is torch.nn.functional.relu, hasattr(builtins, 'trace'), 'trace' in sys.modules]",
        "environment": "os.environ.get('TRACE')",
        "dtype": "str(torch.get_default_dtype())",
        "number": "os.getpid()",
        "random": "torch.rand(1).item()",
    }
    line = "import os, sys, torch, builtins"
    with session(box) as opened:
        before = {name: shown(opened, look, line) for name, look in looks.items()}
    with session(box) as opened:
        assert raised(opened, TRACES) is None
        started = below(box._bwrap.pid)
    assert len(started) >= 6, "the notebook has started processes that outlive it"
    assert gone(started - idle(box)) == set()
    with session(box) as opened:
        assert {name: shown(opened, look, line) for name, look in looks.items()} == before
    assert before["files"] == ["work"]


def test_it_gets_probe_and_inputs_and_gives_an_observation(box):
    import torch

    with session(box) as opened:
        opened.run("def f(x): return 2 * x")
        seen = opened.look("f", outputs, {"x": torch.ones(3)})
    assert seen.value.data.tolist() == [2.0, 2.0, 2.0]


# --- how it ends ------------------------------------------------------------------------------------------------------------

ENDINGS = [
    ("import os; os._exit(0)", "with exit status 0"),
    ("import os; os._exit(120)", "with exit status 120"),
    ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ("import os; os.abort()", "SIGABRT"),
]


@pytest.mark.parametrize(("code", "why"), ENDINGS)
def test_a_notebook_that_ends_its_process(box, code, why):
    with session(box) as opened, pytest.raises(Stopped, match=why) as stopped:
        opened.run(code)
    assert (stopped.value.verdict, stopped.value.alive) == ("crash", False)


def test_a_notebook_that_stops_itself(box):
    with session(box, cell=0.5) as opened, pytest.raises(Stopped) as stopped:
        opened.run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    assert (stopped.value.verdict, stopped.value.alive) == ("timeout", False)


def test_a_warm_process_that_dies_is_replaced(box):
    with session(box) as opened:
        everybody = below(box._bwrap.pid) | {box._bwrap.pid}
        os.kill(warm_of(box), signal.SIGKILL)
        with pytest.raises(Lost):
            opened.run("while True: pass")
    assert gone(everybody) == set()
    with session(box) as opened:
        assert shown(opened, "1 + 1") == 2


def test_bubblewrap_itself_may_be_killed(box):
    """The notebook goes on; the next one gets a new sandbox, and the old one ends then."""
    with session(box) as opened:
        everybody = below(box._bwrap.pid)
        os.kill(box._bwrap.pid, signal.SIGKILL)
        box._bwrap.wait()
        assert shown(opened, "1 + 1") == 2
    with session(box) as opened:
        assert shown(opened, "1 + 1") == 2
        assert gone(everybody) == set()


def test_a_warm_process_that_dies_before_it_reads_is_replaced(box):
    """The connection is then reset, not only closed."""
    with session(box) as opened:
        warm = warm_of(box)
        everybody = {warm} | below(warm)
        os.kill(warm, signal.SIGSTOP)
        box.tell("interrupt")
        os.kill(warm, signal.SIGKILL)
        assert gone(everybody) == set()
        with pytest.raises(Lost):
            opened.run("1")
    with session(box) as opened:
        assert shown(opened, "1 + 1") == 2


def test_the_end_of_a_warm_process_is_no_students_fault(box):
    with session(box) as opened:
        os.kill(warm_of(box), signal.SIGKILL)
        with pytest.raises(Lost, match="not your fault"):
            opened.run("import time\ntime.sleep(30)")


@pytest.mark.parametrize(("often", "verdict"), [(1, "ok"), (9, "grader-error")])
def test_a_sandbox_that_is_stopped_from_outside_takes_nobodys_points(box, monkeypatch, often, verdict):
    """It is started again; where that does not help, the verdict is our own failure."""
    lost, run = [], Session.run

    def sometimes(opened, source):
        if source == ANSWER and len(lost) < often:
            lost.append(source)
            warm = warm_of(box)
            everybody = {warm} | below(warm)
            os.kill(warm, signal.SIGKILL)
            assert gone(everybody) == set()
        return run(opened, source)

    monkeypatch.setattr(Session, "run", sometimes)
    answer = Step(0, ANSWER, "rnn_step", False)
    steps = (answer, Step(1, "", "rnn_step", True))
    found = grade_submission(Submission("rnn/01_vanilla_rnn", {}, steps), Path(), start=box.start)
    assert found.exercises["rnn_step"].verdict == verdict, found.exercises["rnn_step"].first
    assert len(lost) == min(often, MOST_LOST)


GRADER = """
import sys, time
from pathlib import Path
from autograde.classroom.sandbox import Sandbox
from autograde.session import Session
box = Sandbox()
with Session(Path(), "rnn", start=box.start) as session:
    session.run("import os\\nif os.fork() == 0:\\n    os.setsid()\\n    while True: pass")
    print(box._bwrap.pid, flush=True)
    session.run("while True: pass")
"""


@pytest.mark.slow
def test_a_killed_grader_leaves_no_process_behind():
    grader = subprocess.Popen([sys.executable, "-c", GRADER], stdout=subprocess.PIPE, text=True)
    bwrap = int(grader.stdout.readline())
    deadline = time.monotonic() + 10
    while len(below(bwrap)) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    everybody = {bwrap} | below(bwrap)
    assert len(everybody) >= 6
    grader.kill()
    grader.wait()
    grader.stdout.close()
    assert gone(everybody) == set()


# --- where there is none ------------------------------------------------------------------------------------------------------


def test_why_not_without_bubblewrap(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "bubblewrap is not installed" in module.why_not.__wrapped__()
    assert "apt-get install bubblewrap" in module.why_not.__wrapped__()


def test_why_not_where_bubblewrap_fails(monkeypatch, tmp_path):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert module.why_not.__wrapped__() == (
        "bubblewrap cannot make a sandbox here: bwrap: setting up uid map: Permission denied"
    )


def test_why_not_on_another_system(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module.sys, "platform", "darwin")
        reason = module.why_not.__wrapped__()
    assert reason == "the sandbox needs Linux with bubblewrap, and this is darwin"


def test_why_not_on_another_processor(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(confine, "ARCHITECTURES", {})
        assert "does not know this kind of processor" in module.why_not.__wrapped__()


def test_without_one_there_is_none(monkeypatch):
    monkeypatch.setattr(module, "why_not", lambda: "it is missing")
    with pytest.raises(NoSandbox, match="it is missing"):
        Sandbox()


def test_a_warm_process_that_does_not_start_says_why(monkeypatch):
    made = Sandbox()
    monkeypatch.setattr(module, "bubblewrap", lambda passwd: ["sh", "-c", "echo no room >&2; exit 1"])
    with pytest.raises(NoSandbox, match="the warm process does not start: no room"):
        made.start()


# --- every lesson -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved():
    """The notebooks with their solutions, by lesson."""
    yield build(ROOT).sources
    close_sandboxes()


@pytest.mark.parametrize("lesson", lesson_ids(ROOT / "lessons", "*.ipynb"))
def test_a_solved_lesson_gets_full_marks(solved, lesson):
    """So every probe can be sent, and every input; and nothing that a lesson imports is missing."""
    topic, name = lesson.split("/")
    asked = lesson_info(lesson, read_lesson(ROOT, lesson)).exercises
    job = Job(
        1, topic, {name: solved[f"{lesson}.ipynb"].encode()}, {}, {name: dict(asked)}, b"key", Settings()
    )
    record = grade_job(job).records[name]
    wrong = {n: e["message"] for n, e in record["exercises"].items() if e["verdict"] != "ok"}
    assert wrong == {}
    assert record["score"] == record["max_score"] == sum(asked.values())
    assert set(record["exercises"]) == set(asked)
    assert record["notes"] == []


def test_what_a_series_imports_is_ready():
    found = imports("rnn")
    assert {"torch", "numpy", "matplotlib.pyplot", "utils"} <= set(found)
    assert not [name for name in found if name.startswith("autograde")]
