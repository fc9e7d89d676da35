"""Learning alone: fill the working folder with lessons and open JupyterLab on the course map.

JupyterLab runs with a configuration folder of its own, ``work/.rederive/jupyter``. It neither reads nor writes the
user's own settings, asks nothing at the start, and needs no network.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from datetime import datetime
from pathlib import Path

from autograde.lessons import read_lesson, working_copy

HOST = "127.0.0.1"
DEFAULT_PORT = 8888
PORTS_TRIED = 50
SET_ASIDE = "set-aside"
"""The folder in the learner's folder for copies that were replaced."""
START_PAGE = "/lab/tree/start.ipynb"

SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"renameUntitledFileOnSave": False},
    "@jupyterlab/notebook-extension:tracker": {"autoStartDefaultKernel": True},
}
FOR_INSTRUCTORS = (
    "@jupyter/nbgrader:assignment-list",
    "@jupyter/nbgrader:course-list",
    "@jupyter/nbgrader:create-assignment",
    "@jupyter/nbgrader:menu",
)
"""Parts of nbgrader's interface that a learner has no use for; its Validate button stays."""


class PortError(Exception):
    """No port to listen on; the message is a sentence for the user."""


def prepare(root: Path, work: Path) -> list[Path]:
    """Copy every lesson that ``work`` does not have yet from ``root/lessons``, to the same relative path.

    What exists in ``work`` is never changed, whatever it is. Each copy appears complete or not at all.

    Args:
        root: the course's folder.
        work: the learner's folder; made if it is missing.

    Returns:
        The new files, sorted.

    Raises:
        FileExistsError: where a folder is needed, ``work`` holds a file of that name.
    """
    lessons = root / "lessons"
    work.mkdir(parents=True, exist_ok=True)
    copied = []
    for lesson in sorted(lessons.rglob("*.ipynb")):
        relative = lesson.relative_to(lessons)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and lesson.is_file() and _copy_new(lesson, work / relative):
            copied.append(work / relative)
    return copied


def reset(root: Path, work: Path, lesson: str, now: datetime) -> Path | None:
    """Set the learner's copy of a lesson aside and take the released one. Progress stays.

    Args:
        root: the course's folder.
        work: the learner's folder.
        lesson: such as ``rnn/01_vanilla_rnn``.
        now: becomes part of the name of the copy that is set aside.

    Returns:
        Where the old copy is now, or None if there was none.

    Raises:
        CourseError: there is no such lesson.
        OSError: the folder cannot be written to; nothing is lost then.
    """
    read_lesson(root, lesson)
    released, copy = root / "lessons" / f"{lesson}.ipynb", work / f"{lesson}.ipynb"
    aside = None
    if os.path.lexists(copy):
        folder = work / SET_ASIDE / Path(lesson).parent
        folder.mkdir(parents=True, exist_ok=True)
        aside = _unused(folder / f"{copy.stem} {now:%Y-%m-%d %H.%M}.ipynb")
        copy.rename(aside)
    try:
        _copy_new(released, copy)
    except BaseException:
        if aside is not None and not os.path.lexists(copy):
            aside.rename(copy)
        raise
    return aside


def _unused(path: Path) -> Path:
    """This path, or the first of "name (2)", "name (3)" that does not exist."""
    numbered = (path.with_name(f"{path.stem} ({n}){path.suffix}") for n in itertools.count(2))
    return next(one for one in itertools.chain([path], numbered) if not os.path.lexists(one))


def launch(root: Path, work: Path, port: int | None, browser: bool) -> int:
    """Run JupyterLab in ``work``, open on the course map, until it is stopped.

    Args:
        root: the course's folder.
        work: the learner's folder, JupyterLab's root; made if it is missing.
        port: the port to listen on, or None for 8888 or the next free one.
        browser: whether to open a browser; with ``BROWSER=none`` in the environment none is opened either.

    Returns:
        JupyterLab's exit status, or 1 when there is no port to listen on; the reason has then been printed.
    """
    from autograde.coursemap import refresh

    try:
        chosen = _choose_port(port)
    except PortError as error:
        print(error, file=sys.stderr)
        return 1
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    refresh(root, work)
    environment = _environment(_write_configuration(work))
    browser = browser and os.environ.get("BROWSER") != "none"
    print(f"JupyterLab starts at http://{HOST}:{chosen}. Stop it with Ctrl-C; your notebooks are in {work}.")
    if browser:
        print("If no browser window opens, open the address with 'token=' that is printed below.")
    sys.stdout.flush()
    return _run(_command(work, chosen, browser), environment)


def _copy_new(source: Path, target: Path) -> bool:
    """Copy ``source`` to ``target`` unless something is there; return whether it was copied."""
    if os.path.lexists(target):
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = (
            f"A folder is needed at {target.parent}, but a file is in its place: rename or move that file."
        )
        raise FileExistsError(message) from error
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        partial.write_text(working_copy(source.read_text(encoding="utf-8")), encoding="utf-8")
        return _move_new(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _move_new(partial: Path, target: Path) -> bool:
    """Give ``partial`` the name ``target`` unless that name is taken; return whether it was given."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:
        # This file system has no hard links, so between the two calls somebody else could take the name.
        if os.path.lexists(target):
            return False
        partial.rename(target)
    return True


def _choose_port(wanted: int | None) -> int:
    if wanted is None:
        for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
            if _is_free(port):
                if port != DEFAULT_PORT:
                    print(
                        f"Port {DEFAULT_PORT} is taken (is JupyterLab running already?), so this one uses {port}."
                    )
                return port
        raise PortError(
            f"Ports {DEFAULT_PORT} to {DEFAULT_PORT + PORTS_TRIED - 1} are all taken: name a free one with PORT=..."
        )
    if not 0 < wanted < 65536:
        raise PortError(f"There is no port {wanted}: choose one between 1024 and 65535.")
    if not _is_free(wanted):
        raise PortError(
            f"Port {wanted} is taken or not allowed: choose another, or none to take the next free one."
        )
    return wanted


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # as the server does; elsewhere the option would allow to share a taken port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _write_configuration(work: Path) -> Path:
    """Write JupyterLab's settings for the course and return the configuration folder."""
    folder = work / ".rederive" / "jupyter"
    settings = folder / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS, indent=2) + "\n", encoding="utf-8")
    disabled = json.dumps({"disabledExtensions": dict.fromkeys(FOR_INSTRUCTORS, True)}, indent=2)
    (settings.parent / "page_config.json").write_text(disabled + "\n", encoding="utf-8")
    (folder / "nbgrader_config.py").write_text(
        "# Without this file nbgrader warns at every start.\n", encoding="utf-8"
    )
    return folder


def _environment(configuration: Path) -> dict[str, str]:
    """The environment in which JupyterLab sees only the course's settings and this interpreter's kernel."""
    environment = {name: value for name, value in os.environ.items() if name != "JUPYTERLAB_DIR"}
    data = str(Path(sys.prefix) / "share" / "jupyter")
    scripts = str(Path(sys.executable).parent)
    for name, folder in (("JUPYTER_PATH", data), ("PATH", scripts)):
        environment[name] = os.pathsep.join(filter(None, (folder, environment.get(name))))
    environment["JUPYTER_CONFIG_DIR"] = str(configuration)
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(configuration / "lab" / "user-settings")
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(configuration / "lab" / "workspaces")
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"
    return environment


def _command(work: Path, port: int, browser: bool) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={work}",
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.open_browser={browser}",
        "--ServerApp.answer_yes=True",
        f"--LabApp.default_url={START_PAGE}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
        "--LanguageServerManager.autodetect=False",
        "--KernelSpecManager.allowed_kernelspecs=python3",
        "--ServerApp.websocket_ping_interval=90000",  # its default contradicts the default of the time-out
        "--Application.log_level=WARN",
    ]
    if os.name == "posix" and os.geteuid() == 0:
        command.append("--allow-root")  # a container's only user; without it JupyterLab refuses to start
    return command


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run ``command`` to its end. Ctrl-C reaches it by itself; a request to terminate is passed on."""
    process = subprocess.Popen(command, env=environment)
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, previous)
