"""Makes the start of our commands shorter."""

import sys
from typing import Any

GRAMMARS = "rfc3987_syntax"
"""Compiles 39 grammars of internationalised addresses when it is imported, which takes over a second of the processor."""


def import_nbformat() -> None:
    """Import nbformat without what only checks the formats `iri` and `iri-reference`, which no notebook has.

    jsonschema, which nbformat imports, uses that package where it is installed. Here it is hidden for the moment of the import.
    """
    modules: dict[str, Any] = sys.modules
    if GRAMMARS in modules:
        return
    modules[GRAMMARS] = None
    try:
        import nbformat  # noqa: F401
    finally:
        del modules[GRAMMARS]
