"""What a learner reads after a check: plain text everywhere, a small HTML table in a notebook."""

from __future__ import annotations

import base64
import io
from html import escape

from torch import Tensor

from autograde.compare import Finding
from autograde.grade import ExerciseResult, RequirementResult
from autograde.version import __version__

MAX_PICTURE = 64
"""Matrices larger than this are shown around their worst element."""


def headline(result: ExerciseResult) -> str:
    """One line: "rnn_step: all 3 requirements met (4 of 4 points)."."""
    met, total = sum(r.ok for r in result.requirements), len(result.requirements)
    points = f"{result.score} of {result.max_score} points"
    if result.not_written:
        return f"{result.name}: not written yet (0 of {result.max_score} points)."
    if result.given:
        return f"{result.name}: the course's version is used (0 of {result.max_score} points). Come back to it when you like."
    if result.ok:
        return f"{result.name}: {'all ' if total > 1 else ''}{total} requirement{'s' * (total > 1)} met ({points})."
    return f"{result.name}: {met} of {total} requirements met ({points})."


def reference_line(result: ExerciseResult, topic: str) -> str:
    """The line to paste into a bug report."""
    case = result.first.case if result.first is not None else ""
    parts = [
        f"rederive {__version__}",
        f"{topic}.{result.name}",
        f"case {case!r}" if case else "",
        "" if result.seed is None else f"seed {result.seed}",
    ]
    return " · ".join(part for part in parts if part)


def _details(requirement: RequirementResult) -> list[str]:
    """The first finding of a requirement, the learner's own lines, and the other cases that fail."""
    if requirement.ok:
        return []
    first, *others = requirement.findings
    lines = [f"In the case {first.case!r}: {first.message}" if first.case else first.message]
    lines += [f"    {frame}" for frame in first.frames]
    if others:
        named = ", ".join(repr(finding.case) for finding in others[:4])
        lines.append(
            f"It fails in {len(requirement.findings)} of {requirement.cases} cases: also in {named}."
        )
    return lines


def _rows(result: ExerciseResult) -> list[tuple[RequirementResult, list[str]]]:
    """Each requirement with its details; what was said of one before it is not said again."""
    rows: list[tuple[RequirementResult, list[str]]] = []
    said: set[tuple[str, tuple[str, ...]]] = set()
    for requirement in result.requirements:
        first = requirement.findings[0] if requirement.findings else None
        again = first is not None and (first.message, first.frames) in said
        rows.append((requirement, ["The same as above."] if again else _details(requirement)))
        if first is not None:
            said.add((first.message, first.frames))
    return rows


def as_text(result: ExerciseResult, topic: str) -> str:
    """The report as plain text."""
    lines = [headline(result)]
    if result.diagnosis:
        lines.append(f"  {result.diagnosis}")
    if result.note:
        lines.append(f"  {result.note}")
    for requirement, details in _rows(result) if not (result.not_written or result.given) else ():
        mark = "pass" if requirement.ok else "FAIL"
        lines.append(f"  {mark}  {requirement.name} ({requirement.score}/{requirement.points})")
        lines += [f"        {line}" for line in details]
    lines.append(f"  For a bug report: {reference_line(result, topic)}")
    return "\n".join(lines)


_STYLE = {
    "box": "font-family:var(--jp-ui-font-family,sans-serif);font-size:13px;line-height:1.45;max-width:64em;"
    "border-left:4px solid {colour};padding:2px 0 2px 12px;margin:4px 0",
    "cell": "text-align:left;vertical-align:top;padding:3px 14px 3px 0;background:transparent;white-space:normal",
    "code": "font-family:var(--jp-code-font-family,monospace);font-size:12px;white-space:pre-wrap;margin:2px 0;"
    "background:transparent;color:inherit",
}
_PASS, _FAIL = "#0a8f6c", "#d55e00"


def as_html(result: ExerciseResult, topic: str, more: str = "") -> str:
    """The report as HTML that takes the page's own text colour, so that it reads in light and dark themes.

    ``more`` is HTML that follows the table.
    """
    colour = _PASS if result.ok else _FAIL
    parts = [
        f'<div style="{_STYLE["box"].format(colour=colour)}"><strong>{escape(headline(result))}</strong>'
    ]
    if result.diagnosis:
        parts.append(f'<p style="margin:6px 0;font-size:14px">{escape(result.diagnosis)}</p>')
    if result.note:
        parts.append(f'<p style="margin:6px 0">{escape(result.note)}</p>')
    if not (result.not_written or result.given):
        parts.append(_table(result))
        parts.append(_picture(result))
    parts.append(more)
    line = escape(reference_line(result, topic))
    parts.append(f'<div style="opacity:.7;font-size:11px;margin-top:4px">For a bug report: {line}</div>')
    return "".join(parts) + "</div>"


def _table(result: ExerciseResult) -> str:
    rows = []
    for requirement, details in _rows(result):
        mark = f'<span style="color:{_PASS}">✓</span>&nbsp;pass' if requirement.ok else _failed_mark()
        seen = "".join(_line(line) for line in details)
        rows.append([mark, escape(requirement.name), f"{requirement.score}/{requirement.points}", seen])
    heads = ["", "requirement", "points", "what was seen"]
    columns = 3 if result.ok else 4  # nothing to say about what was seen
    style = _STYLE["cell"]
    head = "".join(f'<th scope="col" style="{style};font-weight:600">{text}</th>' for text in heads[:columns])
    body = "".join(
        "<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell in row[:columns]) + "</tr>"
        for row in rows
    )
    return (
        '<table style="border-collapse:collapse;margin:6px 0;border:0">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _failed_mark() -> str:
    return f'<span style="color:{_FAIL}">✗</span>&nbsp;<strong>fail</strong>'


def _line(line: str) -> str:
    if line.startswith("    "):
        return f'<pre style="{_STYLE["code"]}">{escape(line.strip())}</pre>'
    return f"<div>{escape(line)}</div>"


def _picture(result: ExerciseResult) -> str:
    """Got, expected and difference side by side, for the first finding that has matrices."""
    finding = next((f for r in result.requirements for f in r.findings if _drawable(f)), None)
    if finding is None or finding.got is None or finding.expected is None:
        return ""
    named = finding.axes if finding.axes is not None and len(finding.axes) == finding.got.dim() else None
    got, expected, label = _matrices(finding.got, finding.expected, named)
    axes = named[-2:] if named is not None else ("row", "column")
    png = base64.b64encode(_draw(got, expected, axes)).decode()
    alt = escape(f"got, expected and their difference in the case {finding.case!r}{label}")
    return (
        f'<figure style="margin:6px 0"><img alt="{alt}" src="data:image/png;base64,{png}" style="max-width:100%">'
        f'<figcaption style="font-size:11px;opacity:.8">Case {escape(repr(finding.case))}{escape(label)}: '
        f"what your function returned, what was expected, and the difference.</figcaption></figure>"
    )


def _drawable(finding: Finding) -> bool:
    got, expected = finding.got, finding.expected
    return (
        got is not None and expected is not None and got.shape == expected.shape and got.dim() >= 2
        and got.shape[-1] > 1 and got.shape[-2] > 1
    )  # fmt: skip


def _matrices(got: Tensor, expected: Tensor, axes: tuple[str, ...] | None) -> tuple[Tensor, Tensor, str]:
    """The matrix (last two dimensions) that holds the largest difference, cut to a size that can be read."""
    error = (got - expected).abs().nan_to_num(float("inf"))
    where = []
    flat = int(error.argmax())
    for size in reversed(got.shape):
        where.append(flat % size)
        flat //= size
    index = tuple(reversed(where))
    leading, (row, column) = index[:-2], index[-2:]
    rows, columns = _window(row, got.shape[-2]), _window(column, got.shape[-1])
    names = axes[:-2] if axes is not None else [f"index {i}" for i in range(len(leading))]
    label = "".join(f", {name} {place}" for name, place in zip(names, leading, strict=True))
    return got[leading][rows, columns], expected[leading][rows, columns], label


def _window(centre: int, size: int) -> slice:
    start = max(0, min(centre - MAX_PICTURE // 2, size - MAX_PICTURE))
    return slice(start, start + MAX_PICTURE)


def _draw(got: Tensor, expected: Tensor, names: tuple[str, ...]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from utils.plotting import DIVERGING

    figure = Figure(figsize=(7.2, 2.4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    largest = float(expected.abs().nan_to_num(0.0, posinf=0.0).max()) or 1.0
    difference = got - expected
    difference[~difference.isfinite()] = float("nan")
    got = got.where(got.isfinite(), float("nan"))
    spread = float(difference.abs().nan_to_num(0.0).max()) or 1.0
    panels = [("got", got, largest), ("expected", expected, largest), ("got - expected", difference, spread)]
    for axes, (title, matrix, limit) in zip(figure.subplots(1, 3), panels, strict=True):
        finite = matrix.where(matrix.isfinite(), float("nan")).numpy()
        image = axes.imshow(finite, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        axes.set_title(title, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(names[-1], fontsize=8)
        axes.set_ylabel(names[-2], fontsize=8)
        axes.tick_params(labelsize=7)
        figure.colorbar(image, ax=axes).ax.tick_params(labelsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
