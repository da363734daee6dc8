"""Webhook bodies against the seeds' own samples (tests/golden/webhook_*.json), byte for byte."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.jobs.job import JobKind, Plan, Status
from appliance.jobs.rows import JobRow
from appliance.webhooks import payload

GOLDEN = Path(__file__).parent / "golden"

BLANK = JobRow(
    seq=1, id="", org_id="alice", key_id=None, kind=JobKind.IMAGE, status=Status.COMPLETED, origin="stars",
    request_id=None, plan=Plan(checks=[]), webhook_url=None, is_prohibited=None, categories={}, reason=None,
    error_code=None, error=None, total=0, done=0, created_at=0, started_at=None, completed_at=None,
)  # fmt: skip

REASON = "The prompt requests sexual content involving a minor."


def ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


PROMPT = msgspec.structs.replace(
    BLANK,
    id="a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    kind=JobKind.PROMPT,
    is_prohibited=True,
    categories={"custom": {}},
    reason=REASON,
    completed_at=ms("2026-05-19T12:00:01.500Z"),
)
IMAGE = msgspec.structs.replace(
    PROMPT,
    kind=JobKind.IMAGE,
    is_prohibited=False,
    # in another order than the seeds', to see that the payload brings its own
    categories={"custom": {}, "nsfw": False, "underage": False, "ai_adult_general": False},
    reason=None,
    completed_at=ms("2026-05-19T12:00:05.000Z"),
)
VIDEO = msgspec.structs.replace(
    IMAGE,
    id="b2c3d4e5-f6a7-8901-bcde-f12345678901",
    kind=JobKind.VIDEO,
    is_prohibited=True,
    categories={"nsfw": True, "underage": False, "ai_adult_general": False, "custom": {}},
    reason="A frame was explicit.",
    completed_at=ms("2026-05-19T12:05:30.000Z"),
)
FAILED = msgspec.structs.replace(
    VIDEO, status=Status.FAILED, is_prohibited=True, error_code="MEDIA_UNREACHABLE", error="http://… said 404"
)


def body(job: JobRow, *, include_type: bool = True, expose_reasons: bool = False) -> dict[str, Any]:
    return json.loads(payload.body(job, 0, include_type=include_type, expose_reasons=expose_reasons))


@pytest.mark.parametrize(("name", "job"), [("prompt", PROMPT), ("image", IMAGE), ("video", VIDEO), ("failed", FAILED)])
def test_a_body_is_the_seeds_sample_with_ours_at_the_end(name: str, job: JobRow) -> None:
    sample = (GOLDEN / f"webhook_{name}.json").read_text()
    sent = payload.body(job, 0, include_type=True, expose_reasons=False)
    document = json.loads(sent)
    assert list(document)[-2:] == ["type", "delivery_id"]
    assert (document.pop("type"), document.pop("delivery_id")) == (job.kind.wire, f"wh_{job.id}")
    assert json.dumps(document, indent=2) + "\n" == sample
    expected = {**json.loads(sample), "type": job.kind.wire, "delivery_id": f"wh_{job.id}"}
    assert sent == json.dumps(expected, separators=(",", ":"))


def test_type_can_be_left_out() -> None:
    assert list(body(IMAGE, include_type=False))[-1] == "delivery_id"
    assert "type" not in body(IMAGE, include_type=False)


def test_a_prompt_that_passes_has_no_reason() -> None:
    passed = msgspec.structs.replace(PROMPT, is_prohibited=False)
    assert list(body(passed)) == [
        "job_id", "status", "is_prohibited", "categories", "completed_at", "type", "delivery_id",
    ]  # fmt: skip


def test_a_picture_has_a_reason_only_when_the_operator_says_so() -> None:
    assert "reason" not in body(VIDEO)
    assert body(VIDEO, expose_reasons=True)["reason"] == "A frame was explicit."
    assert list(body(VIDEO, expose_reasons=True))[3:6] == ["categories", "reason", "completed_at"]
    assert "reason" not in body(msgspec.structs.replace(VIDEO, is_prohibited=False), expose_reasons=True)


def test_a_check_that_did_not_run_is_absent_and_custom_is_always_there() -> None:
    job = msgspec.structs.replace(IMAGE, categories={"nsfw": False, "text": True, "custom": {"dogs": True}})
    assert list(body(job)["categories"].items()) == [("nsfw", False), ("custom", {"dogs": True})]
    assert body(msgspec.structs.replace(IMAGE, categories={}))["categories"] == {"custom": {}}


def test_a_failed_job_never_reads_as_allowed() -> None:
    for found in (True, False, None):
        job = msgspec.structs.replace(FAILED, is_prohibited=found)
        assert body(job, expose_reasons=True)["is_prohibited"] is None
    assert "reason" not in body(FAILED, expose_reasons=True)


def test_a_reason_in_any_script_is_sent_as_it_is() -> None:
    job = msgspec.structs.replace(PROMPT, reason='Größe «x»\n"quoted" 漢字')
    sent = payload.body(job, 0, include_type=True, expose_reasons=False)
    assert "漢字" in sent
    assert json.loads(sent.encode())["reason"] == job.reason


def test_what_is_told_of_a_body_holds_none_of_anybodys_words() -> None:
    body = json.dumps(
        {
            "job_id": "j",
            "status": "completed",
            "is_prohibited": True,
            "categories": {"nsfw": True, "underage": False, "custom": {"dogs": True, "boats": False}},
            "reason": "the text says lighthouse",
            "completed_at": "2026-05-19T12:00:00.000Z",
            "type": "prompt",
            "delivery_id": "wh_j",
        }
    )
    told = payload.told(body)
    assert told.is_prohibited
    assert told.true == ("nsfw", "dogs")
    assert (told.kind, told.items, told.error_code) == ("prompt", 0, None)
    assert "lighthouse" not in repr(told)


def test_a_batch_is_told_by_its_numbers() -> None:
    items = [{"key": "a", "is_prohibited": found} for found in (True, False, None)]
    told = payload.told(json.dumps({"batch_id": "b", "status": "completed", "items": items, "type": "text_batch"}))
    assert (told.items, told.prohibited, told.is_prohibited) == (3, 1, True)
