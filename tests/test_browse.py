"""The operator's walk through the jobs: any filter, any place, what comes meanwhile; and a failed job again."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance import audit, clock
from appliance.__main__ import root
from appliance.accounts import organisations
from appliance.errors import InvalidRequest, NotFound
from appliance.house import House
from appliance.jobs import browse, explain, rows
from appliance.jobs import retry as again
from appliance.jobs.browse import Catalogue, Wanted
from appliance.jobs.job import ChildKind, Finding, JobKind, Plan, Score, Status
from appliance.jobs.rows import Child, JobRow
from appliance.settings import Settings
from tests import made
from tests.made import DAY

NOON = 1_779_192_000_000


def insert(house: House, jobs: list[dict[str, Any]]) -> None:
    made.insert(house, [{**job, "plan": '{"checks":["nsfw"]}'} for job in jobs])


@pytest.fixture
def filled(house: House) -> tuple[str, str]:
    """900 jobs of two organisations."""
    ids = []
    for name, count in (("alice", 600), ("bob", 300)):
        org = house.db.write(lambda conn, name=name: organisations.get_or_create(conn, name)).id
        insert(house, made.random_jobs(org, count, NOON - 3 * DAY, NOON, seed=count))
        ids.append(org)
    return ids[0], ids[1]


def whole(house: House, wanted: Wanted) -> Catalogue:
    catalogue = Catalogue(house.db.reader(), wanted)
    while catalogue.grow(house.db.reader()):
        pass
    return catalogue


def found(house: House, wanted: Wanted) -> list[browse.Listed]:
    catalogue = whole(house, wanted)
    seqs = catalogue.seqs(0, len(catalogue))
    return [job for job in browse.read(house.db.reader(), seqs) if job is not None]


def test_every_filter_finds_what_a_look_at_each_job_finds(house: House, filled: tuple[str, str]) -> None:
    every = found(house, Wanted())
    assert len(every) == 900
    assert [job.seq for job in every] == sorted((job.seq for job in every), reverse=True)
    mark = every[17]
    for wanted, holds in [
        (Wanted(org_id=filled[1]), lambda job: job.org_id == filled[1]),
        (Wanted(kind=JobKind.VIDEO), lambda job: job.kind is JobKind.VIDEO),
        (Wanted(status=Status.FAILED), lambda job: job.status is Status.FAILED),
        (Wanted(is_prohibited=True), lambda job: job.is_prohibited is True),
        (Wanted(is_prohibited=False), lambda job: job.is_prohibited is False),
        (Wanted(category="nsfw"), lambda job: "nsfw" in job.flagged),
        (Wanted(category="custom:dogs"), lambda job: "dogs" in job.flagged),
        (Wanted(since=NOON - DAY, until=NOON - DAY // 2), lambda job: NOON - DAY <= job.created_at < NOON - DAY // 2),
        (Wanted(search=mark.id[:2].upper()), lambda job: job.id.startswith(mark.id[:2])),
        (Wanted(search=mark.id), lambda job: job.id == mark.id),
        (
            Wanted(org_id=filled[0], kind=JobKind.IMAGE, is_prohibited=True),
            lambda job: job.org_id == filled[0] and job.kind is JobKind.IMAGE and job.is_prohibited is True,
        ),
    ]:
        expected = [job.id for job in every if holds(job)]
        assert expected, wanted
        assert [job.id for job in found(house, wanted)] == expected, wanted
    assert found(house, Wanted(category='x" or 1')) == []
    assert found(house, Wanted(search="' OR 1 --")) == []


def test_any_place_of_the_list_is_looked_up_both_ways(house: House, filled: tuple[str, str]) -> None:
    catalogue = whole(house, Wanted(kind=JobKind.PROMPT))
    newest = catalogue.seqs(0, len(catalogue))
    assert catalogue.seqs(0, len(catalogue), oldest_first=True) == newest[::-1]
    rng = random.Random(5)
    for _ in range(50):
        first = rng.randrange(len(newest))
        assert catalogue.seqs(first, 20) == newest[first : first + 20]
        assert catalogue.place(newest[first]) == first
        assert catalogue.place(newest[first], oldest_first=True) == len(newest) - 1 - first
    assert catalogue.seqs(len(newest), 5) == []
    assert catalogue.place(10**9) is None


def test_what_comes_and_ends_is_taken_in_and_what_was_removed_is_said(house: House, filled: tuple[str, str]) -> None:
    conn = house.db.reader()
    every, failed = whole(house, Wanted()), whole(house, Wanted(status=Status.FAILED))
    assert not every.renew(conn)
    top, count = every.seqs(0, 1)[0], len(failed)
    fresh = made.job(filled[0], NOON, status="processing", is_prohibited=None, completed_at=None)
    insert(house, [fresh])
    assert every.renew(conn)
    assert not failed.renew(conn)
    assert every.newer_than(top) == 1
    assert not every.renew(conn)
    # 2026-11-21: a video stood there as processing for as long as nothing new came
    house.db.write(lambda conn: conn.execute("UPDATE job SET status = 'completed' WHERE id = ?", (fresh["id"],)))
    assert every.renew(conn)
    assert not every.renew(conn)
    house.db.write(lambda conn: conn.execute("UPDATE job SET status = 'failed' WHERE id = ?", (fresh["id"],)))
    assert failed.renew(conn)
    assert len(failed) == count + 1
    seq = browse.seq_of(conn, fresh["id"])
    assert seq is not None
    assert failed.place(seq) == 0
    house.db.write(lambda conn: conn.execute("DELETE FROM job WHERE id = ?", (fresh["id"],)))
    assert browse.read(conn, every.seqs(0, 2))[0] is None
    assert browse.seq_of(conn, fresh["id"]) is None


def test_a_walk_in_stretches_is_a_walk_over_all(
    house: House, filled: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_FIRST", 7)
    monkeypatch.setattr(browse, "STRETCH", 100)
    catalogue = Catalogue(house.db.reader(), Wanted())
    assert catalogue.looked_at == 0.0
    assert catalogue.grow(house.db.reader())
    assert len(catalogue) == 7
    assert 0 < catalogue.looked_at < 0.1
    newest = catalogue.seqs(0, 7)
    while catalogue.grow(house.db.reader()):
        pass
    assert catalogue.looked_at == 1.0
    assert catalogue.seqs(0, 7) == newest
    assert len(catalogue) == 900


def test_an_empty_house_has_an_empty_list(house: House) -> None:
    catalogue = whole(house, Wanted())
    assert len(catalogue) == 0
    assert catalogue.is_whole
    assert not catalogue.renew(house.db.reader())


def test_a_tail_tells_each_job_once_as_it_ends(house: House, filled: tuple[str, str]) -> None:
    conn = house.db.reader()
    tail, failures = browse.Tail(conn, Wanted(org_id=filled[0])), browse.Tail(conn, Wanted(status=Status.FAILED))
    assert tail.ended(conn) == []
    one = made.job(filled[0], NOON)
    other = made.job(filled[1], NOON, status="failed", is_prohibited=None)
    waits = made.job(filled[0], NOON, status="queued", is_prohibited=None, completed_at=None)
    insert(house, [one, other, waits])
    assert [job.id for job in tail.ended(conn)] == [one["id"]]
    assert [job.id for job in failures.ended(conn)] == [other["id"]]
    assert tail.ended(conn) == []
    house.db.write(
        lambda conn: conn.execute("UPDATE job SET status = 'completed', completed_at = 5 WHERE id = ?", (waits["id"],))
    )
    assert [job.id for job in tail.ended(conn)] == [waits["id"]]


# --- again ------------------------------------------------------------------------------------------------------------


def failed_job(house: House, **given: object) -> str:
    org = house.db.write(lambda conn: organisations.get_or_create(conn, "alice")).id
    one = made.job(
        org, NOON, status="failed", is_prohibited=None, error_code="MODEL_UNAVAILABLE", error="it was away", **given
    )
    insert(house, [one])
    return one["id"]


def retried(house: House, job_id: str) -> again.Again:
    return house.db.write(lambda conn: again.retry(conn, house, job_id, actor="operator:kim", reason="it is back"))


def test_a_failed_job_is_done_again_as_a_new_one_and_once(house: House) -> None:
    job_id = failed_job(house)
    before = rows.job(house.db.reader(), job_id)
    made_again = retried(house, job_id)
    assert made_again.job.id != job_id
    assert made_again.job.status is Status.QUEUED
    assert made_again.follow_up.has_work
    given = rows.input_of(house.db.reader(), made_again.job.id)
    assert given is not None
    assert given.text == "a lighthouse at dawn"
    assert rows.job(house.db.reader(), job_id) == before  # nothing of the old one moved
    [line] = audit.page(house.db.reader(), audit.Filter(action="job.retried"))
    assert (line.actor, line.subject, line.reason) == ("operator:kim", job_id, "it is back")
    assert line.detail == {"new_job": made_again.job.id, "error_code": "MODEL_UNAVAILABLE"}
    with pytest.raises(InvalidRequest, match=f"again as job {made_again.job.id}"):
        retried(house, job_id)


def test_a_job_is_not_done_again_without_reason_to_or_content(house: House) -> None:
    org = house.db.write(lambda conn: organisations.get_or_create(conn, "alice")).id
    passed = made.job(org, NOON)
    insert(house, [passed])
    with pytest.raises(InvalidRequest, match="only a failed one"):
        retried(house, passed["id"])
    with pytest.raises(NotFound):
        retried(house, "00000000-0000-4000-8000-000000000000")
    purged = failed_job(house)
    house.db.write(lambda conn: conn.execute("DELETE FROM job_input WHERE job_id = ?", (purged,)))
    with pytest.raises(InvalidRequest, match="is gone"):
        retried(house, purged)
    upload = failed_job(house, kind="IMAGE_MODERATION")
    house.db.write(
        lambda conn: conn.execute("UPDATE job_content SET text = NULL, path = 'x' WHERE job_id = ?", (upload,))
    )
    with pytest.raises(InvalidRequest, match="submit the file again"):
        retried(house, upload)
    assert audit.page(house.db.reader(), audit.Filter(action="job.retried")) == []


# --- what would have flipped it ---------------------------------------------------------------------------------------


def judged(*scores: tuple[str, float, float], term: str | None = None, at_ms: int | None = None) -> Child:
    kind = ChildKind.FRAME if at_ms is not None else ChildKind.VLM
    found = [Score(category, "model", "label", score, threshold) for category, score, threshold in scores]
    finding = Finding({one.category: one.is_over for one in found}, found, term=term)
    return Child(1, "j", None, kind, "", at_ms, None, Status.COMPLETED, 1, None, finding, None, None, None, 0, 0, 0)


def job_row(is_prohibited: bool | None, status: Status = Status.COMPLETED) -> JobRow:
    return JobRow(
        1, "j", "o", None, JobKind.VIDEO, status, "stars", None, Plan([]), None, is_prohibited, {}, None, None, None,
        0, 0, 0, 0, 0,
    )  # fmt: skip


def test_the_nearest_threshold_says_by_how_much_it_was_missed() -> None:
    children = [judged(("nsfw", 0.2, 0.5), at_ms=1500), judged(("underage", 0.6, 0.7), at_ms=2500)]
    flip = explain.flip(job_row(False), children)
    assert str(flip) == "underage at 2.5 s: 0.600 missed 0.7 by 0.100"
    flip = explain.flip(job_row(True), [judged(("nsfw", 0.9, 0.5), ("underage", 0.71, 0.7), ("x", 0.1, 0.5))])
    assert flip is not None
    assert (flip.to_prohibited, len(flip.scores), round(flip.by, 3)) == (False, 2, 0.4)
    assert str(flip) == "nsfw: 0.900 stands 0.400 over 0.5, and 1 more"
    assert str(explain.flip(job_row(True), [judged(term="word")])) == "no threshold: a term of a blocklist decided"
    assert explain.flip(job_row(False), []) is None
    assert explain.flip(job_row(None, Status.FAILED), children) is None


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(settings.home))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(root, ["jobs", *arguments], catch_exceptions=True)

    return run


def test_the_list_by_command_takes_the_same_filters(
    house: House, filled: tuple[str, str], cli: Callable[..., Result]
) -> None:
    done = cli("list", "--org", "bob", "--kind", "image", "--verdict", "prohibited", "--limit", "1000", "--json")
    shown = json.loads(done.output)
    wanted = Wanted(org_id=filled[1], kind=JobKind.IMAGE, is_prohibited=True)
    assert [one["id"] for one in shown] == [job.id for job in found(house, wanted)]
    assert {one["organisation"] for one in shown} == {"bob"}
    first = shown[0]["id"]
    assert cli("list", "--search", first).output.startswith(first)
    assert cli("list", "--from", "2026-05-17", "--to", "2026-05-18", "--json").exit_code == 0
    assert "is no moment" in str(cli("list", "--from", "soon").exception)


def test_retry_by_command_says_the_new_job(house: House, cli: Callable[..., Result]) -> None:
    job_id = failed_job(house)
    assert cli("retry", job_id).exit_code == 2  # a reason is asked
    done = cli("retry", job_id, "--reason", "it is back", "--json")
    shown = json.loads(done.output)
    assert shown["retried"] == job_id
    assert shown["job"]["status"] == "queued"
    assert "again as job" in str(cli("retry", job_id, "--reason", "x").exception)


def test_tail_by_command_ends_after_so_many(
    house: House, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    org = house.db.write(lambda conn: organisations.get_or_create(conn, "alice")).id
    waits = made.job(org, NOON, status="queued", is_prohibited=None, completed_at=None)
    insert(house, [waits])

    def close(_: float) -> None:
        sql = "UPDATE job SET status = 'completed', is_prohibited = 1, completed_at = 5 WHERE id = ?"
        house.db.write(lambda conn: conn.execute(sql, (waits["id"],)))

    monkeypatch.setattr("appliance.commands.jobs.time.sleep", close)
    shown = json.loads(cli("tail", "--most", "1", "--json").output)
    assert (shown["id"], shown["organisation"], shown["is_prohibited"]) == (waits["id"], "alice", True)


def test_a_moment_is_said_as_people_say_it() -> None:
    assert clock.moment("2h", NOON) == NOON - 7_200_000
    assert clock.moment(" 90 min", NOON) == NOON - 5_400_000
    assert clock.moment("today", NOON) == NOON - NOON % DAY
    assert clock.moment("2026-05-19T14:00+02:00", 0) == NOON
    assert clock.moment("2026-05-19T12:00", 0) == NOON
    for wrong in ("soon", "2026-13-01", "-2h", ""):
        with pytest.raises(ValueError, match="is no moment"):
            clock.moment(wrong, NOON)
