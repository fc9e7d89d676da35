"""The report on what is installed."""

import importlib.metadata
from pathlib import Path

import pytest
from rich.console import Console

from autograde import doctor
from autograde.doctor import Finding


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}


def test_everything_is_looked_at_and_nothing_required_is_missing() -> None:
    found = by_name(doctor.findings())
    looked_at = {"Python", "torch", "jupyterlab", "pinned versions", "torch runs", "Triton", "bubblewrap"}
    looked_at |= {"Chromium", "git", "disk space", "work/"}
    assert looked_at <= set(found)
    assert not doctor.failed(found.values())
    assert all(finding.ok or finding.remedy for finding in found.values())


def test_a_missing_package_fails_and_names_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_nbgrader(name: str) -> str:
        if name == "nbgrader":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_nbgrader)
    found = by_name(list(doctor._packages()))
    assert found["nbgrader"] == Finding(
        "nbgrader", False, "everything", "not installed", doctor.INSTALL, required=True
    )
    assert doctor.failed(found.values())


def test_drift_from_the_pins_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constraints.txt").write_text(
        "# pins\nrich==0.1\nnumpy==0.2 ; python_version < '3'\nnot-installed==1\n"
    )
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (finding,) = doctor._pins()
    assert not finding.ok
    assert finding.detail == f"rich {importlib.metadata.version('rich')} instead of 0.1"
    assert not doctor.failed([finding])


@pytest.mark.parametrize("present", [True, False], ids=["broken tools", "no tools"])
def test_nothing_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: bool) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: str(broken) if present else None)
    monkeypatch.setattr(doctor.sys, "executable", str(broken if present else tmp_path / "absent"))
    monkeypatch.setattr(doctor, "ROOT", tmp_path / "nowhere")
    monkeypatch.setattr(doctor, "WORK", tmp_path / "nowhere" / "work")
    doctor._requirements.cache_clear()
    try:
        found = by_name(doctor.findings())
    finally:
        doctor._requirements.cache_clear()
    assert not found["torch runs"].ok
    assert not found["pinned versions"].ok
    assert all(finding.ok or finding.remedy for finding in found.values())
    assert doctor.failed(found.values())


def test_the_table_shows_what_was_found_literally() -> None:
    console = Console(width=200, record=True)
    console.print(
        doctor.render([Finding("torch", False, "everything", "odd [red]text[/]", "install it", True)])
    )
    text = console.export_text()
    assert "odd [red]text[/]" in text
    assert "install it" in text
