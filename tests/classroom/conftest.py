"""The fixtures of the class room's tests."""

from toyclass import command, quick, toys

__all__ = ["command", "quick", "toys"]
