"""What a class's ``nbgrader_config.py`` needs from us."""

from __future__ import annotations

from traitlets.config import Application


def stop_on_errors() -> None:
    """From here on, an error in the configuration ends nbgrader.

    nbgrader's own way is to log the error, to go on with its defaults and to exit normally. Every application of this
    process is told, since nbgrader starts one for the command and one for each of its steps.
    """
    Application.raise_config_file_errors.default_value = True
    if Application.initialized():
        Application.instance().raise_config_file_errors = True
