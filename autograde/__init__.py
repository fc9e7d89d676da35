"""Checks and grades what learners write: exercises are a reference, a few requirements and a bank of mistakes."""

from autograde.earlier import given, yours
from autograde.notebook import CheckFailed, NotWritten, open_lesson
from autograde.version import __version__

__all__ = ["CheckFailed", "NotWritten", "__version__", "given", "open_lesson", "yours"]
