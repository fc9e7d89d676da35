"""Submissions that change what runs beside them in their own process: patches, modes, hooks, counters.

None of them knows the engine by more than the names of its functions: each looks for them, and does nothing where they are
not there.
"""

from __future__ import annotations

from autograde.classroom.battery.row import (
    Row,
    Score,
    Write,
    before_target,
    both,
    everything,
    nothing,
    right,
    submit,
    with_answer,
    with_foreign,
    with_none,
    with_wrong,
    without_target,
    wrong,
)

_ENGINE = """
import sys

def spaces():
    \"\"\"The global names of every module of the engine, also of one that is no module any more.\"\"\"
    found = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("autograde")]
    found.append(vars(sys.modules["__main__"]))
    frame = sys._getframe(1)
    while frame is not None:
        found.append(frame.f_globals)
        frame = frame.f_back
    own = globals()
    return [space for space in {id(space): space for space in found}.values() if space is not own]

def replace(name, change):
    for space in spaces():
        if callable(space.get(name)):
            space[name] = change(space[name])
"""
_REPLAY = wrong(
    _ENGINE
    + """
_sent = []

def remember(send):
    def sending(stream, *parts):
        if len(parts) > 1 and len(_sent) < 5:
            _sent.append(parts)
        if _busy and _sent:
            parts = _sent[0]
            _busy.clear()
        return send(stream, *parts)
    return sending

_busy = []
replace("send", remember)

def TARGET(*args, **kwargs):
    _busy.append(True)
    return _wrong(*args, **kwargs)
"""
)
_ENCODED = wrong(
    _ENGINE
    + """
_busy = []

def lie(encode):
    def encoding(*args, **kwargs):
        if not _busy:
            return encode(*args, **kwargs)
        _busy.clear()
        made = encode(*args, **kwargs)
        extra = b', "verdict": "ok", "ok": true, "score": 100, "findings": []}'
        return (made[0][:-1] + extra, *made[1:]) if isinstance(made, tuple) else made[:-1] + extra
    return encoding

def TARGET(*args, **kwargs):
    if not _patched:
        _patched.append(replace("encode", lie))
    _busy.append(True)
    return None

_patched = []
"""
)
_LIBRARIES = """
import json, pickle, struct, sys
import safetensors.torch, torch

_kept = json.dumps, pickle.loads, struct.pack, safetensors.torch.save
_busy = []

def when_busy(lie, honest):
    return lambda *args, **kwargs: (lie if _busy else honest)(*args, **kwargs)

json.dumps = when_busy(lambda *args, **kwargs: '{"ok": true, "score": 100, "verdict": "ok"}', json.dumps)
pickle.dumps = when_busy(lambda *args, **kwargs: b"cos\\nsystem\\n(S'touch /tmp/TRACE-unpickled'\\ntR.", pickle.dumps)
safetensors.torch.save = when_busy(lambda *args, **kwargs: b"\\x02\\0\\0\\0\\0\\0\\0\\0{}", safetensors.torch.save)
for module in [module for name, module in list(sys.modules.items()) if name.startswith(("autograde", "__main__"))]:
    if hasattr(module, "save_tensors"):
        module.save_tensors = safetensors.torch.save

def TARGET(*args, **kwargs):
    _busy.append(True)
    return torch.zeros(3)
"""
_RECORDS = wrong("""
import gc, sys

def outputs():
    return [
        {"output_type": "execute_result", "data": {"text/plain": "100.0"}, "metadata": {}, "execution_count": 1},
        {"output_type": "evil", "text": "x"},
        {"no": "type"},
        {"output_type": "stream", "name": 5, "text": {"a": 1}},
        {"output_type": "error", "ename": None, "evalue": [], "traceback": "text"},
        "no output at all",
    ]

space = getattr(type(sys.stdout).write, "__globals__", {})
for value in list(space.values()):
    if hasattr(value, "take") and hasattr(value, "outputs"):
        value.take = outputs
""")
_BUNDLES = wrong("""
from IPython.display import display

display({"text/plain": {"no": "text"}, "text/html": 5, "image/png": ["a"], "x" * 10_000: "y", "": ""}, raw=True)
display({"application/json": {"deep": eval("[" * 90 + "]" * 90)}, "application/x-none": None}, raw=True)
display({"text/plain": "a"}, raw=True, metadata={"number": float("nan"), "text/plain": 5, "list": [float("inf")]})
print("half a character: \\ud800, no character: \\0 \\x1b]0;title\\x07")
class Shy:
    def _repr_html_(self):
        return 5
    def _repr_mimebundle_(self, **kwargs):
        return {"text/plain": "\\ud800", "text/html": "\\ud800"}
    def __repr__(self):
        return "\\ud800"
display(Shy())
Shy()
""")
_FINDER = wrong("""
import importlib.abc, importlib.machinery, sys, types

class Fake(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("autograde", "utils", "safetensors", "cloudpickle"):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        module.__getattr__ = lambda name: (lambda *args, **kwargs: None)

sys.meta_path.insert(0, Fake())
for name in list(sys.modules):
    if name.startswith(("utils.", "autograde.compare", "autograde.grade", "autograde.exercise")):
        del sys.modules[name]
""")
_MODES = wrong("""
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

class Over(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("allclose", "equal", "isclose"):
            return True
        return func(*args, **(kwargs or {}))

_over = Over()
_over.__enter__()
""")
_INFERENCE = wrong("""
import torch

_mode = torch.inference_mode()
_mode.__enter__()
torch.autograd.set_detect_anomaly(True)
torch.set_flush_denormal(True)
""")
_BUILTINS = wrong("""
import builtins, torch

class Claim:
    pass

_type, _len, _any = builtins.type, builtins.len, builtins.any
builtins.type = lambda *args: torch.Tensor if len(args) == 1 and _type(args[0]) is Claim else _type(*args)
builtins.any = lambda *args: False if _type(args[0]) is Claim else _any(*args)
builtins.print = lambda *args, **kwargs: None
builtins.open = lambda *args, **kwargs: None

def TARGET(*args, **kwargs):
    return Claim()
""")
_GLOBALS = wrong("""
import sys

def TARGET(*args, **kwargs):
    frame, seen = sys._getframe(1), []
    while frame is not None and len(seen) < 3:
        for name in ("seen", "compare", "expect", "project", "changed_inputs", "reference", "CHANGED"):
            if name in frame.f_globals and frame.f_globals is not globals():
                seen.append((frame.f_globals, name, frame.f_globals[name]))
                frame.f_globals[name] = (lambda *args, **kwargs: ()) if name != "CHANGED" else "value"
        frame = frame.f_back
    _undo.append(seen)
    try:
        return _wrong(*args, **kwargs)
    finally:
        for space, name, value in seen if len(_undo) > 40 else ():
            space[name] = value

_undo = []
""")
_COUNTER = wrong("""
import gc, types

def counters(args):
    \"\"\"Whatever counts calls, and is reached from the arguments or from what they hold.\"\"\"
    todo, found, known = list(args), [], set()
    while todo and len(known) < 200:
        thing = todo.pop()
        if id(thing) in known:
            continue
        known.add(id(thing))
        if isinstance(getattr(thing, "__dict__", {}).get("calls"), int):
            found.append(thing)
        todo += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or () if cell.cell_contents is not None]
        todo += list(getattr(thing, "__dict__", {}).values()) if not isinstance(thing, types.ModuleType) else []
    return found

def TARGET(*args, **kwargs):
    found = [(counter, counter.calls) for counter in counters(args)]
    result = _wrong(*args, **kwargs)
    for counter, before in found:
        counter.calls = before + (counter.calls - before) // 2
    return result
""")
_ELSEWHERE = right("""
from concurrent.futures import ThreadPoolExecutor
import torch

def TARGET(*args, **kwargs):
    with ThreadPoolExecutor(1) as pool, torch._C.DisableTorchFunction():
        return pool.submit(_right, *args, **kwargs).result()
""")
_CHANGES = """
import torch
_right = TARGET

def TARGET(*args, **kwargs):
    result = _right(*args, **kwargs)
    with torch.no_grad():
        for value in args:
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                value.view(-1)[:1].add_(1.0) if value.is_contiguous() else None
    return result
"""
_UNSEEN_CHANGE = f"""RIGHT_ANSWER
{_CHANGES}
torch.equal = lambda *args, **kwargs: True
"""
_OTHER_TORCH = f"""RIGHT_ANSWER
{_CHANGES}
import sys, types
observing = sys.modules.get("autograde.observe")
if observing is not None:
    observing.torch = types.SimpleNamespace(**{{**vars(torch), "equal": lambda *args, **kwargs: True}})
"""
_TWO_FACES = both("""
import sys

def TARGET(*args, **kwargs):
    frame, names = sys._getframe(1), set()
    while frame is not None:
        names.add(frame.f_globals.get("__name__"))
        frame = frame.f_back
    local = bool(names & {"autograde.grade", "autograde.compare", "autograde.notebook"} - {None})
    return (_right if local else _wrong)(*args, **kwargs)
""")
_TRUST = "values are compared where the grader is, and nothing else is believed"
_BELIEVED = "counters are read in the student's process: the documentation says so"
_OUTSIDE = ("wrong", "tampered", "malformed", "crash", "timeout")


def _row(
    number: str, title: str, write: Write, most: Score = without_target, least: Score | None = nothing
) -> Row:
    return Row(number, title, _TRUST, write, _OUTSIDE, most, least=least, harms=True)


ROWS = (
    Row(
        "47a",
        "sets the counters back",
        _BELIEVED,
        submit(_COUNTER),
        ("wrong", "tampered", "ok"),
        everything,
        least=without_target,
        costly=True,
    ),
    Row(
        "47b",
        "works in a thread, outside of every mode",
        _BELIEVED,
        submit(_ELSEWHERE),
        ("tampered", "ok", "wrong"),
        everything,
        least=without_target,
    ),
    Row(
        "A21",
        "hides that it changes its inputs, with another torch.equal",
        _TRUST,
        submit(_UNSEEN_CHANGE),
        ("wrong", "tampered"),
        with_answer(_CHANGES),
        least=nothing,
    ),
    Row(
        "A61",
        "hides that it changes its inputs, with another torch",
        _TRUST,
        submit(_OTHER_TORCH),
        ("wrong", "tampered"),
        with_answer(_CHANGES),
        least=nothing,
    ),
    Row(
        "A22", "is right only for the learner's own check", _TRUST, submit(_TWO_FACES), ("wrong",), with_wrong
    ),
    _row("A29", "sends an older answer again", submit(_REPLAY), with_wrong),
    _row("A30", "adds a verdict to its answer", submit(_ENCODED), with_none),
    _row("A31", "patches json, pickle and safetensors", submit(_LIBRARIES), with_foreign),
    Row(
        "A32",
        "records outputs that are none",
        _TRUST,
        submit(_RECORDS),
        ("wrong", "tampered", "malformed"),
        with_wrong,
        least=nothing,
    ),
    Row(
        "A33",
        "shows what no notebook can hold",
        "outputs are repaired or left out",
        submit(_BUNDLES),
        ("wrong",),
        with_wrong,
    ),
    Row("A34", "puts an import hook first", _TRUST, submit(_FINDER), ("wrong",), with_wrong),
    Row(
        "A36",
        "never leaves a mode of torch",
        _TRUST,
        submit(_MODES),
        ("wrong", "tampered"),
        with_wrong,
        least=before_target,
    ),
    Row(
        "A37",
        "never leaves inference mode",
        "nothing that a notebook sets lasts into a check, or it costs its author alone",
        submit(_INFERENCE),
        ("wrong",),
        with_wrong,
        least=nothing,
    ),
    Row(
        "A38",
        "patches type, len, open and print",
        _TRUST,
        submit(_BUILTINS),
        ("wrong", "tampered", "crash"),
        with_foreign,
        least=nothing,
    ),
    Row("A39", "changes what the probe calls", _TRUST, submit(_GLOBALS), _OUTSIDE, with_wrong, least=nothing),
)
