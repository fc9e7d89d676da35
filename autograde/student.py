"""The process in which a submitted notebook runs; ``autograde.session`` is its other end, over two pipes.

It runs cells when it is told to, and shows what a probe observes. It knows no reference, no case and no verdict; it has
no Jupyter kernel and so no connection file that could be forged. ``main`` serves one notebook and ends; ``autograde.warm``
prepares the same once and serves each notebook in a child of its own.
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

from autograde import handover
from autograde.frames import Broken, receive, send
from autograde.integrity import Alone, Seal, listen
from autograde.modes import entered, no_modes
from autograde.observe import Observation, Raised, describe_exception, observe
from autograde.wire import encode

MAX_OUTPUT = 1_000_000
"""Characters of text that a cell may print; whoever prints more is stopped."""
MAX_DATA = 20 * MAX_OUTPUT
"""The same for everything that a cell shows, pictures too."""


class OutputLimit(BaseException):
    """Stops code that prints without end."""


class Recorder:
    """The outputs of the cell that runs, in notebook format."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.flooded = ""
        self._text = self._data = 0

    def text(self, name: str, text: str) -> None:
        """Something was printed.

        Raises:
            OutputLimit: it was too much.
        """
        room = MAX_OUTPUT - self._text
        self._text += len(text)
        kept = text[: max(room, 0)]
        last = self.outputs[-1] if self.outputs else {}
        if kept and last.get("output_type") == "stream" and last["name"] == name:
            last["text"].append(kept)
        elif kept:
            self.outputs.append({"output_type": "stream", "name": name, "text": [kept]})
        if room < len(text):
            self._flood(f"It printed more than {MAX_OUTPUT:,} characters and was stopped.")

    def data(self, kind: str, data: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        """Something was displayed, or is the value of the cell.

        Raises:
            OutputLimit: it was too much.
        """
        plain = {key: value for key, value in data.items() if isinstance(value, (str, dict, list))}
        entry: dict[str, Any] = {"output_type": kind, "data": plain, "metadata": metadata or {}}
        if kind == "execute_result":
            entry["execution_count"] = None
        text = json.dumps(entry, default=str)
        self._data += len(text)
        if self._data > MAX_DATA:
            self._flood(f"It displayed more than {MAX_DATA:,} characters and was stopped.")
        self.outputs.append(json.loads(text))

    def _flood(self, why: str) -> None:
        self.flooded = why
        raise OutputLimit(why)

    def take(self) -> tuple[list[dict[str, Any]], str]:
        """The outputs so far, and why they were cut off, if they were; starts again."""
        taken, flooded = self.outputs, self.flooded
        self.__init__()  # type: ignore[misc]
        for output in taken:
            if output["output_type"] == "stream":
                output["text"] = "".join(output["text"])
        return taken, flooded


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

    display_pub_class = Publisher
    displayhook_class = Hook

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
    return Shell.instance(config=config)


def run_cell(shell: Shell, source: str) -> dict[str, Any]:
    """Run one cell; what it showed, and what stopped it."""
    result = shell.run_cell(source, store_history=False)  # type: ignore[no-untyped-call]
    error = result.error_before_exec or result.error_in_exec
    raised = None if error is None else describe_exception(error)
    outputs, flooded = RECORDER.take()
    return {
        "outputs": outputs,
        "raised": None
        if raised is None
        else [raised.kind, raised.message, list(raised.frames), raised.not_written],
        "state": {"flooded": flooded},
    }


def look(shell: Shell, command: dict[str, Any], probe: bytes, inputs: bytes) -> Observation:
    """What a probe observes of the function that a command names."""
    function = shell.user_ns[command["name"]]
    try:
        return observe(pickle.loads(probe), function, pickle.loads(inputs), tuple(command["watch"]))
    except KeyboardInterrupt:
        return Observation(raised=Raised("KeyboardInterrupt", "stopped at its time limit"))


def looked_at(
    shell: Shell, command: dict[str, Any], payload: list[bytes], seal: Seal
) -> tuple[bytes, bytes, bytes]:
    """The reply to a look: the observation in two parts, and what else there is to say."""
    tampered = seal.broken()
    with no_modes(), Alone(command.get("alone", False)) as alone:
        text, tensors = encode(look(shell, command, *payload))
        tampered = tampered or seal.broken() or entered() or alone.left
    outputs, flooded = RECORDER.take()
    state = {"flooded": flooded, "tampered": tampered}
    return text, tensors, json.dumps({"outputs": outputs, "state": state}, default=str).encode()


def serve(shell: Shell, seal: Seal, commands: BinaryIO, replies: BinaryIO) -> None:
    """Answer commands until the other side closes."""
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
            handover.GIVEN[command["name"]] = pickle.loads(payload[0])
            send(replies, b"{}")
        elif command["do"] == "put":
            os.makedirs(os.path.dirname(command["name"]) or ".", exist_ok=True)
            with open(command["name"], "wb") as file:
                file.write(payload[0])
            send(replies, b"{}")
        else:
            send(replies, *looked_at(shell, command, payload, seal))


def prepare() -> tuple[Shell, Seal]:
    """Everything that is the same for every notebook."""
    handover.ACTIVE = True
    listen()
    sys.meta_path.insert(0, NoAnswers())
    shell = make_shell()
    sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
    return shell, Seal(sys.modules[__name__])


def main() -> None:
    """Take over the two pipes and serve."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    read, write = int(sys.argv[1]), int(sys.argv[2])
    shell, seal = prepare()
    sys.path.append(os.getcwd())  # last: a torch.py beside the notebook is not the torch that is imported
    sys.argv[1:] = []
    with os.fdopen(read, "rb") as commands, os.fdopen(write, "wb") as replies:
        serve(shell, seal, commands, replies)


if __name__ == "__main__":
    main()
