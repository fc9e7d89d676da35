"""Grading other people's notebooks."""

from autograde.startup import import_nbformat

import_nbformat()
