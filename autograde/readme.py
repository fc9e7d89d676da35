"""The README's table of topics, made from ``course.toml`` and the built lessons."""

from __future__ import annotations

from autograde.course import Course, CourseError
from autograde.lessons import LessonInfo, of_topic

BEGIN = "<!-- topics: made by `autograde build` -->"
END = "<!-- end of topics -->"


def with_topics(readme: str, course: Course, lessons: list[LessonInfo]) -> str:
    """The README with a fresh table between its two marks.

    Raises:
        CourseError: the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CourseError(
            f"README.md needs the lines {BEGIN} and {END}; the table of topics goes between them."
        )
    return f"{before}{BEGIN}\n{_table(course, lessons)}\n{END}{after}"


def _table(course: Course, lessons: list[LessonInfo]) -> str:
    lines = ["", "| family | topic | what it covers | built |", "| :--- | :--- | :--- | :--- |"]
    for key, family in course.families:
        for topic in course.topics:
            if topic.family == key:
                built = of_topic(lessons, topic.name)
                links = "<br>".join(f"[{lesson.title}](lessons/{lesson.name}.ipynb)" for lesson in built)
                lines.append(f"| {family} | {topic.title} | {topic.about} | {links or 'not yet'} |")
    return "\n".join([*lines, ""])
