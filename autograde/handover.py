"""What the process in which a submitted notebook runs, and the notebook's own calls, tell each other.

A process that grades sets ``ACTIVE`` before the first cell runs: ``open_lesson`` then hands out checks that do nothing,
because the looking is done from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ACTIVE = False
"""True in the process in which a submitted notebook runs."""
GIVEN: dict[str, Callable[..., Any]] = {}
"""There: the references that the notebook may ask for with ``given``."""
