"""A learner's first session: `make lab` in a copy of the course, and a person at the browser.

Runs inside bubblewrap, without a network, and only looks: what it saw goes into a JSON file, for test_learner.py to
judge. Usage: ``session.py COURSE MISTAKE RIGHT SEEN SCREENSHOTS``; MISTAKE and RIGHT are Python files with two answers
to the first exercise.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Dialog, Locator, Page, Request, ViewportSize, expect, sync_playwright

from autograde.sources import read_source

PORT = 8123
LESSON = "rnn/01_vanilla_rnn"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
PATIENCE = 60_000
"""Milliseconds until something that a person would wait for counts as missing."""

WINDOW: ViewportSize = {"width": 1280, "height": 800}
TAB = "#jp-main-dock-panel .lm-TabBar-tab"
TOASTS = ".Toastify__toast, .jp-toastContainer [role=alert]"
SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden)"
FULL_SIZE = """async image => {
    await image.decode();
    return [image.naturalWidth, image.naturalHeight, image.getBoundingClientRect().width];
}"""


class Notebook:
    """The notebook in front, as a person uses it. Cells are named by a piece of their text."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.panel = page.locator(SHOWN)
        self.cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]

    def find(self, text: str) -> int:
        """The index of the only cell that holds a text."""
        found = [index for index, cell in enumerate(self.cells) if text in "".join(cell["source"])]
        if len(found) != 1:
            raise LookupError(f"{len(found)} cells hold {text!r}")
        return found[0]

    def cell(self, index: int) -> Locator:
        return self.panel.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-OutputArea-output")

    def wait(self, index: int) -> None:
        """Until the cell has run."""
        prompt = self.cell(index).locator(".jp-InputPrompt")
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))

    def click(self, index: int) -> None:
        """Select a cell with the mouse, in command mode."""
        self.cell(index).locator(".jp-InputPrompt").click()
        expect(self.cell(index)).to_have_class(re.compile(r"jp-mod-active"))

    def walk(self, index: int) -> None:
        """Select a cell with the keyboard alone, in command mode."""
        self.page.keyboard.press("Escape")
        while (here := self.active()) != index:
            self.page.keyboard.press("j" if here < index else "k")
            expect(self.cell(here)).not_to_have_class(re.compile(r"jp-mod-active"))

    def active(self) -> int:
        cell = self.panel.locator(".jp-Cell.jp-mod-active")
        return int(cell.get_attribute("data-windowed-list-index") or 0)

    def write(self, code: str) -> None:
        """Replace the text of the selected cell."""
        index = self.active()
        self.page.keyboard.press("Enter")
        expect(self.cell(index).locator(".cm-editor")).to_have_class(re.compile("cm-focused"))
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def run(self, index: int) -> None:
        """Shift+Enter on the selected cell, and wait until it has run."""
        self.page.keyboard.press("Shift+Enter")
        if self.cells[index]["cell_type"] == "code":
            self.wait(index)

    def run_with_the_mouse(self, index: int) -> None:
        self.click(index)
        self.panel.get_by_role("button", name=re.compile(r"^Run this cell and advance")).click()
        self.wait(index)

    def report(self, index: int) -> dict[str, Any]:
        """What a check cell shows."""
        expect(self.output(index).first).to_be_visible()
        texts = [" ".join(text.split()) for text in self.output(index).all_inner_texts()]
        return {"outputs": texts}

    def save(self) -> None:
        self.page.keyboard.press("Control+s")
        expect(self.page.locator(f"{TAB}.lm-mod-current.jp-mod-dirty")).to_have_count(0)


class Learner:
    """The browser, the folder, and what was seen so far."""

    def __init__(self, page: Page, course: Path, mistake: str, right: str, screenshots: Path) -> None:
        self.page = page
        self.course = course
        self.work = course / "work"
        self.mistake = mistake
        self.right = right
        self.screenshots = screenshots
        self.notebook = Notebook(page, course / "lessons" / f"{LESSON}.ipynb")

    def shoot(self, name: str) -> None:
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.screenshots / f"{name}.png")

    def shoot_cell(self, name: str, index: int, theme: str) -> None:
        """The page with a cell's output in it, and that output alone, as far as it is tall."""
        self.notebook.output(index).first.scroll_into_view_if_needed()
        self.shoot(f"{name}-{theme}")
        self.notebook.cell(index).screenshot(path=self.screenshots / f"{name}-{theme}-cell.png")

    def tab(self, name: str) -> Locator:
        return self.page.locator(TAB).filter(has_text=name)

    def tab_to(self, selector: str, most: int = 60) -> int:
        """Press Tab until an element that fits has the focus; how many times that took."""
        for pressed in range(1, most + 1):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return pressed
        raise LookupError(f"{most} times Tab did not lead to {selector!r}")

    def in_front(self, name: str) -> None:
        """Wait until a notebook's tab is the current one and its kernel waits for work."""
        expect(self.tab(name)).to_have_class(re.compile("lm-mod-current"))
        panel = self.page.locator(SHOWN)
        expect(panel).to_have_count(1)
        expect(panel.locator(".jp-KernelName")).to_contain_text("Python 3")
        status = panel.locator(".jp-Notebook-ExecutionIndicator")
        expect(status).to_have_attribute("data-status", "idle")
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")

    def theme(self, name: str) -> None:
        """Choose a theme in the menu Settings."""
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        for label in ("Theme", name):
            item = self.page.locator(".lm-Menu-item", has=self.page.get_by_text(label, exact=True))
            item.click()
        light = str("Light" in name).lower()
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)

    def follow(self, link: Locator) -> dict[str, Any]:
        """Click a link and say what came of it: the tab in front, the pages, the panel's first heading."""
        before = len(self.page.context.pages)
        link.click()
        self.in_front("01_vanilla_rnn.ipynb")
        heading = self.page.locator(SHOWN).get_by_role("heading", level=1)
        return {
            "new windows": len(self.page.context.pages) - before,
            "heading": heading.first.inner_text().rstrip("¶"),
            "address": self.page.url.split("?")[0].split("/lab", 1)[1],
        }


def the_map(learner: Learner) -> dict[str, Any]:
    """What stands on the screen when JupyterLab has opened."""
    page = learner.page
    learner.in_front("start.ipynb")
    panel = page.locator(SHOWN)
    rows = panel.locator(".jp-MarkdownOutput table tbody tr")
    expect(rows.first).to_be_visible()
    learner.shoot("map")
    page.set_viewport_size({"width": 1280, "height": 2600})  # the whole map
    learner.shoot("map-whole")
    page.set_viewport_size(WINDOW)
    return {
        "tabs": page.locator(TAB).all_inner_texts(),
        "topics": [row.locator("td").first.text_content() for row in rows.all()],
        "progress": panel.locator(".jp-OutputArea-output").all_inner_texts(),
        "kernel": panel.locator(".jp-KernelName").inner_text(),
        "dialogs": page.locator(".jp-Dialog").all_inner_texts(),
        "notifications": page.locator(TOASTS).all_inner_texts(),
    }


def link_in_the_progress_table(learner: Learner) -> dict[str, Any]:
    """The link opens the lesson, which is then closed again untouched."""
    seen = learner.follow(learner.page.locator(f'{SHOWN} .jp-OutputArea-output a[href*="vanilla"]'))
    lesson = learner.tab("01_vanilla_rnn.ipynb")
    lesson.locator(".lm-TabBar-tabCloseIcon").click()
    question = learner.page.locator(".jp-Dialog")
    expect(
        question.or_(learner.tab("start.ipynb").and_(learner.page.locator(".lm-mod-current")))
    ).to_be_visible()
    seen["asked"] = question.all_inner_texts()
    if seen["asked"]:
        learner.shoot("closing")
        question.get_by_role("button", name="Discard").click()
    expect(lesson).to_have_count(0)
    learner.in_front("start.ipynb")
    return seen


def link_in_the_topics_table(learner: Learner) -> dict[str, Any]:
    return learner.follow(learner.page.locator(f'{SHOWN} .jp-MarkdownOutput td a[href*="vanilla"]'))


def a_mistake(learner: Learner) -> dict[str, Any]:
    """With the mouse: the setup cell, a wrong answer, its check."""
    notebook = learner.notebook
    notebook.run_with_the_mouse(notebook.find("open_lesson("))
    exercise, check = notebook.find("def window_error"), notebook.find("check.window_error(")
    notebook.click(exercise)
    notebook.write(learner.mistake)
    notebook.run_with_the_mouse(exercise)
    notebook.run_with_the_mouse(check)
    seen = notebook.report(check)
    learner.shoot_cell("failing", check, "light")
    return seen


def the_dark_theme(learner: Learner) -> dict[str, Any]:
    """The same report, in both themes, with the contrast of what is written in it."""
    check = learner.notebook.find("check.window_error(")
    seen = {"light": contrasts(learner, check)}
    learner.theme("JupyterLab Dark")
    learner.shoot_cell("failing", check, "dark")
    seen["dark"] = contrasts(learner, check)
    learner.theme("JupyterLab Light")
    learner.notebook.click(check)
    return seen


CONTRASTS = """report => {
    const numbers = text => text.match(/[0-9.]+/g).map(Number);
    const over = (top, bottom) => {
        const alpha = top.length > 3 ? top[3] : 1;
        return [0, 1, 2].map(k => top[k] * alpha + bottom[k] * (1 - alpha));
    };
    const luminance = rgb => {
        const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const seen = {};
    const walker = document.createTreeWalker(report, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        if (!text) continue;
        const chain = [];
        for (let node = walker.currentNode.parentElement; node; node = node.parentElement) chain.unshift(node);
        let ground = [255, 255, 255], opacity = 1;
        for (const node of chain) {
            ground = over(numbers(getComputedStyle(node).backgroundColor), ground);
            opacity *= Number(getComputedStyle(node).opacity);
        }
        const ink = numbers(getComputedStyle(chain.at(-1)).color).slice(0, 3);
        const [a, b] = [luminance(over([...ink, opacity], ground)), luminance(ground)];
        seen[text.slice(0, 60)] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }
    return seen;
}"""


def contrasts(learner: Learner, check: int) -> dict[str, float]:
    """The contrast of each text of a report with what is behind it, as WCAG 2 counts it (1 to 21)."""
    report = learner.notebook.cell(check).locator(".jp-RenderedHTMLCommon").first
    found: dict[str, float] = report.evaluate(CONTRASTS)
    return found


def the_right_answer(learner: Learner) -> dict[str, Any]:
    """With the keyboard alone: the exercise, a right answer, Shift+Enter down to the check."""
    notebook = learner.notebook
    exercise, check = notebook.find("def window_error"), notebook.find("check.window_error(")
    notebook.walk(exercise)
    notebook.write(learner.right)
    before = notebook.cell(check).locator(".jp-InputPrompt").inner_text()
    for index in range(exercise, check):
        notebook.run(index)
    learner.page.keyboard.press("Shift+Enter")
    expect(notebook.cell(check).locator(".jp-InputPrompt")).not_to_have_text(before)
    notebook.wait(check)
    seen = notebook.report(check)
    learner.shoot_cell("passing", check, "light")
    return seen


def the_courses_solution(learner: Learner) -> dict[str, Any]:
    """With the keyboard alone: Tab to the line below the report, Enter, and both solutions are there."""
    notebook = learner.notebook
    check = notebook.find("check.window_error(")
    details = notebook.cell(check).locator("details")
    before = details.get_attribute("open")
    notebook.walk(check)
    learner.tab_to("summary")
    learner.page.keyboard.press("Enter")
    expect(details).to_have_attribute("open", "")
    learner.shoot_cell("solutions", check, "light")
    seen = {"before": before, "text": details.inner_text()}
    learner.page.keyboard.press("Enter")
    notebook.click(check)
    return seen


def saved(learner: Learner) -> dict[str, Any]:
    """Ctrl+S, and what then stands on the disk."""
    notebook = learner.notebook
    notebook.save()
    cells = json.loads((learner.work / f"{LESSON}.ipynb").read_text(encoding="utf-8"))["cells"]
    return {"source": "".join(cells[notebook.find("def window_error")]["source"])}


def progress_on_the_map(learner: Learner) -> dict[str, Any]:
    """Back on the map, its only code cell is run."""
    learner.tab("start.ipynb").click()
    learner.in_front("start.ipynb")
    chart = Notebook(learner.page, learner.course / "lessons" / "start.ipynb")
    chart.run_with_the_mouse(chart.find("show_progress()"))
    output = chart.output(chart.find("show_progress()"))
    expect(output).to_have_count(1)
    shown = output.inner_text()
    learner.shoot("map-after")
    learner.tab("01_vanilla_rnn.ipynb").click()
    learner.in_front("01_vanilla_rnn.ipynb")
    return {"progress": shown}


def play(learner: Learner) -> dict[str, Any]:
    """Every exercise above the interactive figure answered, then its sliders moved with the keyboard."""
    notebook = learner.notebook
    figure = notebook.find("widgets.explore(")
    answers = solutions(learner.course)
    for index, cell in enumerate(notebook.cells[:figure]):
        tags = cell["metadata"].get("tags", [])
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        passed_over = "demo" in tags or "".join(cell["source"]).startswith("check.")
        if cell["cell_type"] == "markdown" or passed_over:
            continue
        notebook.click(index)
        if name in answers:
            notebook.write(answers[name])
        notebook.run(index)
    notebook.click(figure)
    notebook.run(figure)
    output = notebook.cell(figure)
    image = output.locator("img.widget-image, .jupyter-widgets img")
    expect(image).to_be_visible()
    sliders = output.get_by_role("slider")
    expect(sliders.first).to_be_visible()
    learner.shoot_cell("widget", figure, "light")
    moves = []
    notebook.walk(figure)
    for slider in sliders.all():
        before = image.get_attribute("src") or ""
        value = slider.get_attribute("aria-valuetext")
        learner.tab_to("[role=slider], .noUi-handle")
        expect(slider).to_be_focused()
        learner.page.keyboard.press("ArrowRight")
        expect(image).not_to_have_attribute("src", before)
        moves.append([value, slider.get_attribute("aria-valuetext")])
    learner.theme("JupyterLab Dark")
    learner.shoot_cell("widget", figure, "dark")
    learner.theme("JupyterLab Light")
    return {
        "moves": moves,
        "size": image.evaluate(FULL_SIZE),
        "texts": output.inner_text(),
        "alternative": image.get_attribute("alt"),
    }


def solutions(course: Path) -> dict[str, str]:
    """The right answer to each exercise of the lesson, as its source has it."""
    source = read_source(course / "solutions" / f"{LESSON}.py", LESSON)
    return {cell.title: cell.source for cell in source.tagged("exercise")}


STEPS: tuple[Callable[[Learner], dict[str, Any]], ...] = (
    the_map,
    link_in_the_progress_table,
    link_in_the_topics_table,
    a_mistake,
    the_dark_theme,
    the_right_answer,
    the_courses_solution,
    saved,
    progress_on_the_map,
    play,
)


class Server:
    """`make lab` and what it prints."""

    def __init__(self, course: Path) -> None:
        self.lines: list[str] = []
        self.address: str | None = None
        self.ready = threading.Event()
        command = ["make", "lab", "BROWSER=none", f"PORT={PORT}"]
        self.process = subprocess.Popen(
            command, cwd=course, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            found = re.search(rf"http://127[.]0[.]0[.]1:{PORT}/lab/tree/start[.]ipynb[?]token=\w+", line)
            if found:
                self.address = found[0]
                self.ready.set()
        self.ready.set()

    def wait(self) -> str:
        """Its address, once it answers.

        Raises:
            RuntimeError: it ended, or gave no address in time.
        """
        if not self.ready.wait(120) or self.address is None:
            raise RuntimeError("make lab gave no address:\n" + "\n".join(self.lines))
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", PORT), timeout=2).close()
                return self.address
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError("JupyterLab does not answer:\n" + "\n".join(self.lines)) from None
                time.sleep(0.1)


@contextmanager
def serving(course: Path) -> Iterator[Server]:
    server = Server(course)
    try:
        yield server
    finally:
        server.process.terminate()  # what outlives it ends with the sandbox


def no_network() -> str:
    """What an attempt to leave the machine gives."""
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=2).close()
    except OSError as error:
        return str(error)
    return "connected"


def watch(page: Page, seen: dict[str, Any]) -> None:
    """Note everything that a learner should never meet."""

    def requested(request: Request) -> None:
        if not request.url.startswith(
            (f"http://127.0.0.1:{PORT}/", f"ws://127.0.0.1:{PORT}/", "data:", "blob:")
        ):
            seen["outside"].append(request.url)

    def asked(dialog: Dialog) -> None:
        seen["pop-ups"].append(dialog.message)
        dialog.accept()

    page.on("request", requested)
    page.on("dialog", asked)
    page.on("download", lambda download: seen["downloads"].append(download.suggested_filename))
    page.on("pageerror", lambda error: seen["page errors"].append(str(error)))
    page.on(
        "console",
        lambda message: seen["console"].append(message.text) if message.type == "error" else None,
    )


def attend(browser: Browser, server: Server, seen: dict[str, Any], arguments: list[str]) -> None:
    """Open the address and do one step after the other; the first that fails ends it."""
    course, mistake, right, _, screenshots = (Path(argument) for argument in arguments)
    page = browser.new_page(viewport=WINDOW)
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    watch(page, seen)
    page.goto(server.wait())
    learner = Learner(page, course, mistake.read_text(), right.read_text(), screenshots)
    for step in STEPS:
        begun = time.monotonic()
        try:
            seen["steps"][step.__name__] = step(learner)
        except Exception:
            seen["stopped"] = f"{step.__name__}\n{traceback.format_exc()}"
            seen["page"] = page.locator("body").inner_text()[:1500]
            learner.shoot("stopped")
            return
        finally:
            seen["seconds"][step.__name__] = round(time.monotonic() - begun, 1)
    seen["toasts"] = page.locator(TOASTS).all_inner_texts()


def main(arguments: list[str]) -> None:
    names = ("outside", "pop-ups", "downloads", "page errors", "console", "toasts")
    seen: dict[str, Any] = {name: [] for name in names} | {"steps": {}, "seconds": {}, "stopped": None}
    seen["network"] = no_network()
    with serving(Path(arguments[0])) as server, sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            attend(browser, server, seen, arguments)
            browser.close()
        except Exception:
            seen["stopped"] = traceback.format_exc()
        seen["server"] = server.lines
        Path(arguments[3]).write_text(json.dumps(seen, indent=1))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
