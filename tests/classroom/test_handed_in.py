"""Reading a folder that somebody handed in: regular files of bounded size, and nothing followed."""

import os
import socket
import stat

import pytest

from autograde.classroom import handed_in
from autograde.classroom.handed_in import collect

NAME = "01_toys"


@pytest.fixture
def folder(tmp_path):
    """A submission with its notebook and one file beside it."""
    place = tmp_path / "ann" / "rnn"
    place.mkdir(parents=True)
    (place / f"{NAME}.ipynb").write_bytes(b"{}")
    (place / "data.csv").write_bytes(b"1,2\n")
    return place


def read(folder):
    return collect(folder, [NAME])


def test_notebooks_and_what_lies_beside_them(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "x.txt").write_text("x")
    found = read(folder)
    assert found.notebooks == {NAME: b"{}"}
    assert found.files == {"data.csv": b"1,2\n", "deep/x.txt": b"x"}
    assert found.notes == ()


def test_what_jupyter_and_the_exchange_leave_there_is_ignored(folder):
    for name in (".ipynb_checkpoints", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / f"{NAME}.ipynb").write_text("old")
    (folder / "timestamp.txt").write_text("2026-01-01 00:00:00 UTC")
    (folder / ".DS_Store").write_text("")
    found = read(folder)
    assert set(found.files) == {"data.csv"}
    assert found.notes == ()


def link(place):
    place.symlink_to("/etc/passwd")


def link_to_a_folder(place):
    place.symlink_to("/etc", target_is_directory=True)


def broken_link(place):
    place.symlink_to("/nowhere")


def hard_link(place):
    secret = place.parent.parent / "secret"
    secret.write_text("secret")
    os.link(secret, place)


def pipe(place):
    os.mkfifo(place)


def unix_socket(place):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))


def device(place):
    try:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs root")


KINDS = [
    (link, "it is a link"),
    (link_to_a_folder, "it is a link"),
    (broken_link, "it is a link"),
    (hard_link, "it is a hard link to another file"),
    (pipe, "it is no regular file"),
    (unix_socket, "it is no regular file"),
    (device, "it is no regular file"),
]


@pytest.mark.timeout(20)  # a pipe that is opened for reading waits for ever
@pytest.mark.parametrize(("make", "why"), KINDS, ids=[make.__name__ for make, _ in KINDS])
@pytest.mark.parametrize("name", ["odd.txt", f"{NAME}.ipynb"])
def test_what_is_no_file_of_its_own_is_left_out_and_named(folder, make, why, name):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    found = read(folder)
    assert found.notes == (f"{name!r} was left out: {why}.",)
    assert name not in found.files
    assert NAME not in found.notebooks or name != f"{NAME}.ipynb"


def test_a_folder_with_the_name_of_a_notebook_is_left_out(folder):
    """Otherwise its files have no place in autograded/, where the notebook of that name is written."""
    (folder / f"{NAME}.ipynb").unlink()
    (folder / f"{NAME}.ipynb").mkdir()
    (folder / f"{NAME}.ipynb" / "x.txt").write_text("x")
    found = read(folder)
    assert found.notebooks == {}
    assert set(found.files) == {"data.csv"}
    assert found.notes == (f"'{NAME}.ipynb' was left out: it is a folder.",)


@pytest.mark.parametrize("above", [False, True], ids=["the folder", "the student's folder"])
def test_a_submission_that_is_a_link_is_not_read(folder, tmp_path, above):
    other = tmp_path / "other"
    if above:
        other.symlink_to(folder.parent, target_is_directory=True)
        found = read(other / folder.name)
    else:
        other.symlink_to(folder, target_is_directory=True)
        found = read(other)
    assert (found.notebooks, found.files) == ({}, {})
    assert found.notes == ("The submission's folder is a link; nothing was read.",)


def test_a_folder_that_is_not_there_is_an_empty_submission_with_a_note(tmp_path):
    found = read(tmp_path / "ben" / "rnn")
    assert (found.notebooks, found.files) == ({}, {})
    assert "cannot be read" in found.notes[0]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(folder):
    (folder / "data.csv").chmod(0)
    assert "'data.csv' was left out: it cannot be read" in read(folder).notes[0]


# --- sizes ----------------------------------------------------------------------------------------------------------------


def test_a_notebook_that_is_too_large_is_there_but_not_read(folder, monkeypatch):
    monkeypatch.setattr(handed_in, "MAX_FILE", 1_000_000)
    with (folder / f"{NAME}.ipynb").open("wb") as file:
        file.truncate(5_000_000)
    found = read(folder)
    assert found.notebooks == {NAME: None}
    assert found.notes == (f"'{NAME}.ipynb' was left out: it has 5 MB.",)


def test_a_large_file_beside_it_is_left_out(folder, monkeypatch):
    monkeypatch.setattr(handed_in, "MAX_FILE", 3)
    found = read(folder)
    assert found.files == {}
    assert found.notebooks == {NAME: b"{}"}


def test_the_sum_beside_the_notebooks_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(handed_in, "MAX_BESIDE", 6)
    (folder / "more.csv").write_bytes(b"1,2\n")
    found = read(folder)
    assert set(found.files) == {"data.csv"}
    assert found.notes == ("'more.csv' was left out: there is too much beside the notebooks.",)


def test_their_number_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(handed_in, "MAX_FILES", 1)
    (folder / "more.csv").write_bytes(b"")
    assert set(read(folder).files) == {"data.csv"}


def test_looking_ends_after_so_many_entries(folder, monkeypatch):
    monkeypatch.setattr(handed_in, "MAX_ENTRIES", 10)
    place = folder / "00"
    place.mkdir()
    for i in range(30):
        (place / f"{i:02d}").write_bytes(b"")
    found = read(folder)
    assert len(found.files) == 9
    assert found.notes == ("There are more than 10 files; the rest was left out.",)


def test_deep_folders_are_left_out(folder):
    place = folder.joinpath(*"abcdef")
    place.mkdir(parents=True)
    (place / "x.txt").write_text("x")
    found = read(folder)
    assert set(found.files) == {"data.csv"}
    assert found.notes == ("'a/b/c/d' was left out: it lies too deep.",)


# --- names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["..%2f..%2fevil", "a\nb", "-rf", "\x1b[31mred", "ü", "x" * 255])
def test_odd_names_stay_inside(folder, name):
    (folder / name).write_bytes(b"odd")
    found = read(folder)
    assert found.files[name] == b"odd"


def test_a_name_that_is_no_text_can_be_told(folder):
    name = os.fsdecode(b"caf\xe9")
    os.mkfifo(folder / name)
    (note,) = read(folder).notes
    note.encode()  # can be written to a record
    assert "caf" in note


def test_other_notebooks_are_left_out(folder):
    (folder / "copy.ipynb").write_text("{}")
    (folder / "sub").mkdir()
    (folder / "sub" / f"{NAME}.ipynb").write_text("{}")
    found = read(folder)
    assert found.notebooks == {NAME: b"{}"}
    assert found.notes == (
        "'copy.ipynb' was left out: the assignment has no such notebook.",
        f"'sub/{NAME}.ipynb' was left out: the assignment has no such notebook.",
    )


# --- races ----------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("make", "why"), KINDS[:5], ids=[make.__name__ for make, _ in KINDS[:5]])
def test_a_file_that_is_replaced_after_the_look_is_not_followed(folder, make, why, monkeypatch):
    """The directory says "regular file"; when it is opened it is something else."""
    place, opens = folder / "data.csv", os.open

    def replaced(path, *arguments, **options):
        if os.fspath(path) == str(place) and not place.is_symlink():
            place.unlink()
            make(place)
        return opens(path, *arguments, **options)

    monkeypatch.setattr(handed_in.os, "open", replaced)
    found = read(folder)
    assert "data.csv" not in found.files
    assert found.notes[0].startswith("'data.csv' was left out: ")
    assert make in (link, link_to_a_folder, broken_link) or why in found.notes[0]


def test_a_file_that_grows_while_it_is_read_is_cut(folder, monkeypatch):
    monkeypatch.setattr(handed_in, "MAX_FILE", 10)
    real = os.fstat

    def grown(descriptor):
        found = real(descriptor)
        if found.st_ino == (folder / "data.csv").stat().st_ino:
            with (folder / "data.csv").open("ab") as file:
                file.write(b"x" * 1000)
        return found

    monkeypatch.setattr(handed_in.os, "fstat", grown)
    found = read(folder)
    assert len(found.files["data.csv"]) == 10


# --- what has changed -------------------------------------------------------------------------------------------------------


def test_the_digest_changes_with_everything_that_is_graded(folder, monkeypatch):
    seen = [read(folder).digest]
    assert read(folder).digest == seen[0]
    (folder / "data.csv").write_bytes(b"3\n")
    seen.append(read(folder).digest)
    (folder / "data.csv").rename(folder / "other.csv")
    seen.append(read(folder).digest)
    (folder / f"{NAME}.ipynb").write_bytes(b"{ }")
    seen.append(read(folder).digest)
    (folder / f"{NAME}.ipynb").write_bytes(b"")
    seen.append(read(folder).digest)
    monkeypatch.setattr(handed_in, "MAX_FILE", 100)
    (folder / f"{NAME}.ipynb").write_bytes(b" " * 200)
    seen.append(read(folder).digest)
    (folder / f"{NAME}.ipynb").unlink()
    seen.append(read(folder).digest)
    assert len(set(seen)) == len(seen)
