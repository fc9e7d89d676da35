"""What nbgrader's configuration needs from us: an error in it must stop nbgrader, never be left out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from traitlets.config import Application

from autograde.progress import write_atomically

EVERYWHERE = '''\
"""Read by nbgrader before a class's own nbgrader_config.py, wherever nbgrader is run in this environment.

Written by `autograde new-class`. With it, a class's configuration that is no valid Python stops nbgrader.
"""

from autograde.classroom.settings import stop_on_errors

stop_on_errors()
'''


def stop_on_errors() -> None:
    """From here on, an error in the configuration ends nbgrader.

    nbgrader's own way is to log the error, to go on with its defaults and to exit normally. Both the application that
    runs and those that it starts for its steps are told.
    """
    Application.raise_config_file_errors.default_value = True
    if Application.initialized():
        Application.instance().raise_config_file_errors = True


def install(prefix: Path | None = None) -> Path:
    """Put ``stop_on_errors`` where nbgrader reads it first, in this environment.

    A class's configuration makes the same call, but a file that is no valid Python makes no calls at all. What is
    there already, and a folder that cannot be written, are left alone.
    """
    path = (prefix or Path(sys.prefix)) / "etc" / "jupyter" / "nbgrader_config.py"
    if not path.exists():
        with contextlib.suppress(OSError):
            write_atomically(path, EVERYWHERE)
    return path
