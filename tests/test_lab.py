"""The learner's working folder and the JupyterLab that opens it."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from autograde import lab

ROOT = Path(__file__).resolve().parents[1]

LAUNCH = """\
import sys, types
from collections.abc import Iterator
from pathlib import Path

stub = types.ModuleType("autograde.coursemap")
stub.refresh = lambda root, work: print("refreshed", root.name, work.name, flush=True)
sys.modules["autograde.coursemap"] = stub

from autograde import lab

root = Path(sys.argv[1])
lab.prepare(root, root / "mine")
sys.exit(lab.launch(root, root / "mine", int(sys.argv[2]), browser=True))
"""

PROBE = """\
import json, re, socket, subprocess, sys, time, urllib.error, urllib.request

try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError as error:
    assert "unreachable" in str(error), f"the network is not cut off: {error}"
else:
    raise AssertionError("the network is not cut off")

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
port = sys.argv[2]
server = subprocess.Popen(
    [sys.executable, "launch.py", *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
try:
    output = ""
    for line in server.stdout:
        output += line
        found = re.search(r"http://127[.]0[.]0[.]1:(\\d+)/lab/tree/start[.]ipynb[?]token=(\\w+)", line)
        if found:
            break
    else:
        raise AssertionError("JupyterLab ended early: " + output)
    assert "refreshed" in output, output
    assert found[1] == port, output
    base, token = f"http://127.0.0.1:{port}", found[2]
    deadline = time.monotonic() + 60
    while True:  # the address is printed a moment before the server answers
        try:
            page = opener.open(f"{base}/lab?token={token}", timeout=30).read().decode()
            break
        except urllib.error.URLError:
            assert server.poll() is None, "JupyterLab ended early"
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.2)
    assert "jupyter-config-data" in page, page[:500]
    start = json.load(opener.open(f"{base}/api/contents/start.ipynb?token={token}", timeout=30))
    assert start["content"]["cells"][0]["source"] == "# start", start
    specs = json.load(opener.open(f"{base}/api/kernelspecs?token={token}", timeout=30))
    assert specs["default"] == "python3", specs
    assert list(specs["kernelspecs"]) == ["python3"], specs
    assert specs["kernelspecs"]["python3"]["spec"]["display_name"] != "the user's", specs
    settings = f"{base}/lab/api/settings/@jupyterlab/apputils-extension:notification?token={token}"
    notification = json.load(opener.open(settings, timeout=30))
    assert notification["schema"]["properties"]["fetchNews"]["default"] == "false", notification["schema"]
    try:
        opener.open(f"{base}/api/contents/start.ipynb", timeout=30)
    except urllib.error.HTTPError as error:
        assert error.code == 403, error
    else:
        raise AssertionError("no token was asked for")
finally:
    server.terminate()
    server.communicate(timeout=30)
try:
    socket.create_connection(("127.0.0.1", int(port)), timeout=2)
except ConnectionRefusedError:
    print("OK")
"""


def write_lesson(path: Path, title: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {title}")])
    nbformat.write(notebook, path)


@pytest.fixture
def course(tmp_path: Path) -> Path:
    root = tmp_path / "course"
    write_lesson(root / "lessons" / "start.ipynb", "start")
    write_lesson(root / "lessons" / "rnn" / "01_vanilla_rnn.ipynb", "rnn")
    write_lesson(root / "lessons" / "rnn" / ".ipynb_checkpoints" / "01_vanilla_rnn-checkpoint.ipynb", "old")
    (root / "lessons" / "rnn" / "notes.txt").write_text("not a lesson")
    return root


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_prepare_copies_lessons_and_nothing_else(course: Path) -> None:
    work = course / "deep" / "work"
    copied = lab.prepare(course, work)
    assert copied == [work / "rnn" / "01_vanilla_rnn.ipynb", work / "start.ipynb"]
    assert files(work) == ["rnn/01_vanilla_rnn.ipynb", "start.ipynb"]
    for name in files(work):
        copy, lesson = (nbformat.read(folder / name, as_version=4) for folder in (work, course / "lessons"))
        assert copy.cells == lesson.cells


def test_a_copy_describes_the_kernel_so_that_looking_at_it_changes_nothing(course: Path) -> None:
    """JupyterLab completes the description when a kernel starts, and then asks whether to save."""
    work = course / "work"
    lab.prepare(course, work)
    copy = nbformat.read(work / "start.ipynb", as_version=4)
    assert copy.metadata.language_info.version == platform.python_version()
    assert copy.metadata.language_info.codemirror_mode == {"name": "ipython", "version": 3}


def test_prepare_never_overwrites(course: Path) -> None:
    work = course / "work"
    lab.prepare(course, work)
    mine = work / "rnn" / "01_vanilla_rnn.ipynb"
    mine.write_bytes(b"my own text\r\n")
    before = mine.stat()
    write_lesson(course / "lessons" / "rnn" / "01_vanilla_rnn.ipynb", "a newer lesson")
    write_lesson(course / "lessons" / "rnn" / "02_new.ipynb", "new")
    assert lab.prepare(course, work) == [work / "rnn" / "02_new.ipynb"]
    assert mine.read_bytes() == b"my own text\r\n"
    assert mine.stat().st_mtime_ns == before.st_mtime_ns
    assert lab.prepare(course, work) == []


def test_prepare_leaves_a_dangling_link_alone(course: Path) -> None:
    work = course / "work"
    work.mkdir()
    (work / "start.ipynb").symlink_to(course / "elsewhere.ipynb")
    assert work / "start.ipynb" not in lab.prepare(course, work)
    assert not (course / "elsewhere.ipynb").exists()


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_file_that_appears_meanwhile_is_kept(
    course: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    work = course / "work"

    def copy_while_somebody_writes(text: str) -> str:
        if "# start" in text:
            (work / "start.ipynb").write_text("somebody else's")
        return text

    monkeypatch.setattr(lab, "working_copy", copy_while_somebody_writes)
    if not links:
        monkeypatch.setattr(lab.os, "link", no_links)
    lab.prepare(course, work)
    assert (work / "start.ipynb").read_text() == "somebody else's"
    assert files(work) == ["rnn/01_vanilla_rnn.ipynb", "start.ipynb"]


def no_links(source: Path, target: Path) -> None:
    raise PermissionError("no hard links here")


def test_an_interrupted_copy_leaves_nothing(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "_move_new", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.prepare(course, course / "work")
    assert files(course / "work") == []


def test_a_file_in_a_folders_place_is_named(course: Path) -> None:
    work = course / "work"
    work.mkdir()
    (work / "rnn").write_text("mine")
    with pytest.raises(FileExistsError, match="rename or move that file"):
        lab.prepare(course, work)
    assert (work / "rnn").read_text() == "mine"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind((lab.HOST, 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_the_next_free_port_is_used_and_said(
    taken_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab, "DEFAULT_PORT", taken_port)
    chosen = lab._choose_port(None)
    assert taken_port < chosen < taken_port + lab.PORTS_TRIED
    assert f"Port {taken_port} is taken" in capsys.readouterr().out


def test_a_named_port_that_is_taken_stops_the_launch(
    course: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "autograde.coursemap", type(sys)("autograde.coursemap"))
    monkeypatch.setattr(sys.modules["autograde.coursemap"], "refresh", lambda root, work: None, raising=False)
    monkeypatch.setattr(lab.subprocess, "Popen", pytest.fail)
    assert lab.launch(course, course / "work", taken_port, browser=False) == 1
    assert f"Port {taken_port} is taken" in capsys.readouterr().err


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(lab.PortError, match="choose one"):
        lab._choose_port(port)


def test_settings_stay_in_the_working_folder(tmp_path: Path) -> None:
    folder = lab._write_configuration(tmp_path)
    environment = lab._environment(folder)
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"):
        assert Path(environment[name]).is_relative_to(tmp_path / ".rederive")
    written = json.loads((folder / "labconfig" / "default_setting_overrides.json").read_text())
    assert written == lab.SETTINGS


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cutting off the network needs Linux")
def test_jupyterlab_starts_without_any_network(course: Path, tmp_path: Path) -> None:
    if shutil.which("bwrap") is None:
        pytest.fail("bwrap is missing: install Debian's package bubblewrap")
    (tmp_path / "launch.py").write_text(LAUNCH)
    (tmp_path / "probe.py").write_text(PROBE)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("python3", "other"):
        kernel = home / ".local" / "share" / "jupyter" / "kernels" / name / "kernel.json"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(json.dumps({"argv": ["false"], "display_name": "the user's", "language": "python"}))
    isolated = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--unshare-pid", "--proc", "/proc"]
    isolated += ["--die-with-parent", "--"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "BROWSER": "none"}
    done = subprocess.run(
        [*isolated, sys.executable, "probe.py", str(course), "8931"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.endswith("OK\n"), done.stdout + done.stderr
    assert not (home / ".jupyter").exists()
