"""`autograde` and `nbgrader` for a shell script, without the seconds that each takes to import torch and nbgrader.

A process imports everything once and forks a child for each command; the child has the caller's arguments, folder and
output. Run as a program it is the caller: `warm.py SOCKET autograde new-class ...`.
"""

import json
import os
import socket
import sys
from pathlib import Path

FUNCTIONS = """
autograde() {{ {python} -I -S {program} {address} autograde "$@"; }}
nbgrader() {{ {python} -I -S {program} {address} nbgrader "$@"; }}
"""


def functions(address):
    """The two commands as functions of a shell."""
    return FUNCTIONS.format(python=sys.executable, program=Path(__file__).resolve(), address=address)


def call(address, arguments):
    """Have a command run; its exit status."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        request = json.dumps({"arguments": arguments, "folder": os.getcwd()}).encode()
        socket.send_fds(line, [request], [0, 1, 2])
        return int(line.makefile().read())


def serve(address):
    """Import, then answer one call after the other until the process is ended."""
    import torch  # noqa: F401

    import autograde.classroom.gradesheets
    import autograde.classroom.preprocessors
    import autograde.classroom.regrade
    import autograde.classroom.roster
    import autograde.cli  # noqa: F401

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            line, _ = listener.accept()
            with line:
                request, streams, _, _ = socket.recv_fds(line, 1 << 16, 3)
                child = os.fork()
                if child == 0:
                    run(json.loads(request), streams)
                for stream in streams:
                    os.close(stream)
                _, status = os.waitpid(child, 0)
                line.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def run(request, streams):
    """In the child: be the command, and end."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(request["folder"])
        sys.argv = request["arguments"]
        if sys.argv[0] == "autograde":
            from autograde.cli import main
        else:
            from nbgrader.apps.nbgraderapp import main
        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
