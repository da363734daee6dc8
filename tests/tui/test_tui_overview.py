"""The first screen: all is well, processes down, CUDA not used, nothing installed, rows that cannot be read."""

import json

import msgspec
import pytest
from textual.pilot import Pilot

from appliance.database import Connection
from appliance.house import House
from tests import made, standins
from tests.cast import Person
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import health
from tui.backend.desk import Desk
from tui.place import Place
from tui.screens.overview import Overview
from tui.widgets.rows import Line, Rows

MINUTE = 60_000
SIZES = [("small", SMALL), ("wide", WIDE)]
THEMES = [("dark", "textual-dark"), ("light", "textual-light")]


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look but those that a test has made: how many there were is seen."""
    monkeypatch.setattr(Overview, "EVERY_S", None)


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs from machine to machine and from second to second is set; all else is looked up."""
    look = health.Watch.look

    def told(self: health.Watch) -> health.Overview:
        found = look(self)
        disk = health.Disk("/home", 61_400_000_000, 270_000_000_000, 256_000_000, 981_000_000, 0, 279_000_000, 4_100)
        taken = {"api": (0.01, 204_000_000), "worker": (0.02, 178_000_000), "models": (0.35, 735_000_000)}
        processes = tuple(
            msgspec.structs.replace(
                one,
                pid=100,
                started_at=NOON - 125 * MINUTE,
                share=taken[one.name][0],
                rss_bytes=taken[one.name][1],
                note=one.note if not one.is_up else "",
            )
            for one in found.processes
        )
        return msgspec.structs.replace(found, disk=disk, processes=processes)

    monkeypatch.setattr(health.Watch, "look", told)


@pytest.fixture
def lived(house: House, alice: Person, charlie: Person) -> House:
    """An hour of jobs, some open, some rejected; a quota near its end; weights on the shelf."""
    jobs = [
        made.job(
            alice.org_id if number % 3 else charlie.org_id,
            NOON - 59 * MINUTE + number * 9_000,
            id=f"{number:08}-0000-4000-8000-000000000000",
            kind=("PROMPT_MODERATION", "IMAGE_MODERATION")[number % 2],
            status="failed" if number % 41 == 5 else "completed",
            is_prohibited=None if number % 41 == 5 else int(number % 7 == 3),
            categories='{"nsfw":true,"custom":{}}' if number % 2 else '{"custom":{"dogs":true}}',
        )
        for number in range(390)
    ]
    open_jobs = [
        made.job(alice.org_id, NOON - 8_000, status="queued", is_prohibited=None, completed_at=None, id=f"open{n}")
        for n in range(3)
    ]
    made.insert(house, [*jobs, *open_jobs])

    def fill(conn: Connection) -> None:
        conn.execute("UPDATE plan SET monthly_request_quota = 1000")
        conn.execute(
            "INSERT INTO moderation_use (org_id, day, requests) VALUES (?, '2026-05-02', 930)", (charlie.org_id,)
        )
        conn.execute(
            "INSERT INTO child (job_id, kind, status, finding, is_positive, created_at) "
            "VALUES ('00000388-0000-4000-8000-000000000000', 'TEXT_MODERATION', 'completed', ?, 1, 0)",
            (
                json.dumps(
                    {
                        "categories": {"text": True},
                        "scores": [
                            {"category": "text", "model": "heads", "label": "x", "score": 0.873, "threshold": 0.325}
                        ],
                    }
                ),
            ),
        )

    house.db.write(fill)
    shelf = house.settings.weights_dir / "opennsfw"
    shelf.mkdir(parents=True)
    (shelf / "model.onnx").write_bytes(b"weights")
    return house


@pytest.mark.parametrize(("size_name", "size"), SIZES)
@pytest.mark.parametrize(("theme_name", "theme"), THEMES)
def test_all_of_it_is_seen_at_once(
    lived: House, desk: Desk, shoot: Shoot, size_name: str, size: tuple[int, int], theme_name: str, theme: str
) -> None:
    with standins.everybody(lived.settings):
        shoot(desk, "overview", f"overview-full-{size_name}-{theme_name}", size=size, theme=theme)


@pytest.mark.parametrize(("size_name", "size"), SIZES)
def test_on_a_box_where_nothing_is_installed_it_says_what_to_do_first(
    desk: Desk, shoot: Shoot, size_name: str, size: tuple[int, int]
) -> None:
    shoot(desk, "overview", f"overview-nothing-installed-{size_name}", size=size)


@pytest.mark.parametrize(("size_name", "size"), SIZES)
def test_with_all_processes_down_it_still_tells_what_the_rows_say(
    lived: House, desk: Desk, shoot: Shoot, size_name: str, size: tuple[int, int]
) -> None:
    shoot(desk, "overview", f"overview-all-down-{size_name}", size=size)


def test_with_the_model_process_down_it_names_it(lived: House, desk: Desk, shoot: Shoot) -> None:
    with standins.api(lived.settings), standins.worker(lived.settings):
        shoot(desk, "overview", "overview-models-down-small")


@pytest.mark.parametrize(("size_name", "size"), SIZES)
def test_cuda_that_is_not_used_is_said_at_the_top_and_at_each_model(
    lived: House, desk: Desk, shoot: Shoot, size_name: str, size: tuple[int, int]
) -> None:
    said = standins.status(wanted="cuda:0", failed="nsfwjs")
    with standins.everybody(lived.settings, said):
        shoot(desk, "overview", f"overview-cuda-not-used-{size_name}", size=size)


def test_with_the_database_unreadable_the_processes_are_still_told(
    lived: House, desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived.db.write(lambda conn: conn.execute("ALTER TABLE usage RENAME TO used"))
    with standins.everybody(lived.settings):
        shoot(desk, "overview", "overview-rows-broken-small")


def test_the_id_of_a_rejection_is_copied(lived: House, desk: Desk) -> None:
    async def copy(pilot: Pilot[None]) -> None:
        pilot.app.screen.query_one("#rejections", Rows).focus()
        await pilot.press("down", "y")
        await pilot.pause()
        line = pilot.app.screen.query_one("#rejections", Rows).current
        assert line is not None
        assert pilot.app.clipboard == line.key

    drive(desk, "overview", copy)


def test_a_rejection_is_opened_where_jobs_are_and_an_event_by_its_command(lived: House, desk: Desk) -> None:
    async def choose(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#rejections", Rows)
        rows.focus()
        rows.show([Line("mev_1", ("now", "A", "text", "spam", "0.9"))])
        await pilot.press("enter")
        await pilot.pause()
        assert any("customhouse events show mev_1 --org A" in one.message for one in pilot.app._notifications)
        rows.show([Line("00000388", ("now", "A", "image", "nsfw", "0.9"))])
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert pilot.app.screen.NAME == "jobs"

    drive(desk, "overview", choose)


def test_the_alarms_of_every_screen_are_the_overview_s_trouble(lived: House, desk: Desk) -> None:
    assert health.alarms(desk) == ["Nothing is running. Start it: customhouse up"]
    with standins.everybody(lived.settings, standins.status(wanted="cuda:0")):
        (said,) = health.alarms(desk)
    assert said.startswith("CUDA IS NOT USED by ")
