"""The version of the course: it stands in every notebook, every report and every grade."""

__version__ = "0.1.0"
