"""A learner's first session, in Chromium, with the network cut off. session.py does it, the tests judge what it saw."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autograde.course import exercises, read_course
from autograde.exercise import Mistake

ROOT = Path(__file__).resolve().parents[2]
SESSION = Path(__file__).with_name("session.py")
LESSON = "rnn/01_vanilla_rnn"
SECONDS = 480
PACKAGES = {"bwrap": "bubblewrap", "chromium": "chromium", "git": "git", "make": "make"}
STRANGE = ("JUPYTER", "JPY_", "IPYTHON", "PYTHON", "XDG_", "MPL", "NBGRADER", "REDERIVE", "PYTEST", "MAKE")
"""Beginnings of variables that would make the session depend on who runs the tests."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cutting off the network needs Linux"),
]


@dataclass(frozen=True)
class Session:
    """What the session saw, and the copy of the course that it left behind."""

    course: Path
    seen: dict[str, Any]
    lessons_before: dict[str, str]

    def step(self, name: str) -> dict[str, Any]:
        """What one step saw; fails with the session's own error where it did not come so far."""
        if name not in self.seen["steps"]:
            stopped = self.seen["stopped"]
            first = stopped.splitlines()[0]
            at_once = first == name or not self.seen["steps"]
            pytest.fail(
                told(self.seen) if at_once else f"The session stopped before, in {first!r}.", pytrace=False
            )
        return self.seen["steps"][name]


def told(seen: dict[str, Any]) -> str:
    """A session that stopped, in words."""
    parts = [
        seen["stopped"],
        "On the page:",
        seen.get("page", ""),
        "make lab printed:",
        *seen["server"][-30:],
    ]
    return "\n".join(map(str, parts))


def copy_course(target: Path) -> None:
    """The files of the course as a clone would have them, with those that git does not know yet."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def pretend_installed(course: Path) -> None:
    """Let `make` find this interpreter's packages in the copy's .venv, installed a moment ago."""
    (course / ".venv").mkdir()
    (course / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (course / ".venv" / ".installed").write_text(f"{course}\n")


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def the_mistake() -> Mistake:
    """The mistake of the bank that the session makes: the limit, returned everywhere."""
    found = exercises("rnn")["window_error"].mistakes
    return next(mistake for mistake in found if "2^-w everywhere" in mistake.sentence)


def as_answer(function: Callable[..., Any]) -> str:
    """A function's source, as the answer to the first exercise."""
    return re.sub(r"\Adef \w+", "def window_error", inspect.getsource(function))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    for command, package in PACKAGES.items():
        if shutil.which(command) is None:
            pytest.fail(f"{command} is missing: install Debian's package {package}", pytrace=False)
    folder = tmp_path_factory.mktemp("learner")
    course, home = folder / "course", folder / "home"
    for made in (course, home):
        made.mkdir()
    copy_course(course)
    pretend_installed(course)
    (folder / "mistake.py").write_text(as_answer(the_mistake().implementation))
    (folder / "right.py").write_text(as_answer(exercises("rnn")["window_error"].reference))
    before = digests(course / "lessons")
    screenshots = os.environ.get("REDERIVE_SCREENSHOTS") or folder / "screenshots"
    command = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--unshare-pid", "--proc", "/proc"]
    command += ["--die-with-parent", "--", sys.executable, str(SESSION), str(course)]
    command += [str(folder / name) for name in ("mistake.py", "right.py", "seen.json")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(STRANGE)}
    environment |= {"HOME": str(home), "PYTHONPATH": str(course), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, str(Path(screenshots).resolve())],
        cwd=folder,
        env=environment,
        timeout=SECONDS,
        capture_output=True,
        text=True,
    )
    (folder / "log").write_text(done.stderr)
    if not (folder / "seen.json").is_file():
        pytest.fail(f"The session left no result: {done.stdout[-3000:]}{done.stderr[-3000:]}", pytrace=False)
    return Session(course, json.loads((folder / "seen.json").read_text()), before)


def test_the_network_is_cut_off(session: Session) -> None:
    assert "unreachable" in session.seen["network"]


def test_jupyterlab_opens_on_the_map_and_asks_nothing(session: Session) -> None:
    chart = session.step("the_map")
    assert chart["tabs"] == ["start.ipynb"]
    assert "Python 3" in chart["kernel"]
    assert chart["dialogs"] == []
    assert chart["notifications"] == []


def test_the_map_shows_every_topic_and_no_progress_yet(session: Session) -> None:
    chart = session.step("the_map")
    assert sorted(chart["topics"]) == sorted(topic.title for topic in read_course(session.course).topics)
    assert len(chart["topics"]) == 33
    (progress,) = chart["progress"]
    assert "0 of 6" in progress


@pytest.mark.parametrize("step", ["link_in_the_progress_table", "link_in_the_topics_table"])
def test_a_link_on_the_map_opens_the_lesson(session: Session, step: str) -> None:
    opened = session.step(step)
    assert opened["heading"] == "Why a sequence needs a state"
    assert opened["address"] == f"/tree/{LESSON}.ipynb"
    assert opened["new windows"] == 0
    assert session.seen["downloads"] == []


def test_closing_a_lesson_that_was_only_opened_asks_nothing(session: Session) -> None:
    assert session.step("link_in_the_progress_table")["asked"] == []


def test_a_known_mistake_is_named_in_its_own_words(session: Session) -> None:
    report = session.step("a_mistake")
    shown, *_ = report["outputs"]
    assert the_mistake().sentence in shown
    others = [mistake.sentence for mistake in exercises("rnn")["window_error"].mistakes]
    assert [sentence for sentence in others if sentence in shown] == [the_mistake().sentence]
    assert re.search(r"window_error: \d of 3 requirements met", shown)


def test_a_failed_check_ends_in_one_line_without_a_traceback(session: Session) -> None:
    _, error = session.step("a_mistake")["outputs"]
    assert re.fullmatch(r"CheckFailed: window_error: \d of 3 requirements met \(.*\)\.", error)


def test_a_right_answer_passes_with_the_keyboard_alone(session: Session) -> None:
    (report,) = session.step("the_right_answer")["outputs"]
    assert "window_error: all 3 requirements met" in report


def test_the_courses_solution_opens_after_a_pass_with_the_keyboard_alone(session: Session) -> None:
    opened = session.step("the_courses_solution")
    assert opened["before"] is None
    assert "Yours" in opened["text"]
    assert opened["text"].count("def window_error(") == 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_can_be_read_in_both_themes(session: Session, theme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, and 3 for marks, whose shape says the same as their colour."""
    contrasts = session.step("the_dark_theme")[theme]
    assert any(text.startswith("✗") for text in contrasts)
    assert {text: value for text, value in contrasts.items() if value < (3 if text[0] in "✓✗" else 4.5)} == {}


def test_the_map_counts_what_was_passed(session: Session) -> None:
    progress = session.step("progress_on_the_map")["progress"]
    assert "1 of 6" in progress
    assert "5 to go" in progress


def test_the_learners_work_is_saved_and_the_lessons_are_untouched(session: Session) -> None:
    source = session.step("saved")["source"]
    assert source.strip() == as_answer(exercises("rnn")["window_error"].reference).strip()
    assert digests(session.course / "lessons") == session.lessons_before


def test_the_interactive_figure_follows_its_sliders(session: Session) -> None:
    figure = session.step("play")
    assert len(figure["moves"]) == 2
    assert all(before != after for before, after in figure["moves"])
    width, height, shown = figure["size"]
    assert min(width, height) > 200
    assert shown > 500
    assert "gain" in figure["texts"]
    assert "chain" in figure["texts"]
    assert len(figure["alternative"]) > 60


def test_nothing_else_was_noticed(session: Session) -> None:
    session.step("play")
    for strange in ("outside", "pop-ups", "downloads", "page errors", "toasts"):
        assert session.seen[strange] == [], strange
    assert [line for line in session.seen["server"] if "Traceback" in line or "[E " in line] == []
