"""The log: followed and held still, filtered, jumped through, copied; nothing written, and very much written."""

import json

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from appliance import clock
from appliance.house import House
from appliance.settings import Settings
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend.desk import Desk
from tui.screens.logs import Logs
from tui.widgets.rows import Rows

SIZES = [("small", SMALL), ("wide", WIDE)]
THEMES = [("dark", "textual-dark"), ("light", "textual-light")]


TRACEBACK = """  File "appliance/media/pipe.py", line 50, in media
    shutil.rmtree(path) if path.is_dir() else path.unlink()
builtins.OSError: [Errno 28] No space left on device"""


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look but those that a test has made: how many there were is seen."""
    monkeypatch.setattr(Logs, "EVERY_S", None)


@pytest.fixture(autouse=True)
def _no_journald(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has one has none here."""
    monkeypatch.setattr("appliance.logs.shutil.which", lambda _: None)


def write(settings: Settings, process: str, after_s: float, level: str, event: str, **fields: object) -> None:
    """As log.JsonLines writes it."""
    file = settings.log_dir / f"{process}.log"
    file.parent.mkdir(exist_ok=True)
    time = clock.rfc3339(NOON + int(after_s * 1000))
    line = {"time": time, "level": level.lower(), "logger": f"appliance.{process}", "event": event, **fields}
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")


@pytest.fixture
def written(house: House, settings: Settings) -> Settings:
    write(settings, "models", 0, "INFO", "model opened", model="opennsfw", device="cpu", memory_mb=73, ms=551)
    write(settings, "models", 1, "INFO", "model process ready", pid=12357)
    write(settings, "worker", 2, "INFO", "worker ready", threads=16, pid=12358)
    write(settings, "api", 3, "INFO", "api ready", address="127.0.0.1:8000")
    write(settings, "api", 4, "DEBUG", "asked", path="/health")
    for number in range(40):
        write(settings, "worker", 5 + number, "INFO", "job closed", job=f"{number:08}", kind="PROMPT_MODERATION", ms=12)
        if number in (9, 30):
            write(settings, "worker", 5 + number, "ERROR", "sweep round failed", round="media", traceback=TRACEBACK)
        if number == 20:
            write(settings, "up", 5 + number, "WARNING", "process ended; it is started again", program="work", code=-9)
    return settings


@pytest.mark.parametrize(("size_name", "size"), SIZES)
@pytest.mark.parametrize(("theme_name", "theme"), THEMES)
def test_lines_of_all_processes_are_followed(
    written: Settings,
    desk: Desk,
    shoot: Shoot,
    size_name: str,
    size: tuple[int, int],
    theme_name: str,
    theme: str,
) -> None:
    shoot(desk, "logs", f"logs-full-{size_name}-{theme_name}", size=size, theme=theme)


def test_where_nothing_is_written_it_is_said_how_to_have_it(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "logs", "logs-empty-small")


def test_an_error_is_opened_with_its_traceback(written: Settings, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "logs", "logs-error-small", press=["left_square_bracket", "enter"])


def test_only_what_is_wanted_is_shown(written: Settings, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "logs", "logs-filtered-small", press=["v", "slash", *"media", "enter"])


def test_a_folder_that_is_not_ours_to_read_is_said(
    written: Settings, desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Desk) -> None:
        raise PermissionError(13, "Permission denied", "/home/log")

    monkeypatch.setattr("tui.backend.logs.open_", refuse)
    shoot(desk, "logs", "logs-failing-small")


def lines(pilot: Pilot[None]) -> Rows:
    return pilot.app.screen.query_one("#lines", Rows)


def test_it_goes_along_with_what_comes_until_it_is_held_still(written: Settings, desk: Desk) -> None:
    async def follow(pilot: Pilot[None]) -> None:
        before = lines(pilot).row_count
        write(written, "api", 100, "INFO", "one more")
        await pilot.press("f5")
        await settle(pilot)
        assert (lines(pilot).row_count, lines(pilot).cursor) == (before + 1, before)
        await pilot.press("f")
        write(written, "api", 101, "INFO", "and one that waits")
        await pilot.press("f5")
        await settle(pilot)
        assert lines(pilot).row_count == before + 1
        await pilot.press("f")
        await settle(pilot)
        assert lines(pilot).row_count == before + 2

    drive(desk, "logs", follow)


def test_processes_levels_and_errors_are_gone_through_by_a_key_each(written: Settings, desk: Desk) -> None:
    async def go(pilot: Pilot[None]) -> None:
        everything = lines(pilot).row_count
        await pilot.press("v")  # warning and graver
        await settle(pilot)
        assert lines(pilot).row_count == 3
        await pilot.press("v")  # error
        await settle(pilot)
        assert lines(pilot).row_count == 2
        await pilot.press("v", "v")  # debug, info
        await settle(pilot)
        assert lines(pilot).row_count == everything
        await pilot.press("p")  # api
        await settle(pilot)
        assert lines(pilot).row_count == 1
        await pilot.press("p", "p", "p", "p")  # worker, models, up, all
        await settle(pilot)
        assert lines(pilot).row_count == everything
        await pilot.press("home", "right_square_bracket")
        await settle(pilot)
        line = lines(pilot).current
        assert line is not None
        assert line.cells[2] == "ERROR"
        await pilot.press("y")
        await pilot.pause()
        assert json.loads(pilot.app.clipboard)["event"] == "sweep round failed"

    drive(desk, "logs", go)


def test_escape_closes_the_detail_and_leaves_the_field(written: Settings, desk: Desk) -> None:
    async def go(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        assert isinstance(screen, Logs)
        await pilot.press("enter")
        await settle(pilot)
        assert screen.query_one("#detail").display
        await pilot.press("escape")
        assert not screen.query_one("#detail").display
        await pilot.press("slash")
        assert isinstance(screen.focused, Input)
        await pilot.press("escape")
        assert screen.focused is lines(pilot)

    drive(desk, "logs", go)
