"""Look over the machine and say what is missing, what needs it and what to do about it."""

import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "work"
OLDEST_PYTHON = (3, 11)
FREE_GB_WANTED = 1.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "run `make setup` in the course's folder (with conda: `conda env update -f environment.yml`)"
BUBBLEWRAP = "Debian and Ubuntu: sudo apt-get install bubblewrap; Fedora: sudo dnf install bubblewrap"
USER_NAMESPACES = (
    "allow unprivileged user namespaces for bwrap; on Ubuntu 24.04 with an AppArmor profile, or with "
    "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)

TORCH_SCRIPT = """\
import torch
build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
print(f"{torch.__version__}, {build}")
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")
"""

TRITON_SCRIPT = """\
import torch, triton, triton.language as tl

@triton.jit
def double(source, target, size: tl.constexpr):
    index = tl.arange(0, size)
    tl.store(target + index, 2 * tl.load(source + index))

source = torch.arange(8.0)
target = torch.empty(8)
double[(1,)](source, target, 8)
assert torch.equal(target, 2 * source), target
print(triton.__version__)
"""


@dataclass(frozen=True)
class Finding:
    """What one look at the machine showed.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        needed_for: what does not work without it.
        detail: what was found: a version, a name, an error.
        remedy: what to do; empty when there is nothing to do.
        required: whether the course is unusable without it.
    """

    name: str
    ok: bool
    needed_for: str
    detail: str
    remedy: str
    required: bool = False


def findings() -> list[Finding]:
    """Look at everything the course uses. What is missing or broken becomes a finding; nothing is raised."""
    found: list[Finding] = []
    checks = (
        _python,
        _packages,
        _pins,
        _torch,
        _triton,
        _bubblewrap,
        _chromium,
        _git,
        _disk,
        _working_folder,
    )
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        found += _guarded(name, check)
    return found


def failed(found: Iterable[Finding]) -> bool:
    """Whether something is missing without which the course cannot be used."""
    return any(finding.required and not finding.ok for finding in found)


def render(found: Iterable[Finding]) -> "Table":
    """The findings as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "found", "needed for", "what to do")
    for finding in found:
        mark = ("ok", "green") if finding.ok else ("missing", "red") if finding.required else ("no", "yellow")
        cells = (finding.name, finding.detail, finding.needed_for, finding.remedy)
        table.add_row(Text(mark[0], style=mark[1]), *(Text(cell) for cell in cells))
    return table


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:
        detail = f"could not be examined: {type(error).__name__}: {error}"
        return [Finding(name, False, "this report", detail, INSTALL)]


def _python() -> Iterator[Finding]:
    ok = sys.version_info[:2] >= OLDEST_PYTHON
    remedy = "" if ok else "install Python 3.11 or newer, then run `PYTHON=python3.12 make lab`"
    yield Finding("Python", ok, "everything", sys.version.split()[0], remedy, required=True)


@functools.cache
def _requirements() -> tuple["Requirement", ...]:
    """The project's direct dependencies, from pyproject.toml or else from the installed project's metadata."""
    from packaging.requirements import Requirement

    project = ROOT / "pyproject.toml"
    if project.is_file():
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        lines = [line for line in importlib.metadata.requires("rederive") or [] if "extra ==" not in line]
    return tuple(Requirement(line) for line in lines)


def _packages() -> Iterator[Finding]:
    for requirement in _requirements():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = _installed(requirement.name)
        if version is None:
            ok, detail = False, "not installed"
        else:
            ok = requirement.specifier.contains(version, prereleases=True)
            detail = version if ok else f"{version}, but {requirement.specifier} is needed"
        yield Finding(requirement.name, ok, "everything", detail, "" if ok else INSTALL, required=True)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pins() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    constraints = ROOT / "constraints.txt"
    purpose = "the same numbers as in the lessons"
    if not constraints.is_file():
        yield Finding(
            "pinned versions", False, purpose, "constraints.txt is missing", "take it from the repository"
        )
        return
    drift = []
    for line in constraints.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        pin = Requirement(line) if line else None
        if pin is None or (pin.marker is not None and not pin.marker.evaluate()):
            continue
        version = _installed(pin.name)
        if version is not None and not pin.specifier.contains(version, prereleases=True):
            drift.append(f"{pin.name} {version} instead of {str(pin.specifier).removeprefix('==')}")
    more = f" and {len(drift) - 5} more" if len(drift) > 5 else ""
    detail = ", ".join(drift[:5]) + more if drift else "as in constraints.txt"
    yield Finding("pinned versions", not drift, purpose, detail, "run `make setup`" if drift else "")


def _torch() -> Iterator[Finding]:
    status, output = _attempt([sys.executable, "-c", TORCH_SCRIPT])
    lines = output.splitlines()
    if status != 0:
        yield Finding("torch runs", False, "everything", _last_line(output), INSTALL, required=True)
        return
    build, gpu = (lines[-2], lines[-1]) if len(lines) > 1 else (lines[-1], "")
    yield Finding("torch runs", True, "everything", build, "", required=True)
    remedy = "" if gpu else "nothing: every lesson also runs on a CPU"
    yield Finding("GPU", bool(gpu), "measuring on a GPU", gpu or "none that torch can use", remedy)


def _triton() -> Iterator[Finding]:
    purpose = "GPU kernels"
    if _installed("triton") is None:
        if sys.platform.startswith("linux"):
            remedy = "run `.venv/bin/python -m pip install -c constraints.txt triton`"
        else:
            remedy = "nothing: Triton exists for Linux only"
        yield Finding("Triton", False, purpose, "not installed", remedy)
        return
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "probe.py"
        script.write_text(TRITON_SCRIPT, encoding="utf-8")
        status, output = _attempt([sys.executable, str(script)], TRITON_INTERPRET="1")
    ok = status == 0
    version = _installed("triton")
    detail = (
        f"{version}, also runs on a CPU" if ok else f"{version}, does not run on a CPU: {_last_line(output)}"
    )
    yield Finding("Triton", ok, purpose, detail, "" if ok else INSTALL)


def _bubblewrap() -> Iterator[Finding]:
    purpose = "the sandbox in which other people's notebooks are graded; tests that cut off the network"
    if not sys.platform.startswith("linux"):
        remedy = "work on Linux; on Windows, inside WSL"
        yield Finding("bubblewrap", False, purpose, "exists for Linux only", remedy)
        return
    if shutil.which("bwrap") is None:
        yield Finding("bubblewrap", False, purpose, "not installed", BUBBLEWRAP)
        return
    status, output = _attempt(["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true"])
    if status != 0:
        yield Finding(
            "bubblewrap", False, purpose, f"cannot make a sandbox: {_last_line(output)}", USER_NAMESPACES
        )
        return
    _, version = _attempt(["bwrap", "--version"])
    yield Finding("bubblewrap", True, purpose, version.removeprefix("bubblewrap ").strip(), "")


def _chromium() -> Iterator[Finding]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    remedy = "" if path else "Debian: sudo apt-get install chromium"
    yield Finding("Chromium", path is not None, "browser tests only", path or "not installed", remedy)


def _git() -> Iterator[Finding]:
    path = shutil.which("git")
    remedy = "" if path else "install git (Debian and Ubuntu: sudo apt-get install git)"
    yield Finding(
        "git", path is not None, "getting new versions of the course", path or "not installed", remedy
    )


def _disk() -> Iterator[Finding]:
    folder = WORK if WORK.is_dir() else ROOT
    free = shutil.disk_usage(folder).free / 1e9
    ok = free >= FREE_GB_WANTED
    remedy = (
        "" if ok else f"free some space on the disk that holds {folder}: {FREE_GB_WANTED:.0f} GB is enough"
    )
    yield Finding("disk space", ok, "saving your work", f"{free:.1f} GB free", remedy)


def _working_folder() -> Iterator[Finding]:
    if not WORK.is_dir():
        yield Finding("work/", False, "your own notebooks", "not there yet", "run `make lab`, which makes it")
    elif not os.access(WORK, os.W_OK | os.X_OK):
        remedy = f"make {WORK} writable for you"
        yield Finding("work/", False, "your own notebooks", "not writable", remedy, required=True)
    else:
        yield Finding("work/", True, "your own notebooks", "there", "")


def _attempt(command: list[str], **environment: str) -> tuple[int, str]:
    """Run ``command`` for at most two minutes; return its exit status and what it printed."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "no answer within two minutes"
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "ended without a message"
