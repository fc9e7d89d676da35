"""The files that describe the installation agree with each other, and nothing leaks into the repository."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from autograde.course import Topic, read_course

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
CONDA_NAMES = {"pytorch": "torch"}
CONDA_ONLY = {"python", "pip"}
# Put together from parts, so that this file does not contain what it looks for.
INDEX_HOSTS = (
    "pypi" + ".org",
    "files.python" + "hosted.org",
    "download." + "pytorch.org",
    "conda." + "anaconda.org",
)
BUILD_MACHINE = re.compile(r"(?<![\w.~})\]$>*-])/" + r"work/\w")


def ranges(lines: list[str]) -> dict[str, str]:
    """Each requirement's range by canonical name."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(item.name): str(item.specifier) for item in requirements}


def project_ranges(pyproject: str, extras: bool) -> dict[str, str]:
    project = tomllib.loads(pyproject)["project"]
    lines = list(project["dependencies"])
    if extras:
        for extra in project["optional-dependencies"].values():
            lines += extra
    return ranges(lines)


def environment_complaints(environment: str, pyproject: str) -> list[str]:
    """Where environment.yml differs from pyproject.toml."""
    conda: list[str] = []
    pip: list[str] = []
    for entry in yaml.safe_load(environment)["dependencies"]:
        if isinstance(entry, dict):
            pip += entry["pip"]
        else:
            conda.append(entry)
    complaints = [] if "-e ." in pip else ["the project itself is not installed"]
    listed = ranges([*conda, *(line for line in pip if line != "-e .")])
    if listed.get("python") != tomllib.loads(pyproject)["project"]["requires-python"]:
        complaints.append("python's range differs")
    found = {CONDA_NAMES.get(name, name): text for name, text in listed.items() if name not in CONDA_ONLY}
    wanted = project_ranges(pyproject, extras=False)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            complaints.append(f"{name}: {found.get(name)} instead of {wanted.get(name)}")
    return complaints


def constraint_complaints(constraints: str, pyproject: str) -> list[str]:
    """Direct dependencies that constraints.txt does not pin, or pins outside of their range."""
    pins: dict[str, list[Requirement]] = {}
    for line in constraints.splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    complaints = []
    for name, wanted in project_ranges(pyproject, extras=True).items():
        if name not in pins:
            complaints.append(f"{name} is not pinned")
        for pin in pins.get(name, []):
            (specifier,) = pin.specifier
            if specifier.operator != "==":
                complaints.append(f"{name} is not pinned to one version")
            elif specifier.version not in Requirement(name + wanted).specifier:
                complaints.append(f"{name} is pinned to {specifier.version}, outside of {wanted}")
    return complaints


def leak_complaints(name: str, text: str, checkout: str) -> list[str]:
    """Paths of one machine and hosts of package indexes in the text of a file."""
    complaints = [f"{name} names the package index {host}" for host in INDEX_HOSTS if host in text]
    found = BUILD_MACHINE.search(text)
    if found:
        complaints.append(
            f"{name} contains a path of one machine: {text[found.start() : found.start() + 60]!r}"
        )
    elif checkout.count("/") > 1 and checkout + "/" in text:
        complaints.append(f"{name} contains the path of this checkout, {checkout}")
    return complaints


def project_files() -> list[Path]:
    """Every file that is tracked, or would be with `git add --all`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    paths = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_environment_yml_says_the_same_as_pyproject() -> None:
    assert environment_complaints((ROOT / "environment.yml").read_text(), PYPROJECT.read_text()) == []


def test_constraints_pin_every_direct_dependency() -> None:
    assert constraint_complaints((ROOT / "constraints.txt").read_text(), PYPROJECT.read_text()) == []


def test_torch_is_held_at_the_measured_version() -> None:
    held = (ROOT / "constraints.in").read_text().splitlines()[-1]
    assert held in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_commands_exist() -> None:
    assert (ROOT / "Makefile").is_file()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_nothing_of_one_machine_is_in_the_project() -> None:
    complaints = []
    for path in project_files():
        text = path.read_bytes().decode(errors="replace")
        complaints += leak_complaints(str(path.relative_to(ROOT)), text, str(ROOT))
    assert complaints == []


GOOD_PROJECT = """\
[project]
requires-python = ">=3.11"
dependencies = ["torch>=2.6", "nbval>=0.11"]
[project.optional-dependencies]
test = ["pytest>=8.2"]
"""
GOOD_ENVIRONMENT = """\
dependencies:
  - python>=3.11
  - pip
  - pytorch>=2.6
  - pip:
      - nbval>=0.11
      - -e .
"""
GOOD_CONSTRAINTS = "# made by a tool\nNBVal==0.11.0\npytest==9.2.0\ntorch==2.13.0 ; python_version < '3.15'\n"


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("pytorch>=2.6", "pytorch>=2.5", "torch: >=2.5 instead of >=2.6"),
        ("      - nbval>=0.11\n", "", "nbval: None instead of >=0.11"),
        ("  - pip\n", "  - pip\n  - dask>=1\n", "dask: >=1 instead of None"),
        ("python>=3.11", "python>=3.10", "python's range differs"),
        ("      - -e .\n", "", "the project itself is not installed"),
    ],
)
def test_a_wrong_environment_is_noticed(before: str, after: str, complaint: str) -> None:
    assert environment_complaints(GOOD_ENVIRONMENT, GOOD_PROJECT) == []
    assert environment_complaints(GOOD_ENVIRONMENT.replace(before, after), GOOD_PROJECT) == [complaint]


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("pytest==9.2.0\n", "", "pytest is not pinned"),
        ("pytest==9.2.0", "pytest==8.1", "pytest is pinned to 8.1, outside of >=8.2"),
        ("pytest==9.2.0", "pytest>=9.2.0", "pytest is not pinned to one version"),
    ],
)
def test_a_wrong_pin_is_noticed(before: str, after: str, complaint: str) -> None:
    assert constraint_complaints(GOOD_CONSTRAINTS, GOOD_PROJECT) == []
    assert constraint_complaints(GOOD_CONSTRAINTS.replace(before, after), GOOD_PROJECT) == [complaint]


@pytest.mark.parametrize(
    "text",
    [
        "see /" + "work/main/lessons",
        'open("/' + 'work/shared/x")',
        f"index = https://{INDEX_HOSTS[0]}/simple",
        "/srv/somebody/rederive/lessons",
    ],
)
def test_a_leak_is_noticed(text: str) -> None:
    assert len(leak_complaints("file", text, "/srv/somebody/rederive")) == 1


@pytest.mark.parametrize(
    "text", ["work/rnn/01.ipynb", "{root}/" + "work/rnn", "/" + "work/\n/build/", "../" + "work/start.ipynb"]
)
def test_relative_paths_are_no_leak(text: str) -> None:
    assert leak_complaints("file", text, "/srv/somebody/rederive") == []


WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"


def test_the_workflow_has_a_job_for_every_topic_that_has_lessons(tmp_path: Path) -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    output = tmp_path / "output"
    (script,) = (step["run"] for step in jobs["topics"]["steps"] if "run" in step)
    environment = os.environ | {"GITHUB_OUTPUT": str(output)}
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    subprocess.run(["bash", "-ec", script], cwd=ROOT, env=environment, check=True)
    shards = json.loads(output.read_text().removeprefix("shards="))
    assert shards == ["shared", *(topic.name for topic in sorted_topics() if not topic.planned)]
    for job in ("pinned", "newest"):
        assert jobs[job]["env"]["TOPIC"] == "${{ matrix.shard }}"
        assert jobs[job]["steps"][-1]["run"] == ".ci/run"
    assert jobs["pinned"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert jobs["newest"]["env"]["CONSTRAINTS"] == ""


def sorted_topics() -> list[Topic]:
    """The topics in the order in which course.toml names them."""
    names = list(tomllib.loads((ROOT / "course.toml").read_text())["topics"])
    return [read_course(ROOT).topic(name) for name in names]


def test_what_a_shard_runs_belongs_to_it() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/exercises",
    ]
    topics = [topic.name for topic in read_course().topics if not topic.planned]
    listed = {
        topic: subprocess.run([*command, *topic], cwd=ROOT, capture_output=True, text=True).stdout.split(
            "\n\n"
        )[0]
        for topic in ((), *(("--topic", name) for name in [*topics, "shared"]))
    }
    everything, *parts = (set(text.splitlines()) for text in listed.values())
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)
    assert any("rnn_step" in name for name in parts[topics.index("rnn")])
    assert any("bad_bank" in name for name in parts[-1])
