"""What a person likes, the bindings that may be remapped, and a table written to a file: without any screen."""

import csv
import io
import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.binding import Binding

from tui import export, keymap, preferences
from tui.command import tui
from tui.export import AlreadyThere
from tui.preferences import Preferences
from tui.widgets.rows import Line

# --- the file ---------------------------------------------------------------------------------------------------------


def _written(tmp_path: Path, words: str) -> Path:
    file = tmp_path / "tui.toml"
    file.write_text(words)
    return file


def test_without_a_file_nothing_is_liked_and_nothing_is_wrong(tmp_path: Path) -> None:
    assert preferences.load(tmp_path / "none.toml", {}) == Preferences()


def test_the_file_is_where_xdg_says() -> None:
    assert preferences.where({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/customhouse/tui.toml")
    assert preferences.where({"HOME": "/h"}) == Path("/h/.config/customhouse/tui.toml")
    assert preferences.where({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == Path("/h/.config/customhouse/tui.toml")


def test_keys_may_be_written_with_quotes_and_without(tmp_path: Path) -> None:
    file = _written(tmp_path, 'theme = "light"\nmotion = "reduced"\n[keys]\n"app.go" = "f6"\nrows.up = "w, up"\n')
    assert preferences.load(file, {}) == Preferences("light", "reduced", {"app.go": "f6", "rows.up": "w,up"})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("theme = ", "not valid TOML"),
        ('theme = "pink"', "theme is 'pink'; it must be dark, light, ansi or none"),
        ("motion = 3", "motion is 3; it must be full or reduced"),
        ('colour = "red"', "colour is not known; there are theme, motion and [keys]"),
        ('keys = "x"', "keys must be a table"),
        ("[keys]\napp.go = 7", 'keys of app.go must be a text such as "x"'),
    ],
)
def test_what_is_wrong_is_a_sentence_and_the_rest_holds(tmp_path: Path, words: str, sentence: str) -> None:
    found = preferences.load(_written(tmp_path, words), {})
    assert found.theme == "dark"
    assert len(found.wrong) == 1
    assert sentence in found.wrong[0]


def test_a_file_that_cannot_be_read_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "tui.toml").mkdir()
    assert "cannot be read" in preferences.load(tmp_path / "tui.toml", {}).wrong[0]


def test_the_environment_goes_before_the_file_and_no_color_before_all(tmp_path: Path) -> None:
    file = _written(tmp_path, 'theme = "light"')
    assert preferences.load(file, {"CUSTOMHOUSE_TUI_THEME": "ansi"}).theme == "ansi"
    assert preferences.load(file, {"CUSTOMHOUSE_TUI_MOTION": "reduced"}).motion == "reduced"
    assert preferences.load(file, {"CUSTOMHOUSE_TUI_THEME": "ansi", "NO_COLOR": "1"}).theme == "none"
    assert preferences.load(file, {"NO_COLOR": ""}).theme == "light"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'theme = "ansi"\n'),
        ('# mine\ntheme = "dark"  # nice\n[keys]\nx.y = "z"\n', '# mine\ntheme = "ansi"\n[keys]\nx.y = "z"\n'),
        ('[keys]\ntheme = "q"\n', 'theme = "ansi"\n[keys]\ntheme = "q"\n'),
    ],
)
def test_remembering_a_theme_changes_one_line(tmp_path: Path, before: str, after: str) -> None:
    file = _written(tmp_path, before)
    preferences.remember_theme(file, "ansi")
    assert file.read_text() == after
    assert preferences.load(file, {}).theme == "ansi"


# --- bindings ---------------------------------------------------------------------------------------------------------


def test_every_binding_with_an_id_says_what_it_does() -> None:
    found = keymap.known()
    assert {"app.go", "app.help", "app.jump", "app.palette", "app.quit", "rows.up"} <= {one.id for one in found}
    assert [one.id for one in found if not one.label] == []


def test_no_binding_of_ours_lacks_an_id() -> None:
    lacking = [
        f"{kind.__name__}: {one}"
        for kind in keymap._classes()
        for one in kind.__dict__.get("BINDINGS", ())
        if not (isinstance(one, Binding) and one.id)
    ]
    assert lacking == []


@pytest.mark.parametrize("key", ["x", "X", "f12", "ctrl+x", "ctrl+shift+f5", "enter", "space", "?", "/", "pagedown"])
def test_what_is_a_key(key: str) -> None:
    assert keymap.wrong({"app.go": key}) == []


@pytest.mark.parametrize("key", ["xx", "hyperspace", "ctrl+", "crtl+x", "f99"])
def test_what_is_none(key: str) -> None:
    assert keymap.wrong({"app.go": key}) == [f"keys: app.go = {key!r}: {key!r} is no key"]


def test_the_bindings_are_listed() -> None:
    answer = CliRunner().invoke(tui, ["--keys"])
    assert answer.exit_code == 0
    assert "app.go" in answer.output
    assert "Go to a screen: g, then its letter" in answer.output


# --- export -----------------------------------------------------------------------------------------------------------


class _Long:
    """A source that others write to: a line comes in above while it is read."""

    def __init__(self, count: int, comes: bool = False) -> None:
        self.lines = [Line(str(n), (f"name {n}", "x")) for n in range(count)]
        self.comes = comes
        self.asked: list[int] = []

    def window(self, first: int, count: int) -> Sequence[Line]:
        self.asked.append(count)
        found = self.lines[first : first + count]
        if self.comes:
            self.lines.insert(0, Line(f"new {len(self.asked)}", ("new", "x")))
        return found


def test_every_row_of_a_source_is_written_a_window_at_a_time(tmp_path: Path) -> None:
    source = _Long(2500)
    file = tmp_path / "out.json"
    assert export.write(file, "json", ["Name", "Said"], export.lines(source.window)) == 2500
    found = json.loads(file.read_text())
    assert found[0] == {"key": "0", "Name": "name 0", "Said": "x"}
    assert [one["key"] for one in found] == [str(n) for n in range(2500)]
    assert max(source.asked) == 1000
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_pushed_down_meanwhile_is_not_written_twice() -> None:
    keys = [one.key for one in export.lines(_Long(3500, comes=True).window)]
    assert keys == [str(n) for n in range(3500)]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_runs_no_cell(tmp_path: Path, start: str) -> None:
    file = tmp_path / "out.csv"
    export.write(file, "csv", ["Name"], [Line(f"{start}key", (f"{start}HYPERLINK(1)",))])
    rows = list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))
    assert rows == [["key", "Name"], [f"'{start}key", f"'{start}HYPERLINK(1)"]]


@pytest.mark.parametrize(("cell", "written"), [("-5", "-5"), ("+1.5", "+1.5"), ("-1+2", "'-1+2"), ("5", "5")])
def test_a_number_stays_one(cell: str, written: str) -> None:
    assert export.guarded(cell) == written


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("mine")
    with pytest.raises(AlreadyThere):
        export.write(file, "csv", [], [])
    assert file.read_text() == "mine"
    assert export.write(file, "csv", [], [], replace=True) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "out.csv").symlink_to(tmp_path / "theirs")
    export.write(tmp_path / "out.csv", "csv", ["A"], [], replace=True)
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "out.csv").is_symlink()


def test_a_source_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken(first: int, count: int) -> Sequence[Line]:
        if first:
            raise OSError("gone")
        return [Line(str(n), ("x",)) for n in range(count)]

    with pytest.raises(OSError, match="gone"):
        export.write(tmp_path / "out.csv", "csv", ["A"], export.lines(broken))
    assert list(tmp_path.iterdir()) == []
