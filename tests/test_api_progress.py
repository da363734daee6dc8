"""Progress without a server: what is told of each state, the keepalive, and when a stream ends by itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from appliance import clock
from appliance.api import progress
from appliance.api.watcher import Standing, Watcher
from appliance.house import House
from appliance.jobs import rows
from appliance.jobs.job import JobKind, Status, Submission
from appliance.jobs.submit import submit
from tests.cast import Person

P, I, V = JobKind.PROMPT, JobKind.IMAGE, JobKind.VIDEO  # noqa: E741
QUEUED, PROCESSING, COMPLETED, FAILED = Status.QUEUED, Status.PROCESSING, Status.COMPLETED, Status.FAILED


@pytest.mark.parametrize(
    ("kind", "status", "total", "done", "percent", "detail"),
    [
        (P, QUEUED, 1, 0, 0, None),
        (P, PROCESSING, 1, 0, 50, "Analysing text"),
        (P, COMPLETED, 1, 1, 100, None),
        (I, PROCESSING, 4, 0, 0, "Analysing image"),
        (I, PROCESSING, 4, 3, 75, "Analysing image"),
        (I, PROCESSING, 4, 4, 99, "Analysing image"),  # 100 only once there is a verdict
        (I, COMPLETED, 0, 0, 100, None),
        (V, QUEUED, 0, 0, 0, None),
        (V, PROCESSING, 0, 0, 0, "Extracting frames"),
        (V, PROCESSING, 45, 0, 10, "Analysing frames"),
        (V, PROCESSING, 45, 45, 95, "Analysing frames"),
        (V, COMPLETED, 45, 45, 100, None),
        (V, FAILED, 45, 9, 27, None),
        (V, FAILED, 0, 0, 0, None),
    ],
)
def test_progress_of(kind: JobKind, status: Status, total: int, done: int, percent: int, detail: str | None) -> None:
    told = progress.of(Standing(job_id="x", kind=kind, status=status, total=total, done=done))
    assert (told.progress, told.detail) == (percent, detail)
    has_frames = kind is V and total > 0
    assert (told.frames_completed, told.frame_count) == ((done, total) if has_frames else (None, None))


@pytest.fixture
def standing(house: House, alice: Person) -> Standing:
    follow = house.db.write(lambda conn: submit(conn, house, alice.org_id, alice.key_id, Submission(P, text="hi")))
    return Standing(job_id=follow.job_id, kind=P, status=QUEUED, total=1, done=0)


def read(
    house: House, standing: Standing, during: Callable[[int, Watcher], None] = lambda *_: None, **how: Any
) -> list[str]:
    """All that a stream says; `during` is called after each piece with how many there were."""

    async def stream() -> list[str]:
        watcher = Watcher(house.settings.database, every_s=0.01)
        said: list[str] = []
        async for piece in progress.events(watcher, standing, 0, how.pop("is_welcome", lambda: True), **how):
            said.append(piece.decode())
            during(len(said), watcher)
        assert watcher.streams == 0
        await watcher.close()
        return said

    return asyncio.run(stream())


def close(house: House, job_id: str) -> None:
    end: dict[str, Any] = {"is_prohibited": False, "categories": {}, "reason": None, "error_code": None, "error": None}
    house.db.write(lambda conn: rows.close(conn, job_id, **end, gpu_ms=0, tokens=0, now=clock.now_ms()))


def test_a_stream_begins_with_retry_id_and_event_in_the_contracts_words(house: House, standing: Standing) -> None:
    said = read(house, standing, lambda count, _: close(house, standing.job_id) if count == 1 else None)
    job = f'"job_id":"{standing.job_id}"'
    assert said == [
        f'retry: 3000\nid: 1\nevent: connected\ndata: {{{job},"status":"queued","progress":0}}\n\n',
        f'id: 2\nevent: progress\ndata: {{{job},"status":"completed","progress":100}}\n\n',
    ]


def test_silence_is_broken_by_comments(house: House, standing: Standing) -> None:
    said = read(
        house,
        standing,
        lambda count, _: close(house, standing.job_id) if count == 3 else None,
        keepalive_s=0.05,
    )
    assert said[1:3] == [": keepalive\n\n"] * 2
    assert "completed" in said[-1]


def test_a_key_that_is_revoked_meanwhile_ends_the_stream(house: House, standing: Standing) -> None:
    said = read(house, standing, is_welcome=lambda: False, keepalive_s=0.05)
    assert len(said) == 1


def test_nothing_more_is_told_after_a_revocation_not_even_the_end(house: House, standing: Standing) -> None:
    said = read(
        house,
        standing,
        lambda count, _: close(house, standing.job_id) if count == 1 else None,
        is_welcome=lambda: False,
    )
    assert len(said) == 1


def test_a_stream_grows_only_so_old(house: House, standing: Standing) -> None:
    assert len(read(house, standing, longest_s=0.0)) == 1


def test_a_stream_ends_when_the_process_stops(house: House, standing: Standing) -> None:
    said = read(house, standing, lambda count, watcher: watcher.end(), keepalive_s=0.05)
    assert len(said) <= 2


def test_a_stream_that_begins_as_the_process_stops_ends_too(house: House, standing: Standing) -> None:
    """2026-11-21: told to end between its first event and its watch, it was cut 15 s later with its process."""
    said = read(house, standing, lambda count, watcher: watcher.end() if count == 1 else None, longest_s=5.0)
    assert len(said) == 1


def test_a_job_that_moved_before_it_was_watched_is_not_missed(house: House, standing: Standing) -> None:
    close(house, standing.job_id)  # after the handler read it, before the watcher looked
    assert "completed" in read(house, standing)[-1]


def test_nothing_is_told_twice(house: House, standing: Standing) -> None:
    def during(count: int, _: Watcher) -> None:
        if count == 1:
            for name in ("a", "b", "c"):  # commits that have nothing to do with this job
                house.db.write(lambda conn, name=name: conn.execute("UPDATE organisation SET name = ?", (name,)))
            close(house, standing.job_id)

    assert len(read(house, standing, during)) == 2
