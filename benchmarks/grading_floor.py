"""The floor: what grading a class takes if nothing but the graded work itself is done. `python grading_floor.py CLASS TOPIC`.

One warm process with one thread runs the notebooks' cells and their checks, as the plan of a submission has them. What counts is
the CPU time of the exercises' cells, of the probes on the students' functions and on the references, and of the comparison.
The other cells (imports, data) and the diagnosis of wrong answers are timed beside it. Prints JSON: CPU seconds for each submission.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from autograde import expect
from autograde import grade as grading
from autograde.course import exercises, root
from autograde.notebook import GRADED_SEED
from autograde.observe import LocalObserver, silenced
from autograde.submission import plan, read_notebook

WORK, OTHER, DIAGNOSIS = "work", "other cells", "diagnosis"


def timed(path: Path, topic: str) -> Counter[str]:
    """CPU seconds of one notebook, by kind."""
    bank, spent, space = exercises(topic), Counter[str](), {"__name__": "__main__"}
    diagnose = grading.diagnose

    def timed_diagnose(*arguments: Any) -> Any:
        began = time.process_time()
        try:
            return diagnose(*arguments)
        finally:
            spent[DIAGNOSIS] += time.process_time() - began

    grading.diagnose = timed_diagnose
    try:
        for step in plan(read_notebook(path), path, root()).steps:
            began, before = time.process_time(), spent[DIAGNOSIS]
            with silenced():
                if step.check and step.exercise in space:
                    observer = LocalObserver(space[step.exercise], quiet=True)
                    grading.grade(bank[step.exercise], observer, graded=True, seed=GRADED_SEED)
                elif not step.check:
                    exec(compile(step.source, "cell", "exec"), space)
            kind = WORK if step.exercise is not None else OTHER
            spent[kind] += time.process_time() - began - (spent[DIAGNOSIS] - before)
    finally:
        grading.diagnose = diagnose
    return spent


def floor(folder: Path, topic: str, each: int) -> dict[str, Any]:
    """Every submission with the references run once for the class, and some of them with the references run again.

    Args:
        folder: the class.
        each: how many submissions are run with references of their own.
    """
    paths = sorted(folder.glob(f"submitted/*/{topic}/*.ipynb"))
    timed(paths[0], topic)  # imports, and what torch does once only
    expect._CACHE.clear()
    first = timed(paths[0], topic)
    class_wide = [timed(path, topic) for path in paths]
    own = []
    for path in paths[:each]:
        expect._CACHE.clear()
        own.append(timed(path, topic))
    return {
        "once": max(0.0, first[WORK] - class_wide[0][WORK]),
        "shared": sum(spent[WORK] for spent in class_wide) / len(paths),
        "own": sum(spent[WORK] for spent in own) / max(1, len(own)),
        OTHER: sum(spent[OTHER] for spent in class_wide) / len(paths),
        DIAGNOSIS: sum(spent[DIAGNOSIS] for spent in class_wide) / len(paths),
        "submissions": len(paths),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(floor(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
