"""The doctor's screen: findings by gravity, the detail with the fix, and mending that asks and is written down."""

from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input

from appliance import audit
from appliance.access import Access
from appliance.doctor import CHECKS, Finding, Report, State
from appliance.settings import Settings
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import doctor
from tui.backend.desk import Desk
from tui.widgets.rows import Rows

LOOKS = [
    ("full-small-dark", SMALL, "textual-dark"),
    ("full-wide-dark", WIDE, "textual-dark"),
    ("full-small-light", SMALL, "textual-light"),
    ("full-wide-light", WIDE, "textual-light"),
]


def finding(id: str, state: State = State.OK, says: str = "As it should be", **given: Any) -> Finding:
    facts: dict[str, Any] = {"evidence": {}, "cause": "", "fix": "", "mendable": False, "took_ms": 12}
    return Finding(id=id, group=CHECKS[id].group, title=CHECKS[id].title, state=state, says=says, **{**facts, **given})


FOUND = [
    finding("host.kernel", says="Linux 6.8.0", evidence={"release": "6.8.0"}),
    finding("host.memory", says="33.6 GB of memory", evidence={"total_bytes": 33_600_000_000}),
    finding(
        "gpu.canary",
        State.FAILED,
        "CUDA is not used: onnxruntime's CUDA part cannot be loaded (libcudnn.so.9: no such file)",
        cause="the session fell back to the CPU, where the same models take many times as long",
        fix="customhouse doctor gpu.libraries",
        evidence={"device": "cpu", "providers": ["CPUExecutionProvider"], "run_ms": 1.4},
        took_ms=2_310,
    ),
    finding(
        "disk.media",
        State.WARNING,
        "The folder for media is missing",
        cause="it was removed, or Customhouse has not started yet",
        fix="mkdir -m 750 /srv/customhouse/media",
        mendable=True,
    ),
    finding("stripe.key", State.SKIPPED, "Stripe is not set up: credit is given by hand", took_ms=0),
]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Findings of a machine that is the same everywhere. Returns how often it was looked, and how quickly."""
    asked: list[bool] = []

    def look(_: Desk, *, is_quick: bool) -> Report:
        asked.append(is_quick)
        return Report(FOUND, 2_400)

    monkeypatch.setattr(doctor, "look", look)
    return asked


def listed(pilot: Pilot[None]) -> list[str]:
    rows = pilot.app.screen.query_one(Rows)
    return [str(line.cells[1]) for line in rows.window(0, rows.row_count)]


async def press(pilot: Pilot[None], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await settle(pilot)


def lines(desk: Desk) -> list[audit.Line]:
    return desk.read(lambda conn: audit.page(conn, audit.Filter(action="doctor.mended")))


@pytest.mark.parametrize(("name", "size", "theme"), LOOKS)
@pytest.mark.usefixtures("found")
def test_the_doctor_looks_as_held(desk: Desk, shoot: Shoot, name: str, size: tuple[int, int], theme: str) -> None:
    shoot(desk, "doctor", f"doctor-{name}", size=size, theme=theme)


@pytest.mark.usefixtures("found")
def test_the_detail_has_the_cause_what_was_measured_and_the_fix(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "doctor", "doctor-detail-small", press=["enter"])
    shoot(desk, "doctor", "doctor-detail-wide", press=["enter"], size=WIDE)


def test_a_box_in_order_says_so(desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "look", lambda desk, is_quick: Report(FOUND[:2], 900))
    shoot(desk, "doctor", "doctor-empty", press=["p"])


def test_a_doctor_that_cannot_look_says_so(desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_: Desk, *, is_quick: bool) -> Report:
        raise doctor.Refused("The state directory is gone")

    monkeypatch.setattr(doctor, "look", look)
    shoot(desk, "doctor", "doctor-failing")


@pytest.mark.usefixtures("found")
def test_the_gravest_come_first_and_are_found_by_words(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        assert listed(pilot) == ["gpu.canary", "disk.media", "host.kernel", "host.memory", "stripe.key"]
        await press(pilot, "p")
        assert listed(pilot) == ["gpu.canary", "disk.media"]
        await press(pilot, "p")
        pilot.app.screen.query_one("#filter", Input).value = "host mem"
        await settle(pilot)
        assert listed(pilot) == ["host.memory"]

    drive(desk, "doctor", doing)


def test_f_looks_at_what_takes_long_too(desk: Desk, found: list[bool]) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "f", "f5")
        assert found[-2:] == [False, True]

    drive(desk, "doctor", doing)


@pytest.mark.usefixtures("found")
def test_y_copies_the_fix(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        copied: list[str] = []
        monkeypatch.setattr(pilot.app, "copy_to_clipboard", copied.append)
        await press(pilot, "down", "y")
        assert copied == ["mkdir -m 750 /srv/customhouse/media"]

    drive(desk, "doctor", doing)


@pytest.mark.usefixtures("found")
def test_mending_asks_does_it_and_is_written_down(desk: Desk, shoot: Shoot) -> None:
    desk.settings.media_dir.rmdir()

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "down", "m")
        assert not desk.settings.media_dir.exists()
        await press(pilot, "escape")
        assert not desk.settings.media_dir.exists()
        await press(pilot, "m")
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        assert desk.settings.media_dir.is_dir()

    shoot(desk, "doctor", "doctor-mend", press=["down", "m"])
    drive(desk, "doctor", doing)
    (line,) = lines(desk)
    assert (line.actor, line.subject) == (desk.actor, "disk.media")


@pytest.mark.usefixtures("found")
def test_what_no_program_may_mend_is_said_and_left(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "m")
        assert len(pilot.app.screen_stack) == 2  # no dialog
        assert any("not for a program to mend" in one.message for one in pilot.app._notifications)

    drive(desk, "doctor", doing)
    assert not lines(desk)


@pytest.mark.usefixtures("found")
def test_who_may_only_look_mends_nothing(house: Any, settings: Settings) -> None:
    desk = Desk(settings, Access("operator:guest", False, "You may look"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "down", "m")
        assert len(pilot.app.screen_stack) == 2
        assert any("You may look" in one.message for one in pilot.app._notifications)

    drive(desk, "doctor", doing)
    desk.close()


def test_the_backend_looks_at_this_very_house_and_mends_one_check(desk: Desk) -> None:
    desk.settings.media_dir.rmdir()
    report = doctor.look(desk, is_quick=True)
    states = {one.id: one.state for one in report.findings}
    assert states["settings.parse"] is State.OK
    assert states["disk.media"] is State.WARNING
    assert doctor.mend(desk, "disk.media").state is State.OK
    with pytest.raises(doctor.Refused):
        doctor.mend(desk, "disk.media")


@pytest.mark.usefixtures("found")
def test_g_and_d_go_there(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "g", "d")
        assert pilot.app.screen.query_one(Rows).id == "doctor"

    drive(desk, "keys", doing)
