"""The lanes: real Huey, a real queue file, a real doorbell."""

import threading
import time

import pytest

from appliance import tasks
from appliance.jobs.job import JobKind
from appliance.settings import Settings
from appliance.tasks import Lanes


@pytest.fixture
def folders(settings: Settings) -> Settings:
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    return settings


def test_an_idle_worker_is_woken_by_another_holder_of_the_queue(folders: Settings) -> None:
    heard: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def work(subject: str) -> None:
        heard.append(subject)
        both.wait()

    worker = Lanes(folders, on_job=work, on_delivery=work)
    worker.start({"prompts": 1, "media": 1, "webhooks": 1})
    api = Lanes(folders)
    api.job("job-1", JobKind.IMAGE)
    both.wait()
    api.delivery("wh_job-1")
    both.wait()
    worker.stop(5)
    worker.close()
    api.close()
    assert heard == ["job-1", "wh_job-1"]


def test_a_flood_of_videos_does_not_keep_a_prompt_waiting(folders: Settings) -> None:
    release, prompt_done = threading.Event(), threading.Event()

    def work(subject: str) -> None:
        if subject.startswith("video"):
            release.wait(10)
        else:
            prompt_done.set()

    worker = Lanes(folders, on_job=work)
    worker.start({"prompts": 1, "media": 1, "webhooks": 1})
    for n in range(5):
        worker.job(f"video-{n}", JobKind.VIDEO)
    worker.job("prompt", JobKind.PROMPT)
    assert prompt_done.wait(10)
    release.set()
    worker.stop(10)
    worker.close()


def test_messages_are_json_so_that_a_queue_file_cannot_carry_code(folders: Settings) -> None:
    lanes = Lanes(folders)
    lanes.job("job-1", JobKind.PROMPT)
    from appliance.database import sqlite3

    conn = sqlite3.connect(str(folders.queue))
    [(data,)] = conn.execute("SELECT data FROM task").fetchall()
    conn.close()
    lanes.close()
    assert bytes(data).startswith(b"[")
    assert b"job-1" in bytes(data)


def test_a_queue_that_cannot_be_written_does_not_break_the_caller(folders: Settings) -> None:
    lanes = Lanes(folders)
    tasks.forget(folders)
    folders.queue.mkdir()
    lanes.job("job-1", JobKind.PROMPT)
    lanes.close()


def test_each_thread_begins_before_there_is_work(folders: Settings) -> None:
    begun: list[int] = []
    all_begun = threading.Barrier(7, timeout=10)

    def begin() -> None:
        begun.append(threading.get_ident())
        all_begun.wait()

    worker = Lanes(folders)
    worker.start({"prompts": 3, "media": 1, "webhooks": 2}, begin)
    all_begun.wait()
    worker.stop(10)
    worker.close()
    assert len(set(begun)) == 6


def test_a_queue_file_that_is_damaged_makes_room_for_a_new_one(folders: Settings) -> None:
    """Found on 2026-11-21 by tests/faults: after a power cut neither worker nor API started, and one that ran worked
    off nothing more, until somebody deleted the file."""
    heard: list[str] = []
    worker = Lanes(folders, on_job=heard.append)
    worker.start({"prompts": 1, "media": 1, "webhooks": 1})
    api = Lanes(folders)
    for suffix in ("-wal", "-shm"):
        folders.queue.with_name(folders.queue.name + suffix).write_bytes(b"\xff" * 8192)
    folders.queue.write_bytes(b"torn" * 5000)
    late = Lanes(folders)  # a process that starts now
    until = time.monotonic() + 60
    while "again" not in heard and time.monotonic() < until:
        api.job("again", JobKind.PROMPT)
        time.sleep(0.05)
    worker.stop(10)
    for lanes in (worker, api, late):
        lanes.close()
    assert "again" in heard


def test_a_queue_file_that_is_deleted_under_two_processes_is_shared_again(folders: Settings) -> None:
    """Found on 2026-11-21 by tests/faults: each went on with a deleted file of its own, and only sweep, every other
    second, brought them together, until one of them was started again."""
    api, worker = Lanes(folders), Lanes(folders)
    api.job("before", JobKind.PROMPT)
    assert worker.depth("prompts") == 1
    tasks.forget(folders)
    assert worker.depth("prompts") == 0
    api.job("after", JobKind.PROMPT)
    assert worker.depth("prompts") == 1
    api.close()
    worker.close()
