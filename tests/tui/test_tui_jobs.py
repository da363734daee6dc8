"""The jobs' screen: a long list and one job in full; what is new is followed, a failed one is done again."""

import json
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from appliance import audit
from appliance.access import Access
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.jobs import browse
from appliance.jobs.browse import Wanted
from appliance.jobs.job import Finding, JobKind, Score, Status
from appliance.settings import Settings
from tests import made
from tests.made import DAY
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, picture, settle
from tui.backend import jobs
from tui.backend.desk import Desk
from tui.screens.jobs import Source, said, took, when
from tui.widgets.rows import Rows

VIDEO, IMAGE, FAILED = (f"{n:08d}-0000-4000-8000-000000000000" for n in (1, 2, 3))
PLAN = '{"checks":["nsfw","underage"]}'


def finding(category: str, score: float, threshold: float, **more: Any) -> str:
    one = Score(category, "eyes", category, score, threshold, "cuda:0", "0123456789abcdef", 12.4)
    return msgspec.json.encode(Finding({category: one.is_over}, [one], **more)).decode()


@pytest.fixture
def stocked(house: House) -> tuple[str, str]:
    """200 jobs of two organisations, and three whose every part is known."""

    def fill(conn: Connection) -> tuple[str, str]:
        alice = organisations.get_or_create(conn, "Alice & Co").id
        bob = organisations.get_or_create(conn, "bob").id
        many = made.random_jobs(alice, 140, NOON - 2 * DAY, NOON, 1) + made.random_jobs(bob, 60, NOON - DAY, NOON, 2)
        many.sort(key=lambda one: one["created_at"])
        given = {"request_id": "req_1", "plan": PLAN}
        known = [
            made.job(alice, NOON - 9000, id=VIDEO, kind="VIDEO_MODERATION", total=3, done=3, gpu_ms=37, **given),
            made.job(
                bob,
                NOON - 5000,
                id=IMAGE,
                kind="IMAGE_MODERATION",
                is_prohibited=1,
                categories='{"underage":false,"nsfw":true,"custom":{}}',
                **given,
            ),
            made.job(
                bob,
                NOON - 3000,
                id=FAILED,
                status="failed",
                is_prohibited=None,
                error_code="MODEL_UNAVAILABLE",
                error="eyes did not answer\x1b[31m[red]",
                **given,
            ),
        ]
        made.insert_into(conn, [{**one, "plan": PLAN} for one in many] + known)
        child = (
            "INSERT INTO child (id, job_id, parent_id, kind, subject, at_ms, status, attempts, finding, is_positive, "
        )
        child += "error_code, error, created_at, started_at, finished_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        at = NOON - 9000
        extraction = (1, VIDEO, None, "FRAME_EXTRACTION", "", None, "completed", 1, None, None, None, None)
        conn.execute(child, (*extraction, at, at, at + 300))
        for n, score in enumerate((0.12, 0.46, 0.31)):
            frame = (2 + n, VIDEO, 1, "FRAME_MODERATION", "", n * 1500, "completed", 1, finding("nsfw", score, 0.5), 0)
            conn.execute(child, (*frame, None, None, at, at + 300, at + 340))
        for n, (slug, score) in enumerate((("underage", 0.1), ("nsfw", 0.93))):
            one = (10 + n, IMAGE, None, "VLM_CLASSIFICATION", slug, None, "completed", 2, finding(slug, score, 0.5))
            conn.execute(child, (*one, int(score > 0.5), None, None, at, at, at + 90))
        broken = (20, FAILED, None, "TEXT_MODERATION", "", None, "failed", 3, None, None)
        conn.execute(child, (*broken, "MODEL_UNAVAILABLE", "eyes did not answer", at, at, at + 4000))
        conn.execute(
            "INSERT INTO delivery (id, org_id, job_id, url, is_global, body, status, attempts, next_at, created_at) "
            "VALUES (?, ?, ?, 'https://hook.example/in', 1, '{}', 'delivered', 2, 0, ?)",
            (f"wh_{IMAGE}", bob, IMAGE, NOON),
        )
        for n, status in enumerate((503, 200)):
            conn.execute(
                "INSERT INTO delivery_attempt (delivery_id, at, http_status, ms) VALUES (?, ?, ?, 12)",
                (f"wh_{IMAGE}", NOON + n * 1000, status),
            )
        return alice, bob

    return house.db.write(fill)


def table(pilot: Pilot[None]) -> Rows:
    return pilot.app.screen.query_one("#jobs", Rows)


def key(pilot: Pilot[None]) -> str:
    line = table(pilot).current
    return "" if line is None else line.key


def count(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#count", Static).render())


async def press(pilot: Pilot[None], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await settle(pilot)


async def narrow(pilot: Pilot[None], text: str) -> None:
    pilot.app.screen.query_one("#filter", Input).value = text
    await settle(pilot)


LOOKS = [
    ("full-small-dark", SMALL, "textual-dark"),
    ("full-wide-dark", WIDE, "textual-dark"),
    ("full-small-light", SMALL, "textual-light"),
    ("full-wide-light", WIDE, "textual-light"),
]


@pytest.mark.parametrize(("name", "size", "theme"), LOOKS)
@pytest.mark.usefixtures("stocked")
def test_jobs_look_as_held(desk: Desk, shoot: Shoot, name: str, size: tuple[int, int], theme: str) -> None:
    shoot(desk, "jobs", f"jobs-{name}", size=size, theme=theme)


def test_no_jobs_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "jobs", "jobs-empty")


@pytest.mark.usefixtures("stocked")
def test_jobs_that_cannot_be_read_are_said(desk: Desk, shoot: Shoot) -> None:
    desk.house.db.write(lambda conn: conn.execute("ALTER TABLE job RENAME COLUMN reason TO gone"))
    shoot(desk, "jobs", "jobs-failing")


@pytest.mark.usefixtures("stocked")
def test_details_and_dialogs_of_jobs_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "jobs", "jobs-detail-failed-small", press=["enter"])
    shoot(desk, "jobs", "jobs-detail-image-wide", press=["down", "enter"], size=WIDE)
    shoot(
        desk, "jobs", "jobs-detail-video-wide-light", press=["down", "down", "enter"], size=WIDE, theme="textual-light"
    )
    shoot(desk, "jobs", "jobs-filtered", press=["slash", *"verdict:prohibited kind:image", "enter"])
    shoot(desk, "jobs", "jobs-narrow", press=["f"])
    shoot(desk, "jobs", "jobs-retry", press=["r"])
    shoot(desk, "jobs", "jobs-picture", press=["v"])


@pytest.mark.usefixtures("stocked")
def test_the_filter_narrows_as_it_is_typed_and_says_what_is_wrong(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        assert count(pilot) == "203"
        await narrow(pilot, "org:'Alice & Co' kind:video")
        lines = table(pilot).window(0, 500)
        assert lines
        assert {(str(line.cells[1]), str(line.cells[3])) for line in lines} == {("video", "Alice & Co")}
        await narrow(pilot, "status:lost")
        assert count(pilot) == "status: is one of queued, processing, completed, failed"
        assert table(pilot).window(0, 500) == lines  # they stay
        await narrow(pilot, "from:soon")
        assert "is no moment" in count(pilot)
        await narrow(pilot, "org:nobody")
        assert "nobody" in count(pilot)
        await narrow(pilot, FAILED)
        assert [line.key for line in table(pilot).window(0, 5)] == [FAILED]
        await narrow(pilot, "eyes did not")
        assert [line.key for line in table(pilot).window(0, 5)] == [FAILED]
        await narrow(pilot, "nothing like it")
        assert table(pilot).row_count == 0
        assert table(pilot).empty.startswith("No job is like that")
        await press(pilot, "escape")
        assert count(pilot) == "203"

    drive(desk, "jobs", doing)


@pytest.mark.usefixtures("stocked")
def test_the_form_writes_the_filter_and_o_takes_the_organisation(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "f")
        pilot.app.screen.query_one("#ask-org", Input).value = "Alice & Co"
        pilot.app.screen.query_one("#ask-search", Input).value = VIDEO[:8]
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        assert pilot.app.screen.query_one("#filter", Input).value == f"org:'Alice & Co' {VIDEO[:8]}"
        assert [line.key for line in table(pilot).window(0, 5)] == [VIDEO]
        await press(pilot, "f")
        assert pilot.app.screen.query_one("#ask-org", Input).value == "Alice & Co"
        await press(pilot, "escape", "escape")
        await press(pilot, "o")
        assert pilot.app.screen.query_one("#filter", Input).value == "org:bob"
        assert {str(line.cells[3]) for line in table(pilot).window(0, 500)} == {"bob"}

    drive(desk, "jobs", doing)


def test_what_comes_is_followed_at_the_top_and_counted_below_it(desk: Desk, stocked: tuple[str, str]) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        screen: Any = pilot.app.screen
        made.insert(desk.house, [made.job(stocked[1], NOON, id="aaaaaaaa-0000-4000-8000-000000000001", plan=PLAN)])
        screen._load_if_seen()
        await settle(pilot)
        assert key(pilot).startswith("aaaaaaaa")
        await press(pilot, "down", "down")
        here = table(pilot).current
        two = [made.job(stocked[1], NOON + n, id=f"bbbbbbbb-0000-4000-8000-00000000000{n}", plan=PLAN) for n in (1, 2)]
        made.insert(desk.house, two)
        screen._load_if_seen()
        await settle(pilot)
        assert table(pilot).current == here
        assert table(pilot).cursor == 4
        assert count(pilot) == "▲ 2 new: home   206"
        await press(pilot, "home")
        assert count(pilot) == "206"
        await press(pilot, "f5")
        assert count(pilot) == "206"

    drive(desk, "jobs", doing)


def test_a_state_that_changes_is_seen_to_change(desk: Desk, stocked: tuple[str, str]) -> None:
    opened = made.job(stocked[0], NOON, status="processing", is_prohibited=None, completed_at=None, total=4, done=1)
    made.insert(desk.house, [{**opened, "plan": PLAN}])

    async def doing(pilot: Pilot[None]) -> None:
        screen: Any = pilot.app.screen
        assert table(pilot).window(0, 1)[0].cells[2] == "… 1/4"
        await narrow(pilot, "status:processing org:'Alice & Co'")
        before = table(pilot).row_count
        desk.house.db.write(
            lambda conn: conn.execute(
                "UPDATE job SET status = 'completed', is_prohibited = 0, completed_at = ? WHERE id = ?",
                (NOON, opened["id"]),
            )
        )
        screen._load_if_seen()
        await settle(pilot)
        assert table(pilot).row_count == before - 1

    drive(desk, "jobs", doing)


@pytest.mark.usefixtures("stocked")
def test_the_oldest_come_first_when_the_head_is_asked_so(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "end")
        oldest = table(pilot).current
        await press(pilot, "home", "greater_than_sign")
        assert table(pilot).window(0, 1) == [oldest]
        await press(pilot, "home")
        assert table(pilot).current == oldest

    drive(desk, "jobs", doing)


@pytest.mark.usefixtures("stocked")
def test_a_failed_job_is_done_again_with_a_reason(desk: Desk) -> None:
    # what is stocked has waited for more than an hour: nothing would be let in behind it
    settings = desk.house.settings
    server = msgspec.structs.replace(settings.server, max_queue_age_s=0.0)
    desk.house.settings = msgspec.structs.replace(settings, server=server)

    async def doing(pilot: Pilot[None]) -> None:
        assert key(pilot) == FAILED
        await press(pilot, "r", "enter")  # cancel has the focus
        assert lines(desk) == []
        await press(pilot, "r")
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        assert "needed" in str(pilot.app.screen.query_one("#wrong", Static).render())
        pilot.app.screen.query_one("#ask-reason", Input).value = "the model is back"
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        [line] = lines(desk)
        assert (line.actor, line.subject, line.reason) == (desk.actor, FAILED, "the model is back")
        newest = table(pilot).window(0, 1)[0]
        assert newest.key == line.detail["new_job"]
        assert newest.cells[2] == "… queued"
        await press(pilot, "home", "down", "r")  # the failed one: once is enough
        assert len(pilot.app.screen_stack) == 2
        assert len(lines(desk)) == 1

    drive(desk, "jobs", doing)


@pytest.mark.usefixtures("stocked")
def test_who_may_only_look_retries_nothing(house: House, settings: Settings) -> None:
    desk = Desk(settings, Access("operator:kim", False, "You may look"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "r")
        assert len(pilot.app.screen_stack) == 2

    try:
        drive(desk, "jobs", doing)
        with pytest.raises(CustomhouseError):
            jobs.retry(desk, FAILED, "why")
        assert lines(desk) == []
    finally:
        desk.close()


@pytest.mark.usefixtures("stocked")
def test_a_picture_takes_two_steps_and_is_gone_as_promised(desk: Desk) -> None:
    said_so: list[str] = []

    async def doing(pilot: Pilot[None]) -> None:
        screen: Any = pilot.app.screen
        screen.trouble = lambda error: said_so.append(error.message)
        await press(pilot, "down", "v", "enter")
        assert said_so == []
        await press(pilot, "v")
        pilot.app.screen.query_one("#word", Input).value = "show"
        await pilot.pause()
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)

    drive(desk, "jobs", doing)
    assert said_so == ["Gone, as promised: pictures and videos are deleted when their job closes"]


def test_a_picture_is_blurred_and_never_shown_without_the_word_of_underage(
    desk: Desk, stocked: tuple[str, str]
) -> None:
    drawn = cv2.imencode(".png", np.full((48, 64, 3), (30, 30, 200), np.uint8))[1].tobytes()
    (desk.settings.media_dir / "drawn").write_bytes(drawn)
    opened = made.job(
        stocked[0], NOON, kind="IMAGE_MODERATION", status="processing", is_prohibited=None, completed_at=None, plan=PLAN
    )

    def put(conn: Connection) -> None:
        made.insert_into(conn, [opened])
        conn.execute("UPDATE job_content SET path = 'drawn' WHERE job_id = ?", (opened["id"],))
        conn.execute(
            "INSERT INTO child (id, job_id, kind, subject, status, created_at) "
            "VALUES (99, ?, 'VLM_CLASSIFICATION', 'underage', 'completed', 0)",
            (opened["id"],),
        )

    desk.house.db.write(put)
    with pytest.raises(CustomhouseError, match="has not answered"):
        jobs.picture(desk, opened["id"])

    def answer(score: float) -> None:
        sql = "UPDATE child SET finding = ? WHERE id = 99"
        desk.house.db.write(lambda conn: conn.execute(sql, (finding("underage", score, 0.5),)))

    answer(0.9)
    with pytest.raises(CustomhouseError, match="flagged it"):
        jobs.picture(desk, opened["id"])
    answer(0.1)
    seen = jobs.picture(desk, opened["id"])
    assert len(seen) <= 24
    assert {cell for row in seen for cell in row} == {(200, 30, 30)}
    with pytest.raises(CustomhouseError, match="is a text"):
        jobs.picture(desk, FAILED)


@pytest.mark.usefixtures("stocked")
def test_a_detail_has_no_content_and_no_escape(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "enter")
        shown = picture(pilot, SMALL)
        assert "MODEL_UNAVAILABLE: eyes did not answer\ufffd[31m[red]" in shown
        assert "lighthouse" not in shown

    found = jobs.detail(desk, FAILED)
    assert found is not None
    assert "lighthouse" not in json.dumps(msgspec.to_builtins(found), default=str)
    assert jobs.detail(desk, "00000000-0000-4000-8000-000000000009") is None
    drive(desk, "jobs", doing)


@pytest.mark.usefixtures("stocked")
def test_the_copied_id_is_the_jobs(desk: Desk) -> None:
    copied: list[str] = []

    async def doing(pilot: Pilot[None]) -> None:
        pilot.app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
        await press(pilot, "y")

    drive(desk, "jobs", doing)
    assert copied == [FAILED]


def test_every_filter_has_its_words(desk: Desk, stocked: tuple[str, str]) -> None:
    wanted = jobs.asked(
        desk, "org:bob kind:image status:completed verdict:passed category:nsfw from:2h to:1h some words"
    )
    assert wanted == Wanted(
        stocked[1], JobKind.IMAGE, Status.COMPLETED, False, "nsfw", NOON - 7_200_000, NOON - 3_600_000, "some words"
    )
    assert jobs.asked(desk, "") == Wanted()
    assert jobs.asked(desk, "http://x 'two words").search == "http://x 'two words"


def test_ten_thousand_pages_cost_a_look_up_each(desk: Desk, stocked: tuple[str, str]) -> None:
    """Wherever one jumps to, one statement by number is run, over as many rows as a page has."""
    book = jobs.Book(desk, Wanted())
    while book.grow():
        pass
    source = Source(book, NOON)
    steps: list[int] = []
    conn = desk.house.db.reader()
    conn.set_progress_handler(lambda: steps.append(1) or 0, 100)
    for first in (0, 50, 100, 150):
        steps.clear()
        assert len(source.window(first, 20)) == 20
        assert len(steps) < 40
    conn.set_progress_handler(None, 0)
    assert browse.seq_of(conn, FAILED) is not None
    assert source.place(FAILED, 0) == 0


def test_states_and_times_in_words() -> None:
    assert said("completed", None, 0, 0) == ("? no verdict", "warn")
    assert said("completed", True, 0, 0) == ("✗ prohibited", "warn")
    assert said("processing", None, 3, 10) == ("… 3/10", "muted")
    assert said("queued", None, 0, 0) == ("… queued", "muted")
    assert said("failed", None, 0, 0) == ("! failed", "bad")
    assert [took(ms) for ms in (None, 5, 1500, 600_000)] == ["", "5 ms", "1.5 s", "10 min"]
    assert when(NOON - 1000, NOON) == "11:59:59"
    assert when(NOON - DAY, NOON) == "05-18 12:00"
    assert when(NOON - 365 * DAY, NOON) == "2025-05-19"


def lines(desk: Desk) -> list[audit.Line]:
    return desk.read(lambda conn: audit.page(conn, audit.Filter(action="job.retried")))
