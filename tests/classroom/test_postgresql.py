"""The gradebook on PostgreSQL: every command of an instructor works there, and gives what it gives on SQLite."""

import pytest
from postgres import move_to, postgres  # noqa: F401  (a fixture)
from toyclass import autograde, graded, hand_in, new_class

from autograde.classroom.folder import convert


@pytest.mark.slow
@pytest.mark.usefixtures("toys", "quick")
def test_all_commands_of_an_instructor_give_the_same_on_both(postgres, tmp_path, command):  # noqa: F811
    """Roster, points, grading, regrading and grade sheets, on a class of a made-up course."""
    kept = {}
    for name in ("sqlite", "postgresql"):
        made = new_class(tmp_path / name)
        if name == "postgresql":
            (made.root / "gradebook.db").unlink()
            move_to(made, postgres.make("everything"))
        roster = tmp_path / "roster.csv"
        roster.write_text("id,first_name,last_name,email\nanna,Anna,Núñez,a@example.org\nben,Ben,B,\n")
        where = ("--class", made.root)
        said = [command("update-class", *where), command("roster", roster, *where)]
        hand_in(made, "anna", "01_toys", "02_more")
        hand_in(made, "ben", "01_toys", double="def double(x):\n    return 2.0 * x.clamp(max=50)\n")
        autograde(made, "anna", "ben")
        first = graded(made)
        made.choice.write_text(made.choice.read_text().replace("double = 3", "double = 6"))
        said += [command("update-class", *where), command("regrade-all", "toytopic", *where)]
        said += [command("grades", *where)]
        assert all(status == 0 for status, _, _ in said), said
        convert("GenerateFeedback", made)
        pages = sorted(path.name for path in made.root.glob("feedback/*/*/*.html"))
        kept[name] = (first, graded(made), (made.root / "grades-table.csv").read_text(), pages)
    assert not (made.root / "gradebook.db").exists(), "otherwise SQLite was compared with itself"
    assert postgres.ask("everything", "SELECT count(*) FROM grade WHERE auto_score > 0") == [(4,)]
    assert kept["sqlite"] == kept["postgresql"]
    grades = kept["postgresql"][1][0]
    assert grades["ben", "01_toys", "check_double"][:2] == (4.0, 6.0), "2 of 3 points, now of 6"
    assert "Núñez" in kept["postgresql"][2]
