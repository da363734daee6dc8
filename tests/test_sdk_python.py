"""The Python client, against a running Customhouse with real weights, and against a server that fails on purpose."""

import asyncio
import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

import customhouse_sdk
from appliance import __version__
from customhouse_sdk import AsyncCustomhouse, Customhouse, errors, verify_webhook
from customhouse_sdk.answers import BatchNotice, JobNotice
from customhouse_sdk.calls import Media
from omnimod_sdk import (
    AsyncOmniModClient,
    AuthenticationError,
    OmniModAPIError,
    OmniModClient,
    PolicyNotFoundError,
)
from omnimod_sdk import QuotaExceededError as OmniModQuota
from tests.cast import enrol
from tests.flaky import Flaky, Reply
from tests.test_end_to_end import CLIP, PHOTOGRAPHS, WEIGHTS, Box, Receiver

SDK = Path(__file__).resolve().parent.parent / "sdk" / "python"
KEY = "stars_anything"
ACCEPTED = Reply(202, {"job_id": "0f8fad5b-d9cb-469f-a165-70867728950e", "status": "queued"})
LIMITED = {"error": "RATE_LIMITED", "message": "Rate limit exceeded", "statusCode": 429, "request_id": "req_1"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    one = Box(tmp_path_factory.mktemp("home"))
    yield one
    one.close()


@pytest.fixture
def at_box(box: Box) -> Iterator[Customhouse]:
    with Customhouse(box.key, str(box.http.base_url)) as customhouse:
        yield customhouse


def flaky_client(server: Flaky, **how: Any) -> Customhouse:
    return Customhouse(KEY, server.url, **how)


# --- against the running server --------------------------------------------------------------------------------------


@pytest.mark.weights
def test_a_text_is_submitted_waited_for_and_judged(at_box: Customhouse) -> None:
    plain = at_box.jobs.wait(at_box.jobs.text("A watercolour of a lighthouse at dawn"))
    assert (plain.status, plain.is_prohibited, plain.is_allowed) == ("completed", False, True)
    refused = at_box.jobs.wait(at_box.jobs.text("a bestiality video"))
    assert (refused.is_prohibited, refused.is_allowed) == (True, False)
    assert refused.reason == "The text contained a blacklisted keyword."


@pytest.mark.weights
def test_a_picture_is_sent_as_path_bytes_file_or_data_url(at_box: Customhouse) -> None:
    path = PHOTOGRAPHS[0]
    content = path.read_bytes()
    with path.open("rb") as file:
        ways: list[Media] = [path, str(path), content, io.BytesIO(content), file]
        ways.append("data:image/jpeg;base64," + base64.b64encode(content).decode())
        submitted = [at_box.jobs.image(way) for way in ways]
    jobs = [at_box.jobs.wait(one) for one in submitted]
    assert [(job.type, job.is_prohibited) for job in jobs] == [("image", False)] * len(ways)
    assert set(jobs[0].categories) == {"nsfw", "underage", "ai_adult_general", "custom"}


@pytest.mark.weights
def test_a_clip_tells_its_progress_to_the_end(at_box: Customhouse) -> None:
    assert CLIP is not None
    job = at_box.jobs.video(CLIP)
    states = list(at_box.jobs.progress(job))
    assert (states[-1].status, states[-1].progress) == ("completed", 100)
    assert [one.progress for one in states] == sorted(one.progress for one in states)
    assert at_box.jobs.get(job.job_id).is_allowed


@pytest.mark.weights
def test_a_batch_is_waited_for_and_every_text_has_its_verdict(at_box: Customhouse) -> None:
    batch = at_box.batches.wait(at_box.batches.create({"a": "A quiet street", "b": "a bestiality video"}))
    assert {item.key: item.is_prohibited for item in batch.items} == {"a": False, "b": True}
    assert (batch.counts.total, batch.counts.prohibited) == (2, 1)


@pytest.mark.weights
def test_jobs_are_listed_exported_and_counted(at_box: Customhouse) -> None:
    job = at_box.jobs.wait(at_box.jobs.text("A boat"))
    page = at_box.jobs.list(limit=5, type="prompt", status=["completed", "failed"], search=job.job_id[:8])
    assert [one.job_id for one in page.jobs] == [job.job_id]
    now = datetime.now(UTC)
    assert at_box.jobs.list(since=now + timedelta(hours=1)).total == 0
    csv = b"".join(at_box.jobs.export(now - timedelta(hours=1), now + timedelta(hours=1))).decode("utf-8-sig")
    assert csv.startswith("job_id,type,status")
    assert job.job_id in csv
    assert at_box.usage.month().total_jobs >= 1
    assert sum(one.prompt for one in at_box.usage.volume("hour").data) >= 1
    assert at_box.usage.cost("day").bucket == "hour"
    assert "custom" in at_box.usage.rejections().categories


@pytest.mark.weights
def test_an_idempotency_key_makes_one_job_of_two_requests(at_box: Customhouse) -> None:
    first = at_box.jobs.text("A pier", idempotency_key="the-pier")
    assert at_box.jobs.text("A pier", idempotency_key="the-pier") == first
    assert at_box.jobs.text("A pier") != first
    with pytest.raises(errors.IdempotencyKeyReused):
        at_box.jobs.text("A mole", idempotency_key="the-pier")


@pytest.mark.weights
def test_the_configuration_is_replaced_and_read(at_box: Customhouse) -> None:
    assert at_box.config.set(nsfw=False).enabled_categories == {"nsfw": False}
    assert at_box.config.get().catalogue["nsfw"]["label"] == "NSFW"
    assert at_box.config.set().enabled_categories == {}
    slugs = {one.slug for one in at_box.categories.defaults().categories}
    assert slugs == {"nsfw", "ai_adult_general", "underage", "text"}


@pytest.mark.weights
def test_a_delivery_is_verified_and_a_forged_one_refused(box: Box, at_box: Customhouse) -> None:
    receiver = Receiver()
    job = at_box.jobs.wait(at_box.jobs.text("A harbour", webhook_url=receiver.url))
    until = time.monotonic() + 20
    while not receiver.got and time.monotonic() < until:
        time.sleep(0.05)
    receiver.shutdown()
    receiver.server_close()
    headers, body = receiver.got[0]
    secret = box.house.db.reader().execute("SELECT secret FROM webhook_secret").fetchone()[0]
    notice = verify_webhook(body, headers, secret)
    assert isinstance(notice, JobNotice)
    assert (notice.job_id, notice.is_allowed, notice.delivery_id) == (job.job_id, True, f"wh_{job.job_id}")
    with pytest.raises(customhouse_sdk.WebhookRefused):
        verify_webhook(body.replace(b"false", b"true"), headers, secret)


@pytest.mark.weights
def test_refusals_are_named_and_carry_the_request_id(box: Box, at_box: Customhouse) -> None:
    with pytest.raises(errors.JobNotFound) as missing:
        at_box.jobs.get("0f8fad5b-d9cb-469f-a165-70867728950e")
    assert (missing.value.status, missing.value.code) == (404, "JOB_NOT_FOUND")
    assert missing.value.request_id is not None
    assert missing.value.request_id.startswith("req_")
    with pytest.raises(errors.InvalidRequest, match="text"):
        at_box.jobs.text("")
    with pytest.raises(errors.InvalidRequest):
        at_box.jobs.text("half a pair: \ud83d")
    with pytest.raises(errors.Forbidden, match="account:config"):
        at_box.categories.list()
    with (
        Customhouse("stars_wrong", str(box.http.base_url)) as stranger,
        pytest.raises(errors.Unauthorized),
    ):
        stranger.jobs.list()
    assert at_box.health().status == "ok"


@pytest.mark.weights
def test_decisions_are_found_again_with_their_policy_use_and_quota(box: Box) -> None:
    granted = ("moderations:create", "moderate:image", "account:config")
    key = enrol(box.house, "dora", "all", granted=granted).key
    with Customhouse(key, str(box.http.base_url)) as customhouse:
        made = customhouse.moderations.create("hello community", metadata={"external_id": "comment-1"})
        again = customhouse.moderations.create("hello community", force_fresh=True, idempotency_key="once")
        assert customhouse.moderations.create("hello community", force_fresh=True, idempotency_key="once") == again
        picture = customhouse.moderations.image(PHOTOGRAPHS[0], policy="community-default")
        assert (picture.decision, picture.modality) == ("allow", "image")
        page = customhouse.events.list(external_id="comment-1", since=datetime.now(UTC) - timedelta(hours=1))
        assert [event.id for event in page.events] == [made.id]
        event = customhouse.events.get(made.id)
        assert (event.decision, event.metadata) == ("allow", {"external_id": "comment-1"})
        first = customhouse.events.list(limit=2)
        assert len(customhouse.events.list(limit=2, cursor=first.next_cursor).events) == 1
        [default, *_] = customhouse.policies.list().policies
        assert customhouse.policies.get("community-default") == default
        assert customhouse.policies.versions(default.slug).versions[0].id == made.policy.version_id
        assert customhouse.account.quota().used == 3
        assert customhouse.account.overview().last_24_hours.requests == 3
        assert customhouse.account.organisation().name == "dora"
        assert customhouse.usage.moderations().by_decision["allow"] == 3
        assert isinstance(customhouse.account.plans().plans, list)
        assert customhouse.config.set_prompt_steps({"spam": 0.9}).steps == {"spam": 0.9}
        assert customhouse.config.prompt_steps().steps == {"spam": 0.9}
        assert customhouse.categories.list().count == 0


@pytest.mark.weights
def test_a_webhook_is_registered_its_secret_rotated_and_it_is_taken_away(box: Box) -> None:
    key = enrol(box.house, "emil", "hooks", granted=("webhook:manage",)).key
    with Customhouse(key, str(box.http.base_url)) as customhouse:
        assert customhouse.webhooks.register("http://127.0.0.1:9/hook").url == "http://127.0.0.1:9/hook"
        former = customhouse.webhooks.reveal_secret().secret
        assert customhouse.webhooks.rotate_secret().secret != former
        assert [one.status for one in customhouse.webhooks.secrets().secrets] == ["current", "previous"]
        customhouse.webhooks.unregister()


@pytest.mark.weights
def test_the_seeds_own_lines_work(box: Box) -> None:
    client = OmniModClient(
        api_key=box.key,
        base_url=str(box.http.base_url),
    )
    result = client.moderate_text(
        "hello community",
        policy="community-default",
    )
    assert (result.is_allowed, result.is_flagged, result.is_blocked) == (True, False, False)
    assert result.severity == "none"
    with pytest.raises(PolicyNotFoundError):
        client.moderate_text("hello", policy="there-is-none")
    with pytest.raises(OmniModAPIError) as refused:
        client.moderate_text("")
    assert refused.value.status == 400
    client.close()
    with (
        OmniModClient(api_key="omad_live_wrong", base_url=str(box.http.base_url)) as stranger,
        pytest.raises(AuthenticationError, match="Invalid API key"),
    ):
        stranger.moderate_text("hello")


@pytest.mark.weights
def test_the_asynchronous_clients_say_the_same(box: Box) -> None:
    async def all_of_it() -> None:
        async with AsyncCustomhouse(box.key, str(box.http.base_url)) as customhouse:
            jobs = await asyncio.gather(*(customhouse.jobs.text(f"A street, number {n}") for n in range(5)))
            done = await asyncio.gather(*(customhouse.jobs.wait(job) for job in jobs))
            assert all(job.is_allowed for job in done)
            picture = await customhouse.jobs.image(PHOTOGRAPHS[0])
            states = [state async for state in customhouse.jobs.progress(picture)]
            assert states[-1].status == "completed"
            batch = await customhouse.batches.create({"a": "A lamp"})
            assert (await customhouse.batches.wait(batch)).is_closed
            now = datetime.now(UTC)
            pieces = [one async for one in customhouse.jobs.export(now - timedelta(hours=1), now + timedelta(hours=1))]
            assert jobs[0].job_id.encode() in b"".join(pieces)
            with pytest.raises(errors.JobNotFound):
                await customhouse.jobs.get("nothing like it")
            assert (await customhouse.health()).status == "ok"
        async with AsyncOmniModClient(box.key, str(box.http.base_url)) as client:
            assert (await client.moderate_text("hello community")).is_allowed

    asyncio.run(all_of_it())


# --- against one that fails ------------------------------------------------------------------------------------------


def test_429_and_503_are_tried_again_when_the_server_says() -> None:
    soon = {"retry-after": "1"}
    script = (
        Reply(429, LIMITED, soon),
        Reply(503, {"error": "SERVICE_UNAVAILABLE", "message": "full"}, soon),
        ACCEPTED,
    )
    with Flaky(*script) as server, flaky_client(server) as customhouse:
        before = time.monotonic()
        assert customhouse.jobs.text("hello").status == "queued"
        assert time.monotonic() - before >= 2  # what was asked for is waited
        assert len(server.asked) == 3


@pytest.mark.parametrize("breaks", ["reset", "hang up"])
def test_a_lost_answer_is_asked_for_under_the_same_idempotency_key(breaks: Any, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"picture " * 20_000)
    with Flaky(breaks, ACCEPTED) as server, flaky_client(server) as customhouse:
        customhouse.jobs.image(picture)
        keys = {asked.headers["idempotency-key"] for asked in server.asked}
        assert len(keys) == 1
        assert all(b"picture " * 20_000 in asked.body for asked in server.asked)  # read from its start again


def test_what_cannot_be_repeated_is_not_sent_twice() -> None:
    with Flaky("hang up") as server, flaky_client(server) as customhouse:
        with pytest.raises(errors.ConnectionFailed):
            customhouse.webhooks.rotate_secret()
        assert len(server.asked) == 1


def test_attempts_come_to_an_end_and_the_error_is_the_last_answer() -> None:
    with Flaky(*[Reply(503, {"error": "SERVICE_UNAVAILABLE", "message": "full"}, {"retry-after": "0"})] * 3) as server:
        with flaky_client(server, retries=2) as customhouse, pytest.raises(errors.ServiceUnavailable, match="full"):
            customhouse.jobs.text("hello")
        assert len(server.asked) == 3


def test_a_refused_connection_says_what_was_asked_and_its_key() -> None:
    with Flaky() as server:
        url = server.url
    with Customhouse(KEY, url, retries=0) as customhouse, pytest.raises(errors.ConnectionFailed) as failed:
        customhouse.jobs.text("hello", idempotency_key="mine")
    assert failed.value.idempotency_key == "mine"


def test_a_quota_or_a_long_wait_is_not_waited_for() -> None:
    quota = {
        "code": "quota_exceeded",
        "message": "Monthly moderation quota exceeded",
        "plan_tier": "free",
        "monthly_request_quota": 100,
        "used": 100,
        "remaining": 0,
    }
    with Flaky(
        Reply(429, {"detail": quota}, {"retry-after": "1"}), Reply(429, LIMITED, {"retry-after": "3600"})
    ) as server:
        with OmniModClient(KEY, server.url) as client, pytest.raises(OmniModQuota) as spent:
            client.moderate_text("hello")
        assert (spent.value.plan_tier, spent.value.monthly_request_quota, spent.value.used) == ("free", 100, 100)
        with flaky_client(server) as customhouse, pytest.raises(errors.RateLimited) as limited:
            customhouse.jobs.list()
        assert limited.value.retry_after_s == 3600
        assert len(server.asked) == 2


def test_a_request_still_at_work_is_waited_for_after_a_lost_answer() -> None:
    conflict = Reply(409, {"error": "CONFLICT", "message": "still being answered"})
    with Flaky("hang up", conflict, ACCEPTED) as server, flaky_client(server) as customhouse:
        assert customhouse.jobs.text("hello").status == "queued"
    with Flaky(conflict) as server, flaky_client(server) as customhouse, pytest.raises(errors.Conflict):
        customhouse.jobs.text("hello")


def test_a_broken_stream_goes_on_after_its_last_event() -> None:
    def event(number: int, status: str, progress: int) -> str:
        state = {"job_id": "j", "status": status, "progress": progress}
        return f"retry: 10\nid: {number}\nevent: progress\ndata: {json.dumps(state)}\n\n"

    first = Reply(events=(": keepalive\n\n", event(1, "queued", 0), event(2, "processing", 50), "id: 3\nda"))
    second = Reply(events=(event(3, "processing", 50), event(4, "completed", 100)))
    with Flaky(first, second) as server, flaky_client(server) as customhouse:
        assert [one.progress for one in customhouse.jobs.progress("j")] == [0, 50, 100]
        assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "2"]


def test_a_stream_that_says_nothing_is_given_up() -> None:
    with Flaky(*[Reply(events=("retry: 10\n\n",))] * 4) as server, flaky_client(server) as customhouse:
        with pytest.raises(errors.ConnectionFailed, match="ends before the job does"):
            list(customhouse.jobs.progress("j"))
        assert len(server.asked) == 4


def test_waiting_ends_when_its_time_is_over() -> None:
    job = {"job_id": "j", "type": "prompt", "status": "queued", "is_prohibited": None, "categories": {}}
    job |= {"created_at": "2026-05-19T12:00:00.000Z", "completed_at": None}
    with Flaky(*[Reply(200, job)] * 20) as server, flaky_client(server) as customhouse:
        with pytest.raises(errors.WaitTimedOut, match=r"job j was still open after 0\.3 s"):
            customhouse.jobs.wait("j", timeout=0.3)
        assert 3 <= len(server.asked) <= 5


def test_an_answer_of_somebody_elses_is_named() -> None:
    with Flaky(Reply(200, "welcome to the hotel"), Reply(404, None)) as server, flaky_client(server) as customhouse:
        with pytest.raises(errors.UnexpectedAnswer):
            customhouse.jobs.list()
        with pytest.raises(errors.NotFound):
            customhouse.jobs.list()


def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUSTOMHOUSE_API_KEY", raising=False)
    with pytest.raises(errors.CustomhouseError, match="CUSTOMHOUSE_API_KEY"):
        Customhouse()
    with pytest.raises(errors.CustomhouseError, match="http://"):
        Customhouse(KEY, "localhost:8000")
    with Flaky(ACCEPTED) as server:
        monkeypatch.setenv("CUSTOMHOUSE_API_KEY", KEY)
        monkeypatch.setenv("CUSTOMHOUSE_BASE_URL", server.url + "/behind/a/proxy/")
        with Customhouse() as customhouse:
            customhouse.jobs.text("hello")
        asked = server.asked[0]
    assert asked.path == "/behind/a/proxy/api/v1/moderate/text"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["user-agent"].startswith(f"customhouse-sdk-python/{__version__} ")


# --- webhooks, version, examples -------------------------------------------------------------------------------------

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
GOLDEN = Path(__file__).parent / "golden"


def signed(body: str, at: datetime, secret: str = SECRET) -> dict[str, str]:
    """As the official library signs."""
    signature = Webhook(secret).sign(msg_id="wh_1", timestamp=at, data=body)
    stamp = str(int(at.timestamp()))
    return {"Webhook-Id": "wh_1", "Webhook-Timestamp": stamp, "Webhook-Signature": signature}


def test_what_the_official_library_signed_is_accepted_for_five_minutes() -> None:
    body = (GOLDEN / "webhook_text_batch.json").read_text()
    whole = json.dumps({**json.loads(body), "items": [{**one, "job_id": "j"} for one in json.loads(body)["items"]]})
    now = datetime.now(UTC)
    notice = verify_webhook(whole, signed(whole, now), SECRET)
    assert isinstance(notice, BatchNotice)
    assert [item.is_prohibited for item in notice.items] == [True, None, False]
    for at in (now - timedelta(seconds=301), now + timedelta(seconds=305)):
        with pytest.raises(errors.WebhookRefused, match="not of now"):
            verify_webhook(whole, signed(whole, at), SECRET)


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Signature": "v1,AAAA"},
        {"Webhook-Signature": "v1,§ v2,x"},
        {"Webhook-Signature": ""},
        {"Webhook-Timestamp": "soon"},
        {"Webhook-Timestamp": "²"},
        {"Webhook-Id": "wh_2"},
    ],
)
def test_a_header_that_was_changed_refuses_the_delivery(change: dict[str, str]) -> None:
    body = "{}"
    with pytest.raises(errors.WebhookRefused):
        verify_webhook(body, {**signed(body, datetime.now(UTC)), **change}, SECRET)


def test_after_a_rotation_either_secret_verifies() -> None:
    body = json.dumps(
        {"job_id": "j", "status": "completed", "is_prohibited": False, "categories": {}, "completed_at": "t"}
        | {"delivery_id": "wh_j", "type": "image", "added_later": 1}
    )
    other = "whsec_" + base64.b64encode(b"f" * 32).decode()
    now = datetime.now(UTC)
    headers = signed(body, now)
    headers["Webhook-Signature"] += " " + signed(body, now, other)["Webhook-Signature"]
    for secret in (SECRET, other):
        assert verify_webhook(body.encode(), headers, secret).delivery_id == "wh_j"
    for wrong in ("whsec_" + base64.b64encode(b"g" * 32).decode(), "whsec_§"):
        with pytest.raises(errors.WebhookRefused):
            verify_webhook(body, headers, wrong)
    with pytest.raises(errors.WebhookRefused, match="webhook-id is missing"):
        verify_webhook(body, {}, SECRET)


def test_the_client_has_the_products_version() -> None:
    assert customhouse_sdk.__version__ == __version__


def blocks() -> list[str]:
    """The programs that the README shows."""
    return re.findall(r"```python\n(.*?)```", (SDK / "README.md").read_text(), re.DOTALL)


@pytest.mark.weights
def test_the_programs_in_the_readme_run(box: Box) -> None:
    said = [run_program(box, block, str(PHOTOGRAPHS[0])) for block in blocks() if "handle_request" not in block]
    decided, followed, both, refused, omnimod = said
    assert decided == "allow none\nallowed\n"
    assert "100" in followed
    assert "'nsfw': False" in followed
    assert both == "[False, False]\n"
    assert refused.startswith("INVALID_REQUEST [{'field': 'text'")
    assert omnimod == "False False True none\n"


def run_program(box: Box, program: str, *arguments: str) -> str:
    environ = {"CUSTOMHOUSE_API_KEY": box.key, "CUSTOMHOUSE_BASE_URL": str(box.http.base_url), "PYTHONPATH": str(SDK)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env={**os.environ, **environ}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_receiver_in_the_readme_takes_what_is_signed() -> None:
    [program] = [block for block in blocks() if "handle_request" in block]
    body = json.dumps(
        {"job_id": "j", "status": "completed", "is_prohibited": False, "categories": {}, "completed_at": "t"}
        | {"delivery_id": "wh_j", "type": "image"}
    )
    for secret, status in ((SECRET, 204), ("whsec_" + base64.b64encode(b"f" * 32).decode(), 400)):
        port = free_port()
        environ = {"CUSTOMHOUSE_WEBHOOK_SECRET": secret, "PORT": str(port), "PYTHONPATH": str(SDK)}
        receiver = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **environ})
        assert delivered(port, body, signed(body, datetime.now(UTC))) == status
        assert receiver.wait(20) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def delivered(port: int, body: str, headers: dict[str, str]) -> int:
    """The status that the receiver there answers, once it is up."""
    until = time.monotonic() + 20
    while True:
        try:
            return httpx.post(f"http://127.0.0.1:{port}/", content=body, headers=headers, timeout=20).status_code
        except httpx.ConnectError:
            assert time.monotonic() < until
            time.sleep(0.05)
