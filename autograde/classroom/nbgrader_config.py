"""nbgrader's configuration for a class that does lessons of this course.

Everything below works with stock nbgrader: generate_assignment, autograde, generate_feedback, export, the Validate
button and the formgrader. Add settings of your own at the end. A mistake in this file stops nbgrader; it never grades
with its defaults instead.
"""

from pathlib import Path

c = get_config()  # type: ignore[name-defined]

from autograde.classroom.settings import stop_on_errors

stop_on_errors()

c.CourseDirectory.root = str(Path(__file__).parent.resolve())
c.CourseDirectory.course_id = "rederive"
# The gradebook is an SQLite file in this folder. For PostgreSQL:
# c.CourseDirectory.db_url = "postgresql://user@host/gradebook"

# Demo cells train and plot. They carry no points, so grading leaves them out.
c.Execute.skip_cells_with_tag = "demo"
c.Execute.timeout = 60
# A check cell that a student deleted is put back.
c.OverwriteCells.add_missing_cells = True
# Comments in feedback quote at most this much of a cell's output.
c.LimitOutput.max_lines = 500
