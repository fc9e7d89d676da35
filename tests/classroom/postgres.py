"""A PostgreSQL server for the tests: started from the distribution's programs on a free port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from autograde.classroom.folder import ClassFolder

USER = "grader"
PATIENCE = 60.0
"""Seconds that the server may take to start, and to stop."""


@dataclass(frozen=True)
class Server:
    """A server that runs, and the password of its only user."""

    port: int
    password: str

    def url(self, database: str) -> str:
        """The address of a database, as ``c.CourseDirectory.db_url`` has it.

        It names the driver: SQLAlchemy 2.0 takes psycopg2 for ``postgresql://``, and 2.1 takes psycopg.
        """
        return f"postgresql+psycopg2://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str) -> Any:
        """A connection without nbgrader and SQLAlchemy, in which every statement counts at once."""
        import psycopg2

        address = {"host": "127.0.0.1", "port": self.port, "connect_timeout": 5}
        connection = psycopg2.connect(dbname=database, user=USER, password=self.password, **address)
        connection.autocommit = True
        return connection

    def make(self, database: str) -> str:
        """A new and empty database; its address."""
        self.ask("postgres", f'CREATE DATABASE "{database}"')
        return self.url(database)

    def ask(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement; the rows that it gives, if any."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server. Skips where PostgreSQL is not installed, and fails there in continuous integration (CI=true)."""
    programs = _programs()
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="rederive-postgres-"))
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        server = Server(_free_port(), secrets.token_hex(16))
        _initialise(programs, folder, server, owner)
        process = _start(programs, folder, server, owner)
        try:
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: connections that were left open are ended
            process.wait(PATIENCE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_database(postgres: Server) -> Callable[[], str]:
    """Makes an empty database at each call; its address."""
    return lambda: postgres.make(f"gradebook_{secrets.token_hex(4)}")


def move_to(made: ClassFolder, url: str) -> None:
    """What docs/for-instructors.md says: one line at the end of the configuration. Then it has to be released again."""
    with made.config.open("a") as file:
        file.write(f"c.CourseDirectory.db_url = {url!r}\n")


def _programs() -> Path:
    """The folder with ``initdb`` and ``postgres``: the newest of Debian's, else where PATH finds them."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    found = [folder for folder in folders if (folder / "initdb").is_file()]
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        _missing(
            "PostgreSQL's server is not installed. On Debian and Ubuntu: sudo apt-get install postgresql"
        )
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        _missing("psycopg2, which connects to PostgreSQL, is not installed: pip install psycopg2-binary")
    return found[0] if found else Path(on_path or "").parent


def _missing(message: str) -> NoReturn:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)


def _owner() -> pwd.struct_passwd | None:
    """Who runs the server: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return _missing("Root cannot run PostgreSQL, and there is neither a user 'postgres' nor 'nobody'.")


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    """What ``subprocess`` needs to run a program as somebody else."""
    return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _initialise(programs: Path, folder: Path, server: Server, owner: pwd.struct_passwd | None) -> None:
    password = folder / "password"
    password.write_text(server.password)
    if owner is not None:
        os.chown(password, owner.pw_uid, owner.pw_gid)
    password.chmod(0o600)
    command = [programs / "initdb", "--pgdata", folder / "data", "--username", USER]
    command += ["--pwfile", password, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, **_as(owner))
    assert done.returncode == 0, f"initdb failed:\n{done.stdout}\n{done.stderr}"


def _start(
    programs: Path, folder: Path, server: Server, owner: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    """The server's process, once it answers. It ends when this process ends, in whatever way."""
    command: list[Any] = [programs / "postgres", "-D", folder / "data", "-p", str(server.port), "-k", folder]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    tie = shutil.which("setpriv")
    if tie is not None:
        command = [tie, "--pdeathsig=INT", *command]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, **_as(owner))
    deadline = time.monotonic() + PATIENCE
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.fail(f"The PostgreSQL server does not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
    return process


def _answers(server: Server) -> bool:
    import psycopg2

    try:
        server.connect("postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
