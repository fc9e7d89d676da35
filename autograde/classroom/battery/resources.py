"""Submissions that end, hang, or take more than they may: time, memory, processes, disk, output.

Their sizes are safe for a machine without a sandbox: memory stops at 4 GB, processes at 300 that end within seconds, files
at 500 MB; none writes outside its own folder and /tmp/rederive-battery-*.
"""

from __future__ import annotations

from autograde.classroom.battery.row import (
    Row,
    Score,
    nothing,
    submit,
    with_none,
    with_wrong,
    without_target,
    wrong,
)


def _when_called(body: str) -> str:
    """The target's function does this; what it returns is wrong."""
    lines = "\n".join(f"    {line}" if line else "" for line in body.strip().splitlines())
    return f"import os, sys, time\n\ndef TARGET(*args, **kwargs):\n{lines}\n"


_LEAVE = _when_called("os._exit(0)")
_LEAVE_EARLY = "import os\nos._exit(0)\n\ndef TARGET(*args, **kwargs):\n    return None\n"
_KILL_SELF = _when_called("import signal\nos.kill(os.getpid(), signal.SIGKILL)")
_KILL_PARENT = _when_called("""
import signal
if os.getppid() > 1:
    os.kill(os.getppid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.2)
os._exit(1)
""")
_STOP_SELF = _when_called("import signal\nos.kill(os.getpid(), signal.SIGSTOP)")
_LOOP = _when_called("while True:\n    pass")
_LOOP_IN_CELL = "while True:\n    pass\n\ndef TARGET(*args, **kwargs):\n    return None\n"
_STUBBORN = _when_called("""
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""")
_SWALLOWS = _when_called("""
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""")
_LOOP_IN_C = _when_called("import re\nreturn re.match('(a+)+b', 'a' * 60)")
_SLEEP = _when_called("time.sleep(3600)")
_MEMORY = _when_called("""
blocks = []
for _ in range(64):
    blocks.append(bytearray(b"x") * (64 << 20))
reached("4 GB of memory")
""")
_MEMORY_OF_TORCH = _when_called("""
import resource, torch
for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
    try:
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass
block = torch.ones(10**9)
reached("4 GB of memory in one tensor")
""")
_MEMORY_OF_CHILDREN = """
import os, time

_children = []

def TARGET(*args, **kwargs):
    for _ in range(8 if not _children else 0):
        child = os.fork()
        if child == 0:
            try:
                block = bytearray(b"x") * (500 << 20)
                time.sleep(3)
                os._exit(7 if block else 1)
            finally:
                os._exit(1)
        _children.append(child)
    alive = [os.waitpid(child, 0)[1] for child in _children if child]
    if alive and all(os.waitstatus_to_exitcode(status) == 7 for status in alive):
        reached("4 GB of memory in 8 processes")
    _children[:] = [0]
    return None
"""
_PROCESSES = """
import os, time

_children = []

def TARGET(*args, **kwargs):
    for _ in range(300 if not _children else 0):
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(4)
            os._exit(0)
        _children.append(child)
    if len(_children) == 300:
        reached("300 processes")
    _children.append(0)
    return None
"""
_THREADS = """
import threading, time

_threads = []

def TARGET(*args, **kwargs):
    for _ in range(300 if not _threads else 0):
        try:
            thread = threading.Thread(target=time.sleep, args=(4,), daemon=True)
            thread.start()
        except RuntimeError:
            break
        _threads.append(thread)
    if len(_threads) == 300:
        reached("300 threads")
    _threads.append(None)
    return None
"""
_ORPHAN = wrong("""
import ctypes, os, sys, time

if os.fork() == 0:
    try:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 1024)
            ctypes.CDLL(None).prctl(15, b"TRACE", 0, 0, 0)
            try:
                os.execv(sys.executable, ["TRACE-orphan", "-c", "import time; time.sleep(200)"])
            except OSError:
                time.sleep(200)
    finally:
        os._exit(0)
""")
_HELD_OPEN = _when_called("""
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
os._exit(0)
""")
_DISK = _when_called("""
import tempfile
block, written = b"x" * (1 << 20), 0
places = [tempfile.mkdtemp(prefix="TRACE-", dir="/tmp"), os.getcwd()]
for number in range(10):
    with open(f"{places[number % 2]}/TRACE-{number}", "wb") as file:
        for _ in range(50):
            written += file.write(block)
if written >= 500 * 2**20:
    reached("500 MB of disk")
""")
_INODES = _when_called("""
import tempfile
place, end = tempfile.mkdtemp(prefix="TRACE-", dir="/tmp"), time.monotonic() + 1
for number in range(100_000):
    open(f"{place}/{number}", "w").close()
    if time.monotonic() > end:
        break
return None
""")
_FLOOD = _when_called("for _ in range(300):\n    print('flood ' * 166_000)")
_ONE_LINE = _when_called("""
for number in (1, 2):
    try:
        os.write(number, b"raw " * 10_000)
    except OSError:
        pass
for _ in range(300):
    sys.stdout.write("x" * 1_000_000)
""")
_PICTURE = """
from IPython.display import display
display({"image/png": "A" * 100_000_000, "text/plain": "a picture"}, raw=True)

def TARGET(*args, **kwargs):
    return None
"""
_RECURSION = _when_called("""
sys.setrecursionlimit(1_000_000)
def deeper(n):
    return list(map(deeper, [n + 1])) if n < 1_000_000 else n
return deeper(0)
""")
_SEGFAULT = _when_called("import ctypes\nctypes.string_at(0)")
_ABORT = _when_called("os.abort()")
_CLOSES = _when_called("os.closerange(0, 4096)\ntime.sleep(3600)")

_FIRST = "what was graded before stays, and later exercises are graded in a new process"
_TIME = "a check has a time limit; later exercises are graded"


def _row(
    number: str,
    title: str,
    reason: str,
    answer: str,
    *verdicts: str,
    score: Score = without_target,
    harms: bool = False,
) -> Row:
    return Row(number, title, reason, submit(answer), verdicts, score, harms=harms)


ROWS = (
    _row("17a", "os._exit(0) in a function", _FIRST, _LEAVE, "crash"),
    _row("17b", "os._exit(0) in a cell", _FIRST, _LEAVE_EARLY, "crash", "wrong"),
    _row("19a", "kills itself", _FIRST, _KILL_SELF, "crash"),
    _row("19b", "kills its parent", "its parent is the sandbox's own", _KILL_PARENT, "crash", harms=True),
    _row("20a", "never ends", _TIME, _LOOP, "timeout"),
    _row("20b", "has a cell that never ends", "a cell has a time limit", _LOOP_IN_CELL, "timeout", "wrong"),
    _row("21a", "never ends, and catches every exception", "it is killed", _SWALLOWS, "timeout"),
    _row("21b", "never ends, and ignores signals", "it is killed", _STUBBORN, "timeout"),
    _row("22", "sleeps for an hour", "the limit is on the clock, not on work", _SLEEP, "timeout"),
    _row("23", "takes 4 GB of memory", "memory has a limit", _MEMORY, "oom", harms=True),
    _row(
        "24a",
        "starts 300 processes",
        "processes have a limit",
        _PROCESSES,
        "wrong",
        "crash",
        "oom",
        "timeout",
        "tampered",
        score=with_none,
        harms=True,
    ),
    _row(
        "24b",
        "starts 300 threads",
        "threads count as processes",
        _THREADS,
        "wrong",
        "crash",
        "oom",
        "timeout",
        "tampered",
        score=with_none,
        harms=True,
    ),
    _row(
        "25",
        "leaves a process behind",
        "it ends with the sandbox",
        _ORPHAN,
        "wrong",
        score=with_wrong,
        harms=True,
    ),
    _row("26a", "writes 500 MB", "files have a limit", _DISK, "wrong", "crash", "oom", harms=True),
    _row(
        "26b",
        "makes 100,000 files",
        "they are gone with the sandbox",
        _INODES,
        "wrong",
        "crash",
        "timeout",
        "oom",
        harms=True,
    ),
    _row("27a", "prints 300 MB", "output has a limit", _FLOOD, "output-limit", harms=True),
    _row("27b", "prints one line of 300 MB", "output has a limit", _ONE_LINE, "output-limit", harms=True),
    _row(
        "27c",
        "shows a picture of 100 MB",
        "output has a limit",
        _PICTURE,
        "output-limit",
        "wrong",
        harms=True,
    ),
    _row("28a", "recurses a million times", _FIRST, _RECURSION, "crash"),
    _row("28b", "reads where there is no memory", _FIRST, _SEGFAULT, "crash"),
    _row("28c", "aborts", _FIRST, _ABORT, "crash"),
    _row("A15", "never ends, inside of C code", "it is killed", _LOOP_IN_C, "timeout"),
    _row("A16", "stops itself with SIGSTOP", "it is killed", _STOP_SELF, "timeout"),
    _row("A17", "closes the line and sleeps", "a closed line is an end", _CLOSES, "crash", "timeout"),
    _row(
        "A18",
        "ends, and leaves a child that holds the line open",
        "an end is seen also so",
        _HELD_OPEN,
        "crash",
        "timeout",
        harms=True,
    ),
    _row(
        "A19",
        "raises its limits, then takes 4 GB at once",
        "limits are hard",
        _MEMORY_OF_TORCH,
        "oom",
        "wrong",
        harms=True,
    ),
    Row(
        "A20",
        "takes 4 GB of memory in 8 processes",
        "the limit is on all of them together",
        submit(_MEMORY_OF_CHILDREN),
        ("oom", "wrong", "crash", "timeout"),
        with_none,
        least=nothing,
        harms=True,
    ),
)
