"""The process in which a submitted notebook runs; ``autograde.session`` starts it, with two pipes.

It runs cells when it is told to, and shows what a probe observes. It knows no reference, no case and no verdict; it has
no Jupyter kernel and so no connection file that could be forged.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import pickle
import signal
import sys
from typing import Any, BinaryIO

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import autograde.earlier
import autograde.notebook
from autograde.frames import Broken, receive, send
from autograde.observe import Observation, Raised, describe_exception, observe
from autograde.wire import encode

MAX_OUTPUT = 1_000_000
"""Characters of text output that a cell may leave; the rest is cut."""


class Recorder:
    """The outputs of the cell that runs, in notebook format."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self._size = 0

    def text(self, name: str, text: str) -> None:
        """Something was printed."""
        room = MAX_OUTPUT - self._size
        self._size += len(text)
        text = text[: max(room, 0)]
        if not text:
            return
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"] += text
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": text})

    def data(self, kind: str, data: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        """Something was displayed, or is the value of the cell."""
        plain = {key: value for key, value in data.items() if isinstance(value, (str, dict, list))}
        size = len(json.dumps(plain, default=str))
        self._size += size
        if self._size > 20 * MAX_OUTPUT:
            return
        entry: dict[str, Any] = {"output_type": kind, "data": plain, "metadata": metadata or {}}
        if kind == "execute_result":
            entry["execution_count"] = None
        self.outputs.append(json.loads(json.dumps(entry, default=str)))

    def take(self) -> list[dict[str, Any]]:
        """The outputs so far; starts again."""
        taken, self.outputs, self._size = self.outputs, [], 0
        return taken


RECORDER = Recorder()


class Stream:
    """Stands in for stdout or stderr."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, text: str) -> int:
        RECORDER.text(self.name, str(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError("this stream has no file descriptor")


class Publisher(DisplayPublisher):
    """Records what is displayed."""

    def publish(self, data: Any, metadata: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        RECORDER.data("display_data", data, metadata)

    def clear_output(self, wait: bool = False) -> None:
        RECORDER.outputs.clear()


class Hook(DisplayHook):
    """Records the value of a cell."""

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        RECORDER.data("execute_result", format_dict, md_dict)

    def finish_displayhook(self) -> None:
        self._is_active = False


class Shell(InteractiveShell):
    """IPython without a kernel."""

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        name = getattr(etype, "__name__", str(etype))
        RECORDER.outputs.append(
            {
                "output_type": "error",
                "ename": name,
                "evalue": str(evalue)[:2000],
                "traceback": [str(s) for s in stb][:60],
            }
        )

    def enable_gui(self, gui: Any = None) -> None:
        pass


class NoAnswers(importlib.abc.MetaPathFinder):
    """Refuses to import references and exercises: a notebook that returns the reference's result has written nothing.

    This keeps an honest mistake from counting. It is no sandbox; whoever wants to get around it, can.
    """

    CLOSED = ("utils.reference", "autograde.exercises")

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname.startswith(self.CLOSED):
            raise ImportError(
                f"{fullname} cannot be imported by a notebook that is graded. Write the function yourself."
            )


def make_shell() -> Shell:
    """A shell without history and colours, whose outputs are recorded."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.display_pub_class = Publisher
    config.InteractiveShell.displayhook_class = Hook
    return Shell.instance(config=config)


def run_cell(shell: Shell, source: str) -> dict[str, Any]:
    """Run one cell; what it showed, and what stopped it."""
    result = shell.run_cell(source, store_history=False)  # type: ignore[no-untyped-call]
    error = result.error_before_exec or result.error_in_exec
    raised = None if error is None else describe_exception(error)
    return {
        "outputs": RECORDER.take(),
        "raised": None
        if raised is None
        else [raised.kind, raised.message, list(raised.frames), raised.not_written],
    }


def look(shell: Shell, name: str, payload: bytes) -> Observation:
    """What a probe observes of the function ``name`` of the notebook."""
    probe, inputs, watch = pickle.loads(payload)
    try:
        return observe(probe, shell.user_ns[name], inputs, watch)
    except KeyboardInterrupt:
        return Observation(raised=Raised("KeyboardInterrupt", "stopped at its time limit"))


def serve(commands: BinaryIO, replies: BinaryIO) -> None:
    """Answer commands until the other side closes."""
    shell = make_shell()
    while True:
        try:
            header, *payload = receive(commands)
        except KeyboardInterrupt:
            continue  # it came after the work had ended
        except Broken:
            return
        command = json.loads(header)
        if command["do"] == "run":
            send(replies, json.dumps(run_cell(shell, command["source"]), default=str).encode())
        elif command["do"] == "has":
            send(replies, json.dumps({"has": command["name"] in shell.user_ns}).encode())
        elif command["do"] == "give":
            autograde.earlier.HANDED_IN[command["name"]] = pickle.loads(payload[0])
            send(replies, b"{}")
        else:
            text, tensors = encode(look(shell, command["name"], payload[0]))
            send(replies, text, tensors, json.dumps(RECORDER.take(), default=str).encode())


def main() -> None:
    """Take over the two pipes and serve."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    read, write = int(sys.argv[1]), int(sys.argv[2])
    autograde.notebook.HANDED_OVER = True
    sys.meta_path.insert(0, NoAnswers())
    sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
    sys.path.append(os.getcwd())  # last: a torch.py beside the notebook is not the torch that is imported
    sys.argv[1:] = []
    with os.fdopen(read, "rb") as commands, os.fdopen(write, "wb") as replies:
        serve(commands, replies)


if __name__ == "__main__":
    main()
