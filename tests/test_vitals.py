"""Whether the house is well, asked from outside: each process at its socket, rows, disk, the worker's heart."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from appliance import clock, heartbeat, overview, pulse, vitals
from appliance.__main__ import root
from appliance.heartbeat import Heart
from appliance.house import House
from appliance.inference.client import Models
from appliance.settings import Billing, Server, Settings
from tests import made, standins
from tests.cast import Person

NOON = 1_779_192_000_000
MINUTE = 60_000


@pytest.fixture
def models(settings: Settings) -> Iterator[Models]:
    models = Models(settings.inference_socket, 5.0)
    yield models
    models.close()


def look(house: House, models: Models, now: int | None = None) -> vitals.Vitals:
    return vitals.look(house.settings, house.db.reader(), models, now)


# --- processes ------------------------------------------------------------------------------------------------------


def test_where_nothing_runs_one_sentence_says_so(house: House, models: Models) -> None:
    assert look(house, models).trouble == ("Nothing is running. Start it: customhouse up",)


def test_all_is_well_when_each_answers_at_its_socket(house: House, models: Models) -> None:
    with standins.everybody(house.settings):
        found = look(house, models)
    assert found.trouble == ()
    assert [one.is_up for one in found.processes] == [True, True, True]


@pytest.mark.parametrize("down", ["api", "worker", "models"])
def test_a_process_that_is_not_there_is_named_with_what_starts_it(house: House, models: Models, down: str) -> None:
    Heart(house.settings.run_dir, 16).beat()
    with ExitStack() as stack:
        if down != "api":
            stack.enter_context(standins.api(house.settings))
        if down != "worker":
            stack.enter_context(standins.worker(house.settings))
        if down != "models":
            stack.enter_context(standins.models(house.settings, standins.status()))
        (sentence,) = look(house, models).trouble
    assert sentence.endswith(f"Start it: {vitals.START[down]}")


def test_a_worker_that_is_there_and_no_longer_beats_is_said(house: House, models: Models) -> None:
    with standins.everybody(house.settings):
        (sentence,) = look(house, models, clock.now_ms() + 180_000).trouble
    assert sentence.startswith("The worker: no heartbeat for ")


def test_cuda_that_is_asked_for_and_not_used_is_one_sentence_for_all_models(house: House, models: Models) -> None:
    with standins.everybody(house.settings, standins.status(wanted="cuda:0", failed="nsfwjs")):
        first, second = look(house, models).trouble
    assert first.startswith("CUDA IS NOT USED by opennsfw, image-safety-s, faces-age and text-heads: cuda asked for")
    assert "libcudnn" in first
    assert second == "nsfwjs: its sha256 differs"


# --- disk, queue, Stripe --------------------------------------------------------------------------------------------


def test_a_disk_below_what_is_accepted_at_and_one_that_is_nearly_there(settings: Settings) -> None:
    settings.home.mkdir()
    assert vitals.disk_trouble(settings) == []
    full = msgspec.structs.replace(settings, server=Server(min_free_disk_mb=10**9))
    assert vitals.disk_trouble(full)[0].startswith("DISK FULL")
    free_mb = overview.shutil.disk_usage(settings.home).free // 1_000_000
    low = msgspec.structs.replace(settings, server=Server(min_free_disk_mb=free_mb // 2))
    assert vitals.disk_trouble(low)[0].startswith("Disk low")


def test_a_queue_that_does_not_move_is_said_with_its_age(house: House, alice: Person) -> None:
    made.insert(house, [made.job(alice.org_id, NOON - 15 * MINUTE, status="queued", completed_at=None)])
    conn = house.db.reader()
    assert vitals.queue_trouble(conn, NOON - 10 * MINUTE) == []
    assert vitals.queue_trouble(conn, NOON) == ["The queue does not move: 1 job is open, the oldest for 15 min"]


def test_a_sync_with_stripe_that_is_long_past_is_said_where_there_is_a_key(house: House) -> None:
    with_key = msgspec.structs.replace(house.settings, billing=Billing(stripe_key_file="/nowhere"))
    conn = house.db.reader()
    assert vitals.stripe_trouble(conn, with_key, NOON) == []
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO stripe_sync (is_live, cursor_at, looked_back_at, last_ok_at, last_error, last_error_at) "
            "VALUES (0, 0, 0, ?, 'no route', ?)",
            (NOON - 60 * MINUTE, NOON - MINUTE),
        )
    )
    assert vitals.stripe_trouble(conn, with_key, NOON) == ["Stripe was last synced 1 h ago: no route"]
    assert vitals.stripe_trouble(conn, house.settings, NOON) == []


# --- rows -----------------------------------------------------------------------------------------------------------


def test_verdicts_are_counted_by_the_minute_of_submission(house: House, alice: Person, charlie: Person) -> None:
    minute = NOON - 2 * MINUTE
    made.insert(
        house,
        [
            made.job(alice.org_id, minute),
            made.job(charlie.org_id, minute + 5_000),
            made.job(alice.org_id, minute + 1, is_prohibited=1),
            made.job(alice.org_id, minute + 2, status="failed", is_prohibited=None),
            made.job(alice.org_id, minute + 3, status="queued", is_prohibited=None, completed_at=None),
            made.job(alice.org_id, NOON - 90 * MINUTE),
        ],
    )
    found = pulse.minutes(house.db.reader(), NOON)
    assert len(found) == 60
    assert [one for one in found if one.allowed or one.prohibited or one.failed] == [pulse.Minute(minute, 2, 1, 1)]


def test_what_waits_is_told_by_kind_with_the_age_of_the_oldest(house: House, alice: Person) -> None:
    made.insert(
        house,
        [
            made.job(alice.org_id, NOON - 9_000, status="queued", completed_at=None),
            made.job(alice.org_id, NOON - 4_000, status="processing", completed_at=None),
            made.job(alice.org_id, NOON - 3_000, kind="VIDEO_MODERATION", status="queued", completed_at=None),
        ],
    )
    prompt, image, video = pulse.waiting(house.db.reader())
    assert (prompt.queued, prompt.processing, prompt.oldest_at) == (1, 1, NOON - 9_000)
    assert (image.queued, image.processing, image.oldest_at) == (0, 0, None)
    assert (video.queued, video.oldest_at) == (1, NOON - 3_000)


def test_a_rejection_names_who_and_what_for_and_never_the_content(house: House, alice: Person) -> None:
    finding = {
        "categories": {"nsfw": True},
        "scores": [
            {"category": "nsfw", "model": "opennsfw", "label": "nsfw", "score": 0.91, "threshold": 0.5},
            {"category": "nsfw", "model": "nsfwjs", "label": "Porn", "score": 0.72, "threshold": 0.7},
        ],
    }
    made.insert(
        house,
        [
            made.job(alice.org_id, NOON - 5_000, id="one", kind="IMAGE_MODERATION", is_prohibited=1),
            made.job(alice.org_id, NOON - 4_000, id="two", is_prohibited=1, categories='{"custom":{"dogs":true}}'),
            made.job(alice.org_id, NOON - 3_000, id="three"),
        ],
    )
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO child (job_id, kind, status, finding, is_positive, created_at) "
            "VALUES ('one', 'NSFW_CLASSIFICATION', 'completed', ?, 1, 0)",
            (json.dumps(finding),),
        )
    )
    second, first = pulse.rejections(house.db.reader())
    assert (first.id, first.kind, first.category, first.score) == ("one", "image", "nsfw", 0.91)
    assert (second.id, second.category, second.score) == ("two", "custom:dogs", None)
    assert "lighthouse" not in repr((first, second))


def test_a_quota_that_is_nearly_used_up_is_told(house: House, alice: Person, charlie: Person) -> None:
    def fill(conn: pulse.Connection) -> None:
        conn.execute("UPDATE plan SET monthly_request_quota = 100")
        for org, requests in ((alice.org_id, 85), (charlie.org_id, 20)):
            conn.execute(
                "INSERT INTO moderation_use (org_id, day, requests) VALUES (?, '2026-05-02', ?)", (org, requests)
            )

    house.db.write(fill)
    (near,) = pulse.allowances(house.db.reader(), NOON)
    assert (near.org_id, near.used, near.quota, near.share) == (alice.org_id, 85, 100, 0.85)


# --- the heartbeat --------------------------------------------------------------------------------------------------


def test_a_heart_tells_how_each_round_went_and_leaves_in_peace(tmp_path: Path) -> None:
    heart = Heart(tmp_path, 16)
    heart.timed("sweep", 2.0, lambda: None)()

    def fail() -> None:
        raise OSError("a private word")

    with pytest.raises(OSError, match="private"):
        heart.timed("stripe", 5.0, fail)()
    heart.beat()
    beat = heartbeat.last(tmp_path)
    assert beat is not None
    assert beat.threads == 16
    assert beat.rounds["sweep"].at is not None
    assert beat.rounds["sweep"].error is None
    assert beat.rounds["stripe"].at is None
    assert beat.rounds["stripe"].error == "OSError"
    assert "private" not in heartbeat.path_in(tmp_path).read_text()
    heart.stop()
    assert heartbeat.last(tmp_path) is None


# --- the commands ---------------------------------------------------------------------------------------------------


def test_status_says_all_of_it_and_exits_with_one_when_something_is_wrong(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    ran = CliRunner().invoke(root, ["status", "--json"])
    assert ran.exit_code == 1
    said = json.loads(ran.stdout)
    assert said["healthy"] is False
    assert [one["name"] for one in said["processes"]] == ["api", "worker", "models"]
    assert "Nothing is running" in CliRunner().invoke(root, ["status"]).stdout
    with standins.everybody(house.settings):
        ran = CliRunner().invoke(root, ["status"])
    assert ran.exit_code == 0
    assert ran.stdout.startswith("healthy")


def test_status_works_where_there_is_no_database_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "customhouse.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(tmp_path))
    ran = CliRunner().invoke(root, ["status", "--json"])
    assert ran.exit_code == 1
    assert "database" in json.loads(ran.stdout)["rows_error"]
