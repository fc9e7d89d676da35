"""Fixtures of the tests of lessons."""

import os

import pytest
from executed import Execute, execute_once


@pytest.fixture(scope="session")
def executed(tmp_path_factory) -> Execute:
    """Runs a solved notebook, at most once for all tests and all workers: executed(lesson, text of the notebook)."""
    folder = tmp_path_factory.getbasetemp()
    return execute_once(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)
