"""What students and instructors read about a verdict.

Hidden cases are described ("fails for a batch of one"); their numbers and their seeds are not shown to students.
"""

from __future__ import annotations

from dataclasses import replace

from autograde.compare import Finding
from autograde.exercise import Exercise
from autograde.grade import ExerciseResult, RequirementResult

WITHOUT_NUMBERS = {
    "values": "The values are wrong.",
    "gradient": "The gradient is wrong.",
    "not finite": "There are values that are NaN or infinite and should not be.",
    "shape": "The shape is wrong.",
    "dtype": "The dtype is wrong.",
    "type": "The type of what is returned is wrong.",
    "device": "The result is on the wrong device.",
    "raised": "Your function raised an exception.",
    "cost": "It costs too much.",
}
"""By kind of finding. Other kinds hold no number of a case."""

STUDENT = {
    "timeout": "Your code was stopped because it took too long. Is there a loop that never ends?",
    "oom": "Your code was stopped because it needed too much memory.",
    "output-limit": "Your code was stopped because it printed without end.",
    "crash": "Your code ended the process in which it ran.",
    "tampered": "Something that grades was changed by the notebook, so this was not graded.",
    "malformed": "What came back from your code could not be read.",
    "grader-error": "The check itself failed. This is not your fault; your instructor has been told.",
}
INSTRUCTOR = {
    "ok": "",
    "wrong": "",
    "timeout": "Stopped at a time limit. Limits are settings of RunAndCheck in nbgrader_config.py.",
    "oom": "Stopped at the limit of memory.",
    "output-limit": "Stopped because of its output. What was printed before is in the notebook.",
    "crash": "The process ended: os._exit, a signal, a segmentation fault, or too many processes.",
    "tampered": "The notebook changed or imitated parts of the grader in its own process. Look at its cells.",
    "malformed": "What was sent is no result. This happens when the process is tampered with, or returns huge objects.",
    "grader-error": "A mistake of ours: the reference or a probe failed. Points are 0 until it is mended and graded again.",
}


def for_students(result: ExerciseResult, exercise: Exercise) -> ExerciseResult:
    """A result without its seed, and without the numbers of the cases that are not shown in the notebook."""
    shown = {(r.name, case.name) for r in exercise.requirements for case in r.cases if case.shown}
    costs = {r.name: " ".join(b.why for b in r.bounds.values()) for r in exercise.requirements}
    requirements = tuple(
        replace(r, findings=tuple(_public(f, r, shown, costs.get(r.name, "")) for f in r.findings))
        for r in result.requirements
    )
    return replace(
        result, requirements=requirements, seed=None, note=STUDENT.get(result.verdict, result.note)
    )


def _public(
    finding: Finding, requirement: RequirementResult, shown: set[tuple[str, str]], why: str
) -> Finding:
    known = not finding.case or (requirement.name, finding.case) in shown
    if known or finding.kind not in WITHOUT_NUMBERS:
        return replace(finding, message=finding.message[:600])
    message = WITHOUT_NUMBERS[finding.kind]
    if finding.kind == "raised":
        words = finding.message.removeprefix("Your function raised ").split(":")[0].split()
        message = f"Your function raised {words[0][:100]}." if words else message
    if finding.kind == "cost" and why:
        message = f"{message} {why}"
    return Finding(finding.kind, message, finding.case, finding.frames)


def for_instructors(result: ExerciseResult) -> str:
    """One or two sentences about a verdict; empty where there is nothing to say beyond the report."""
    told = INSTRUCTOR.get(result.verdict, "")
    first = result.first
    detail = f" {first.message[:300]}" if told and first is not None else ""
    return f"{told}{detail}".strip()
