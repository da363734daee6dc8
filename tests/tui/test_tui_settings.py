"""The settings: seen, filtered, checked, edited."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from appliance import settings as known
from appliance.house import House
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.app import CustomhouseApp
from tui.backend.desk import Access, Desk
from tui.screens.settings import SettingsPlace
from tui.widgets.rows import Rows

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = """\
[server]
port = 9000
[worker]
threads = 8
[billing]
stripe_proxy = "http://me:s3cret@proxy.example:3128"
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box whose paths are the same wherever the tests run."""
    monkeypatch.chdir(tmp_path)
    Path("models").symlink_to(ROOT / "models")
    Path("config").symlink_to(ROOT / "config")
    monkeypatch.delenv("CUSTOMHOUSE_CONFIG", raising=False)
    for name, value in (
        ("HOME", "box"),
        ("MODELS_DIR", "models"),
        ("CATEGORIES_FILE", "config/categories.toml"),
        ("LEXICONS_DIR", "config/lexicons"),
        ("POLICIES_DIR", "config/policies"),
    ):
        monkeypatch.setenv(f"CUSTOMHOUSE_{name}", value)
    Path("box").mkdir(mode=0o750)
    return Path("box")


@pytest.fixture
def desk(box: Path) -> Iterator[Desk]:
    (box / "customhouse.toml").write_text(FILE)
    desk = Desk(known.load(), Access("operator:ada", True), now=lambda: NOON)
    yield desk
    desk.close()


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal can be lent to an editor: there is none in a test."""
    monkeypatch.setattr(CustomhouseApp, "suspend", lambda self: contextlib.nullcontext())


def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *commands: str) -> None:
    """An $EDITOR that runs these over the copy, one each time; the last one from then on."""
    script = tmp_path / "editor.sh"
    lines = [f"n=$(cat {tmp_path}/n 2>/dev/null || echo 0); echo $((n + 1)) > {tmp_path}/n", "case $n in"]
    lines += [f"{number}) {command} ;;" for number, command in enumerate(commands[:-1])]
    script.write_text("\n".join([*lines, f"*) {commands[-1]} ;;", "esac"]))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"sh {script}")


def said(pilot: Pilot[None]) -> str:
    return "\n".join(one.message for one in pilot.app._notifications)


def audited(house_or_desk: Desk | House) -> list[dict[str, object]]:
    reader = house_or_desk.house.db.reader() if isinstance(house_or_desk, Desk) else house_or_desk.db.reader()
    return [dict(row) for row in reader.execute("SELECT * FROM audit ORDER BY id")]


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize(("size", "where"), [(SMALL, "small"), (WIDE, "wide")])
def test_all_settings(desk: Desk, shoot: Shoot, size: tuple[int, int], where: str, theme: str) -> None:
    shoot(
        desk,
        "settings",
        f"settings-{where}-{theme.removeprefix('textual-')}",
        press=["slash", *"billing.", "enter", "end"],
        size=size,
        theme=theme,
    )


def test_the_changed_ones(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "settings", "settings-changed", press=["c", "end"])


def test_a_filter_that_nothing_meets(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "settings", "settings-empty", press=["slash", "z", "z", "z"])


def test_a_file_broken_on_disk(desk: Desk, box: Path, shoot: Shoot) -> None:
    (box / "customhouse.toml").write_text('[server]\nprot = 1\nhost = 3\n[limits]\nburst_per_second = "x"\n')
    shoot(desk, "settings", "settings-broken", press=["c", "end"])
    # a wide table has the defaults, too, and some of them are where this tree lies
    narrowed = ["slash", *"server.", "enter", "c", "end"]
    shoot(desk, "settings", "settings-broken-wide-light", press=narrowed, size=WIDE, theme="textual-light")
    shoot(desk, "settings", "settings-broken-dialog", press=["c", "end", "v"])


def test_what_waits_for_a_restart(desk: Desk, box: Path, shoot: Shoot) -> None:
    (box / "customhouse.toml").write_text(FILE.replace("9000", "9100"))
    shoot(desk, "settings", "settings-restart", press=["slash", *"server.port", "enter"])


def test_the_question_before_the_file_is_replaced(
    desk: Desk, shoot: Shoot, lent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(monkeypatch, tmp_path, 'sed -i s/9000/9100/ "$1"')
    shoot(desk, "settings", "settings-replace", press=["c", "end", "E"])


def test_all_that_is_said_of_one_setting(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "settings", "settings-one", press=["slash", *"billing.stripe_key", "enter", "enter"])


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_no_secret_is_shown(desk: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"proxy", "enter")
        rows = pilot.app.screen.query_one("#settings", Rows)
        seen = [str(cell) for n in range(rows.row_count) for cell in (rows.line_at(n) or pytest.fail("none")).cells]
        assert '"http://***@proxy.example:3128"' in seen
        assert not any("s3cret" in cell for cell in seen)
        await pilot.press("y")
        assert "s3cret" not in pilot.app.clipboard

    drive(desk, "settings", look)


def test_the_filter_finds_by_any_word_and_escape_shows_all(desk: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#settings", Rows)
        everything = rows.row_count
        await pilot.press("slash", *"environment")
        await settle(pilot)
        assert 0 < rows.row_count < everything
        await pilot.press("escape")
        await settle(pilot)
        assert rows.row_count == everything
        assert pilot.app.screen.query_one("#filter", Input).value == ""

    drive(desk, "settings", look)


def test_a_variable_that_names_no_setting_is_pointed_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_SERVER_PROT", "1")

    async def look(pilot: Pilot[None]) -> None:
        assert "CUSTOMHOUSE_SERVER_PROT names no setting" in str(pilot.app.screen.query_one("#state", Static).content)

    drive(desk, "settings", look)


# --- the file edited -------------------------------------------------------------------------------------------------


def test_an_edit_is_asked_about_done_and_audited(
    desk: Desk, box: Path, lent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(monkeypatch, tmp_path, 'sed -i s/9000/9100/ "$1"')

    async def edit(pilot: Pilot[None]) -> None:
        await pilot.press("E")
        await settle(pilot)
        assert pilot.app.focused is not None
        assert pilot.app.focused.id == "cancel"
        assert "9000" in (box / "customhouse.toml").read_text()
        await pilot.click("#yes")
        await settle(pilot)
        assert "api" in said(pilot)

    drive(desk, "settings", edit)
    assert "port = 9100" in (box / "customhouse.toml").read_text()
    [line] = audited(desk)
    assert (line["actor"], line["action"]) == ("operator:ada", "settings.changed")
    assert json.loads(str(line["detail"]))["changed"] == {"server.port": {"before": 9000, "after": 9100}}


def test_cancel_leaves_the_file_and_keeps_the_copy(
    desk: Desk, box: Path, lent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(monkeypatch, tmp_path, 'sed -i s/9000/9100/ "$1"')

    async def edit(pilot: Pilot[None]) -> None:
        await pilot.press("E")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        kept = Path(said(pilot).rpartition("your copy: ")[2])
        assert "9100" in kept.read_text()
        kept.unlink()

    drive(desk, "settings", edit)
    assert (box / "customhouse.toml").read_text() == FILE
    assert audited(desk) == []


def test_a_wrong_edit_is_offered_again_with_nothing_lost(
    desk: Desk, box: Path, lent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(monkeypatch, tmp_path, 'sed -i s/port/prot/ "$1"', 'sed -i "s/prot = 9000/port = 9300/" "$1"')

    async def edit(pilot: Pilot[None]) -> None:
        await pilot.press("E")
        await settle(pilot)
        assert "is server.port meant?" in str(pilot.app.screen.query_one("#text", Static).content)
        await pilot.click("#yes")
        await settle(pilot)
        assert "9000 → 9300" in str(pilot.app.screen.query_one("#text", Static).content)
        await pilot.click("#yes")
        await settle(pilot)

    drive(desk, "settings", edit)
    assert "port = 9300" in (box / "customhouse.toml").read_text()


def test_who_may_only_look_edits_nothing(box: Path, lent: None) -> None:
    (box / "customhouse.toml").write_text(FILE)
    House(known.load()).close()
    desk = Desk(known.load(), Access("operator:bob", False, "bob is not in the group"), now=lambda: NOON)

    async def edit(pilot: Pilot[None]) -> None:
        await pilot.press("E")
        await settle(pilot)
        assert "bob is not in the group" in said(pilot)
        assert isinstance(pilot.app.screen, SettingsPlace)

    drive(desk, "settings", edit)
    desk.close()
    assert (box / "customhouse.toml").read_text() == FILE


def test_where_no_terminal_can_be_lent_it_is_said(desk: Desk) -> None:
    async def edit(pilot: Pilot[None]) -> None:
        await pilot.press("E")
        await settle(pilot)
        assert "customhouse config edit" in said(pilot)

    drive(desk, "settings", edit)
