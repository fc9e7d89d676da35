"""nbgrader's configuration for a class that does lessons of this course.

With it, nbgrader's own commands work in this folder: generate_assignment, autograde, generate_feedback, export, the
Validate button and the formgrader. Add settings of your own at the end. A mistake in this file stops nbgrader; it never
grades with its defaults instead.
"""

from pathlib import Path

c = get_config()  # type: ignore[name-defined]

from autograde.classroom import guard
from autograde.classroom.preprocessors import AUTOGRADE_STEPS, SANITIZE_STEPS
from autograde.classroom.settings import stop_on_errors

stop_on_errors()
guard.install()

c.CourseDirectory.root = str(Path(__file__).parent.resolve())
c.CourseDirectory.course_id = "rederive"
# The gradebook is an SQLite file in this folder. For PostgreSQL:
# c.CourseDirectory.db_url = "postgresql+psycopg2://user@host/gradebook"

# What was handed in is made whole again: checks that were deleted, edited, doubled or tagged are as they were released.
c.Autograde.sanitize_preprocessors = SANITIZE_STEPS
# A notebook runs in a sandbox, and the verdicts are made outside of it, with partial credit. Without these two lines nothing
# is graded: nbgrader's own steps run the checks in the student's kernel, which can forge its points.
c.Autograde.autograde_preprocessors = AUTOGRADE_STEPS
# What a notebook may use. These are the defaults; seconds are of the clock but for cpu_seconds.
# c.RunAndCheck.cell_seconds = 60
# c.RunAndCheck.look_seconds = 20
# c.RunAndCheck.notebook_seconds = 900
# c.RunAndCheck.cpu_seconds = 300
# c.RunAndCheck.memory_gb = 2
# c.RunAndCheck.processes = 128
# c.RunAndCheck.disk_mb = 200

# Demo cells train and plot. They carry no points, so grading leaves them out.
c.Execute.skip_cells_with_tag = "demo"
c.Execute.timeout = 60
# A check cell that a student deleted is put back.
c.OverwriteCells.add_missing_cells = True
# Comments in feedback quote at most this much of a cell's output.
c.LimitOutput.max_lines = 500
