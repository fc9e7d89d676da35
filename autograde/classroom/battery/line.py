"""Submissions that write to the line to the grader by hand."""

from __future__ import annotations

from autograde.classroom.battery.row import (
    Row,
    Score,
    Write,
    nothing,
    submit,
    with_wrong,
    without_target,
    wrong,
)

_LINES = """
import fcntl, os, stat, struct

def lines():
    \"\"\"Every descriptor that something may be written to and that may lead to the grader.\"\"\"
    for number in range(3, 512):
        try:
            mode, flags = os.fstat(number).st_mode, fcntl.fcntl(number, fcntl.F_GETFL)
        except OSError:
            continue
        if (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and flags & os.O_ACCMODE != os.O_RDONLY:
            yield number

def message(*parts):
    return struct.pack(">B", len(parts)) + b"".join(struct.pack(">Q", len(part)) + part for part in parts)

def send_all(data):
    for number in lines():
        try:
            os.set_blocking(number, False)
            os.write(number, data)
        except OSError:
            pass
        finally:
            os.set_blocking(number, True)

def send_whole(data):
    for number in list(lines())[:1]:
        view = memoryview(data)
        while view:
            view = view[os.write(number, view[:1 << 16]):]
"""
_FORGED = (
    _LINES
    + """
NOTHING = struct.pack("<Q", 2) + b"{}"
PASSED = b'{"value": null, "raised": null, "changed": [], "called": [], "verdict": "ok", "score": 100, "ok": true}'
"""
)
_BEFORE_ASKED = wrong(
    _FORGED
    + """
send_all(message(b'{"outputs": [], "raised": null}') + message(b'{"has": true}') + message(PASSED, NOTHING, b"[]") * 20)
"""
)
_WHEN_CALLED = (
    _FORGED
    + """
def TARGET(*args, **kwargs):
    send_all(DATA)
    return None
"""
)
_HUGE_LENGTH = _WHEN_CALLED.replace("DATA", 'b"\\x01" + b"\\xff" * 8 + b"\\x01" + struct.pack(">Q", 1 << 40)')
_HALF = _WHEN_CALLED.replace("DATA", 'struct.pack(">BQ", 3, 1000) + b"x" * 10').replace(
    "return None", "import time\n    time.sleep(3600)"
)
_JUNK = _WHEN_CALLED.replace("DATA", "os.urandom(5000)")
_PASSED = _WHEN_CALLED.replace("DATA", 'message(PASSED, NOTHING, b"[]")')
_MANY = _WHEN_CALLED.replace("send_all(DATA)", "for _ in range(3):\n        send_all(message(b'[' * 60_000))")
_STATE = 'b\'{"outputs": [], "state": {"flooded": false, "tampered": ""}}\''
_TENSORS = _WHEN_CALLED.replace(
    "send_all(DATA)",
    f"""import json
    entry = {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    header = json.dumps({{str(number): entry for number in range(500_000)}}).encode()
    send_whole(message(PASSED, struct.pack("<Q", len(header)) + header, {_STATE}))""",
)
_OUTPUTS = wrong(
    _FORGED
    + """
send_whole(message(b'{"raised": null, "state": {"flooded": false}, "outputs": [' + b"{}," * 12_000_000 + b"{}]}"))
"""
)
_AT_END = wrong(
    _FORGED
    + """
import atexit, signal, weakref

class Last:
    def __del__(self):
        send_all(message(PASSED, NOTHING, b"[]"))

_last = Last()
atexit.register(send_all, message(PASSED, NOTHING, b"[]"))
_finalizer = weakref.finalize(_last, send_all, b"x")
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, lambda *args: send_all(message(PASSED, NOTHING, b"[]")))
"""
)
_TRUST = "values are compared where the grader is, and nothing else is believed"
_OUTSIDE = ("wrong", "tampered", "malformed", "crash", "timeout")


def _row(
    number: str, title: str, write: Write, most: Score = without_target, least: Score | None = nothing
) -> Row:
    return Row(number, title, _TRUST, write, _OUTSIDE, most, least=least, harms=True)


ROWS = (
    _row("A57", "records 12 million outputs by hand", submit(_OUTPUTS), with_wrong),
    _row("A58", "answers with 500,000 tensors", submit(_TENSORS)),
    _row("A23", "answers before it is asked", submit(_BEFORE_ASKED), with_wrong),
    _row("A24", "sends a length of 2^64", submit(_HUGE_LENGTH)),
    _row("A25", "sends half an answer", submit(_HALF)),
    _row("A26", "sends random bytes", submit(_JUNK)),
    _row("A27", "sends a verdict instead of a result", submit(_PASSED)),
    _row("A28", "sends more answers than were asked for", submit(_MANY)),
    _row("A35", "answers when it ends", submit(_AT_END), with_wrong, least=with_wrong),
)
