"""GET /api/v1/jobs/export: the bytes of the file, what may stand in a cell, ranges, and that nothing grows or waits."""

import asyncio
import csv
import io
import itertools
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance import clock, database
from appliance.api import history as door
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import export
from tests import made
from tests.cast import Person, enrol
from tests.made import DAY, HOUR
from tests.test_history import planned

Client = TestClient[Any]

T0 = 1_779_192_000_000  # 2026-05-19T12:00Z
DAY_OF = {"from": "2026-05-19", "to": "2026-05-20"}
COLUMNS = (
    "job_id,type,status,is_prohibited,created_at,completed_at,prompt,reason,"
    "category_ai_adult_general,category_underage,category_nsfw"
)


def exported(client: Client, person: Person, **query: Any) -> bytes:
    response = client.get("/api/v1/jobs/export", params=query or DAY_OF, headers=person.headers)
    assert response.status_code == 200, response.text
    return response.content


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_the_file_is_the_contracts_to_the_byte(client: Client, house: House, alice: Person) -> None:
    made.insert(
        house,
        [
            made.job(
                alice.org_id, T0, id="00000000-0000-4000-8000-000000000001", text='a "quiet" harbour,\r\nby night'
            ),
            made.job(
                alice.org_id,
                T0 + 1,
                id="00000000-0000-4000-8000-000000000002",
                kind="IMAGE_MODERATION",
                is_prohibited=1,
                categories='{"ai_adult_general":false,"nsfw":true,"custom":{}}',
                reason="kept to ourselves",
            ),
            made.job(
                alice.org_id,
                T0 + 2,
                id="00000000-0000-4000-8000-000000000003",
                is_prohibited=1,
                text="été 🙂",
                reason="The text contained a blacklisted keyword.",
            ),
            made.job(
                alice.org_id,
                T0 + 3,
                id="00000000-0000-4000-8000-000000000004",
                kind="VIDEO_MODERATION",
                status="failed",
                is_prohibited=0,
                categories='{"nsfw":true,"custom":{}}',
            ),
            made.job(
                alice.org_id,
                T0 + 4,
                id="00000000-0000-4000-8000-000000000005",
                status="queued",
                is_prohibited=None,
                categories=None,
                completed_at=None,
            ),
        ],
    )
    response = client.get("/api/v1/jobs/export", params=DAY_OF, headers=alice.headers)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="jobs_2026-05-19_2026-05-20.csv"'
    assert response.content.decode() == (
        f"\ufeff{COLUMNS}\r\n"
        "00000000-0000-4000-8000-000000000001,prompt,completed,false,2026-05-19T12:00:00.000Z,2026-05-19T12:00:01.500Z,"
        '"a ""quiet"" harbour,\r\nby night",,,,\r\n'
        "00000000-0000-4000-8000-000000000002,image,completed,true,2026-05-19T12:00:00.001Z,2026-05-19T12:00:01.501Z,"
        ",,false,,true\r\n"
        "00000000-0000-4000-8000-000000000003,prompt,completed,true,2026-05-19T12:00:00.002Z,2026-05-19T12:00:01.502Z,"
        '"été 🙂","The text contained a blacklisted keyword.",,,\r\n'
        "00000000-0000-4000-8000-000000000004,video,failed,,2026-05-19T12:00:00.003Z,2026-05-19T12:00:01.503Z,,,,,\r\n"
        '00000000-0000-4000-8000-000000000005,prompt,queued,,2026-05-19T12:00:00.004Z,,"a lighthouse at dawn",,,,\r\n'
    )


def test_an_empty_range_is_the_header_alone(client: Client, alice: Person) -> None:
    assert exported(client, alice) == f"\ufeff{COLUMNS}\r\n".encode()


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize("column", ["text", "reason"])
def test_what_a_spreadsheet_takes_for_a_formula_has_an_apostrophe_before_it(
    client: Client, house: House, alice: Person, first: str, column: str
) -> None:
    written = f'{first}HYPERLINK("x")'
    made.insert(house, [made.job(alice.org_id, T0, is_prohibited=1, **{"reason": "r", column: written})])
    (row,) = table(exported(client, alice))
    cell = {"text": "prompt", "reason": "reason"}[column]
    assert row[cell] == f"'{written}"
    assert {"prompt": "a lighthouse at dawn", "reason": "r"}[_other(cell)] == row[_other(cell)]


def _other(cell: str) -> str:
    return "reason" if cell == "prompt" else "prompt"


@pytest.mark.parametrize(
    "text", ["", "'", '"', '""', "a=b", " =1", "\n=1", "\x00", "a\x00b", "x" * 20_000, "🙂" * 500, ",,,"]
)
def test_any_other_prompt_comes_back_as_it_was_sent(client: Client, house: House, alice: Person, text: str) -> None:
    made.insert(house, [made.job(alice.org_id, T0, text=text), made.job(alice.org_id, T0 + 1)])
    first, second = table(exported(client, alice))
    assert (first["prompt"], second["prompt"]) == (text, "a lighthouse at dawn")


def test_a_prompt_that_is_no_longer_kept_is_an_empty_cell(client: Client, house: House, alice: Person) -> None:
    kept, purged = made.job(alice.org_id, T0), made.job(alice.org_id, T0 + 1)
    made.insert(house, [kept, purged])
    house.db.write(lambda conn: conn.execute("DELETE FROM job_input WHERE job_id = :id", purged))
    content = exported(client, alice)
    assert [row["prompt"] for row in table(content)] == ["a lighthouse at dawn", ""]
    assert content.endswith(b",,,,,\r\n")


def test_a_pictures_reason_is_exported_only_when_the_operator_says_so(house: House, alice: Person) -> None:
    made.insert(
        house, [made.job(alice.org_id, T0, kind="IMAGE_MODERATION", is_prohibited=1, reason="It was flagged as NSFW.")]
    )
    told = [
        export.piece(house.db.reader(), alice.org_id, [], export.beginning(0), T0 + 1, expose_reasons=expose)[0]
        for expose in (False, True)
    ]
    assert [b"flagged" in lines for lines in told] == [False, True]


def test_every_custom_category_that_judged_in_the_range_has_a_column(
    client: Client, house: House, alice: Person, charlie: Person
) -> None:
    def image(at: int, custom: str, **how: Any) -> dict[str, Any]:
        return made.job(alice.org_id, at, kind="IMAGE_MODERATION", categories=f'{{"custom":{custom}}}', **how)

    made.insert(
        house,
        [
            image(T0, '{"dogs":true,"boats":false}', is_prohibited=1),
            image(T0 + 1, '{"boats":true}', is_prohibited=1),
            image(T0 + 2, "{}"),
            image(T0 + DAY, '{"cats":true}', is_prohibited=1),
            {**image(T0, '{"birds":true}', is_prohibited=1), "org_id": charlie.org_id},
        ],
    )
    content = exported(client, alice)
    assert content.decode("utf-8-sig").split("\r\n")[0] == f"{COLUMNS},category_custom_boats,category_custom_dogs"
    cells = [(row["category_custom_boats"], row["category_custom_dogs"]) for row in table(content)]
    assert cells == [("false", "true"), ("true", ""), ("", "")]
    both = exported(client, alice, **{"from": "2026-05-19", "to": "2026-05-21"})
    assert both.decode("utf-8-sig").split("\r\n")[0].endswith("custom_boats,category_custom_cats,category_custom_dogs")


def test_every_row_of_the_range_comes_once_oldest_first_however_it_is_cut(
    client: Client, house: House, alice: Person, charlie: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ROWS", 7)
    jobs = made.random_jobs(alice.org_id, 300, T0 - DAY, T0 + DAY, seed=6)
    made.insert(house, [*jobs, *made.random_jobs(charlie.org_id, 50, T0 - DAY, T0 + DAY, seed=7)])
    rows = table(exported(client, alice, **{"from": "2026-05-19", "to": "2026-05-20T00:00:00Z"}))
    midnight = T0 - 12 * HOUR
    within = [job for job in jobs if midnight <= job["created_at"] < midnight + DAY]
    within.sort(key=lambda job: job["id"], reverse=True)
    within.sort(key=lambda job: job["created_at"])
    assert [row["job_id"] for row in rows] == [job["id"] for job in within]
    for row, job in zip(rows, within, strict=True):
        assert row["created_at"] == clock.rfc3339(job["created_at"])
        assert row["completed_at"] == ("" if job["completed_at"] is None else clock.rfc3339(job["completed_at"]))
        verdict = job["is_prohibited"] if job["status"] == "completed" else None
        assert row["is_prohibited"] == {None: "", 0: "false", 1: "true"}[verdict]


def test_times_are_written_as_everywhere_else(house: House, alice: Person) -> None:
    times = [T0 + ms for ms in range(1000)] + [0, 1, 999, 4_102_444_799_999, 1_709_208_000_001]
    made.insert(house, [made.job(alice.org_id, at) for at in times])
    lines, _ = export.piece(
        house.db.reader(), alice.org_id, [], export.beginning(0), 5_000_000_000_000, expose_reasons=False
    )
    written = [line.split(",")[4] for line in lines.decode().splitlines()]
    assert written == [clock.rfc3339(at) for at in sorted(times)]


@pytest.mark.parametrize(
    ("query", "field", "issue"),
    [
        ({"to": "2026-05-20"}, "from", "is required"),
        ({"from": "2026-05-20"}, "to", "is required"),
        ({}, "from", "is required"),
        ({"from": "2026-05-20", "to": "2026-05-20"}, "to", "must be after from"),
        ({"from": "2026-05-20", "to": "2026-05-19"}, "to", "must be after from"),
        ({"from": "2025-01-01", "to": "2026-01-03"}, "to", "more than 366 days"),
        ({"from": "2025-01-01", "to": "2026-01-02T00:00:00.001Z"}, "to", "more than 366 days"),
        ({"from": "May", "to": "2026-05-20"}, "from", "ISO 8601"),
    ],
)
def test_a_range_that_is_none_or_is_367_days_is_an_invalid_request(
    client: Client, alice: Person, query: dict[str, str], field: str, issue: str
) -> None:
    response = client.get("/api/v1/jobs/export", params=query, headers=alice.headers)
    assert response.status_code == 400
    body = response.json()
    assert body["error"] == "INVALID_REQUEST"
    assert body["details"][0]["field"] == field
    assert issue in body["message"]


def test_366_days_are_exported_and_a_range_within_a_day_has_its_times_in_the_name(
    client: Client, alice: Person
) -> None:
    exported(client, alice, **{"from": "2024-01-01", "to": "2025-01-01"})
    exported(client, alice, **{"from": "2025-01-01T06:00:00Z", "to": "2026-01-02T06:00:00Z"})
    query = {"from": "2026-05-19T12:30:00+02:00", "to": "2026-05-20"}
    response = client.get("/api/v1/jobs/export", params=query, headers=alice.headers)
    assert 'filename="jobs_2026-05-19T103000Z_2026-05-20.csv"' in response.headers["content-disposition"]


def test_the_last_moment_that_there_is_may_be_named(client: Client, alice: Person) -> None:
    """Rounded up to a millisecond it would lie in the year 10000, which has no date."""
    exported(client, alice, **{"from": "9999-06-01", "to": "9999-12-31T23:59:59.9999999Z"})
    exported(client, alice, **{"from": "0001-01-01", "to": "0001-02-01"})


def test_there_may_be_more_custom_categories_than_a_function_takes_arguments(
    client: Client, house: House, alice: Person
) -> None:
    made.insert(house, [made.job(alice.org_id, T0, categories='{"custom":{"s0000":true,"s1199":false}}')])

    def judged(conn: Connection) -> None:
        hour = T0 - T0 % 3_600_000
        more = [(alice.org_id, hour, f"s{number:04d}") for number in range(1, 1199)]
        conn.executemany("INSERT INTO usage_custom VALUES (?, ?, ?, 1, 0)", more)

    house.db.write(judged)
    (row,) = table(exported(client, alice))
    assert len(row) == 11 + 1200
    found = [row[f"category_custom_s{number}"] for number in ("0000", "0001", "1199")]
    assert found == ["true", "", "false"]


def test_charlie_exports_nothing_of_alices(client: Client, house: House, alice: Person, charlie: Person) -> None:
    made.insert(house, [made.job(alice.org_id, T0)])
    assert table(exported(client, charlie)) == []


def test_a_piece_is_bounded_by_its_prompts_too(house: House, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_BYTES", 100_000)
    made.insert(house, [made.job(alice.org_id, T0 + n, text="🙂" * 10_000) for n in range(12)])
    place: export.Place | None = export.beginning(0)
    sizes: list[int] = []
    while place is not None:
        lines, place = export.piece(house.db.reader(), alice.org_id, [], place, T0 + DAY, expose_reasons=False)
        sizes.append(len(lines))
    assert sum(sizes) > 12 * 40_000
    assert max(sizes) < 101_000


def test_a_piece_reads_through_indexes_only_and_sorts_nothing(house: House, alice: Person) -> None:
    made.insert(house, made.random_jobs(alice.org_id, 50, T0 - DAY, T0, seed=8))
    for place, until in itertools.product([export.beginning(0), export.Place(T0, "a")], [T0, T0 + DAY]):

        def ask(conn: Any, place: export.Place = place, until: int = until) -> None:
            export.piece(conn, alice.org_id, ["dogs"], place, until, expose_reasons=False)
            export.slugs(conn, alice.org_id, T0, until)

        steps = [step for plan in planned(house, ask) for step in plan]
        assert any("job_of_org" in step for step in steps)
        assert any(re.match(r"SEARCH job_content USING INTEGER PRIMARY KEY", step) for step in steps), steps
        assert not any(
            re.match(r"SCAN (job|job_\w+|usage\w*)\b", step) or "TEMP B-TREE FOR ORDER" in step for step in steps
        )


def test_while_an_export_waits_for_its_client_the_log_can_be_checkpointed(
    house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ROWS", 5)
    made.insert(house, made.random_jobs(alice.org_id, 100, T0 - DAY, T0, seed=9))

    async def half_way() -> tuple[int, int, int]:
        lines = door._lines(_Door(house), alice.org_id, 0, T0 + DAY)  # pyright: ignore[reportArgumentType]
        await anext(lines)
        await anext(lines)
        await asyncio.sleep(0.05)  # the next piece is read by now; the client does not take it
        made.insert(house, [made.job(alice.org_id, T0 - 2 * DAY)])
        busy, logged, moved = await asyncio.to_thread(_checkpointed, house)
        await lines.aclose()
        return busy, logged, moved

    busy, logged, moved = asyncio.run(half_way())
    assert (busy, logged) == (0, moved)


def _checkpointed(house: House) -> tuple[int, int, int]:
    conn = database.connect(house.settings.database)
    try:
        return tuple(conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    finally:
        conn.close()


class _Door:
    """What the export needs of a door."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.exports = ThreadPoolExecutor(1)


def test_a_client_that_hangs_up_costs_two_pieces_more_at_most(
    house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ROWS", 5)
    made.insert(house, made.random_jobs(alice.org_id, 200, T0 - DAY, T0, seed=10))
    read: list[int] = []
    whole = export.lines

    def counted(*args: Any, **kwargs: Any) -> Any:
        read.append(1)
        return whole(*args, **kwargs)

    monkeypatch.setattr(export, "lines", counted)

    async def hang_up() -> None:
        lines = door._lines(_Door(house), alice.org_id, 0, T0 + DAY)  # pyright: ignore[reportArgumentType]
        for _ in range(3):
            await anext(lines)
        await lines.aclose()
        await asyncio.sleep(0.1)

    asyncio.run(hang_up())
    assert 2 <= len(read) <= 4, "two pieces, and those that may have been written meanwhile"


def test_the_event_loop_goes_on_while_a_piece_is_read(house: House, alice: Person) -> None:
    """What is read, is read in another thread: here none of the loop's own ever asks the database."""
    made.insert(house, made.random_jobs(alice.org_id, 200, T0 - DAY, T0, seed=11))
    asked_from: set[int] = set()
    reader = house.db.reader

    def noted() -> Any:
        asked_from.add(threading.get_ident())
        return reader()

    house.db.reader = noted  # pyright: ignore[reportAttributeAccessIssue]

    async def all_of_it() -> int:
        return sum([len(piece) async for piece in door._lines(_Door(house), alice.org_id, 0, T0 + DAY)])  # pyright: ignore[reportArgumentType]

    begun = time.monotonic()
    assert asyncio.run(all_of_it()) > 1000
    assert threading.get_ident() not in asked_from
    assert asked_from
    assert time.monotonic() - begun < 60


def test_a_key_that_may_not_read_jobs_may_not_export_them(client: Client, house: House) -> None:
    narrow = enrol(house, "A", "narrow", granted=("usage:read",))
    response = client.get("/api/v1/jobs/export", params=DAY_OF, headers=narrow.headers)
    assert response.status_code == 403


def test_no_mapping_of_the_file_outlives_its_piece(house: House, alice: Person) -> None:
    made.insert(house, [made.job(alice.org_id, T0)])
    conn = house.db.reader()
    lines, _ = export.piece(conn, alice.org_id, [], export.beginning(0), T0 + 1, expose_reasons=False)
    assert lines.endswith(b"\r\n")
    assert conn.execute("PRAGMA mmap_size").fetchone()[0] == 0
