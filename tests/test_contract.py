"""The contract, row by row: the 23 endpoints, what each asks of a key, the bodies that were read and called right
(tests/golden), and the test that holds its behaviour; then every error, and the test that shows it.

The bodies here are asked of the application with ids and times fixed; the seeds' own stand in the tests named.
"""

import ast
import functools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from litestar.testing import TestClient

from appliance import clock, errors
from appliance.accounts import scopes
from appliance.api.app import ROUTES
from appliance.billing import ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from tests import made, recorded
from tests.cast import Person, enrol
from tests.recorded import pretty

Client = TestClient[Any]

HERE = Path(__file__).parent
T0 = 1_779_192_000_000  # 2026-05-19T12:00Z, as the seeds write it


class Row(NamedTuple):
    number: int
    route: str
    scope: str | None
    """None = any valid key."""
    golden: tuple[str, ...]
    test: str
    """file::test, below tests/."""


ROWS = [
    Row(
        1,
        "POST /api/v1/moderate/prompt",
        "moderate:prompt",
        ("accepted.json",),
        "test_api_moderate::test_a_prompt_is_accepted_in_each_way_to_write_it",
    ),
    Row(
        2,
        "POST /api/v1/moderate/image",
        "moderate:image",
        ("accepted.json",),
        "test_api_moderate::test_media_are_accepted_by_address",
    ),
    Row(
        3,
        "POST /api/v1/moderate/video",
        "moderate:video",
        ("accepted.json",),
        "test_api_moderate::test_a_file_part_lies_in_media_byte_for_byte_until_its_job_is_done",
    ),
    Row(
        4,
        "GET /api/v1/job/{job_id}",
        "job:read",
        (
            "job_queued.json",
            "job_prompt_passed.json",
            "job_prompt_rejected.json",
            "job_image_passed.json",
            "job_video_rejected.json",
            "job_failed.json",
            "error_job_not_found.json",
        ),
        "test_api_jobs::test_a_job_is_answered_as_the_contract_shows_it",
    ),
    Row(
        5,
        "GET /api/v1/job/{job_id}/progress",
        "job:read",
        ("progress.txt",),
        "test_api_server::test_a_videos_progress_is_told_from_its_queue_to_its_end",
    ),
    Row(
        6,
        "GET /api/v1/jobs",
        "job:read",
        ("jobs.json",),
        "test_history_http::test_a_page_has_the_contracts_members_in_its_order",
    ),
    Row(
        7,
        "GET /api/v1/jobs/export",
        "job:read",
        ("jobs.csv",),
        "test_export::test_the_file_is_the_contracts_to_the_byte",
    ),
    Row(
        8,
        "GET /api/v1/usage",
        "usage:read",
        ("usage.json",),
        "test_usage::test_a_month_has_the_contracts_members_and_every_day_up_to_today",
    ),
    Row(
        9,
        "GET /api/v1/usage/volume",
        "usage:read",
        ("usage_volume.json",),
        "test_usage::test_buckets_are_filled_with_zeros_up_to_now",
    ),
    Row(
        10,
        "GET /api/v1/usage/cost",
        "usage:read",
        ("usage_cost.json",),
        "test_usage::test_usage_agrees_with_a_plain_loop_however_jobs_change",
    ),
    Row(
        11,
        "GET /api/v1/usage/rejections",
        "usage:read",
        ("usage_rejections.json",),
        "test_usage::test_rejections_are_counted_by_category",
    ),
    Row(
        12,
        "GET /api/v1/billing/balance",
        None,
        ("balance.json",),
        "test_ledger_api::test_the_balance_follows_the_ledger",
    ),
    Row(
        13,
        "GET /api/v1/billing/records",
        None,
        ("records.json",),
        "test_ledger_api::test_pages_hold_every_entry_once_newest_first",
    ),
    Row(
        14,
        "GET /api/v1/billing/payment-methods",
        "billing:write",
        ("payment_methods.json",),
        "test_stripe_checkout::test_the_list_is_as_stripe_has_it_and_as_last_seen_while_stripe_is_down",
    ),
    Row(
        15,
        "DELETE /api/v1/billing/payment-methods/{payment_method_id}",
        "billing:write",
        (),
        "test_stripe_checkout::test_detaching_the_card_of_auto_top_up_switches_it_off",
    ),
    Row(
        16,
        "GET /api/v1/billing/auto-topup",
        "billing:write",
        (
            "auto_topup_off.json",
            "auto_topup.json",
        ),
        "test_stripe_checkout::test_auto_top_up_begins_off_and_is_changed_member_by_member",
    ),
    Row(
        17,
        "PUT /api/v1/billing/auto-topup",
        "billing:write",
        ("auto_topup.json",),
        "test_stripe_checkout::test_the_merged_state_is_what_is_checked",
    ),
    Row(
        18,
        "POST /api/v1/billing/checkout-session",
        "billing:write",
        ("checkout_session.json",),
        "test_stripe_checkout::test_what_is_asked_of_stripe_is_what_the_contract_says",
    ),
    Row(
        19,
        "POST /api/v1/billing/portal-session",
        "billing:write",
        ("portal_session.json",),
        "test_stripe_checkout::test_the_portal_is_opened_for_the_account_s_own_customer",
    ),
    Row(20, "GET /health", None, ("health.json",), "test_api_health::test_all_is_well"),
    Row(
        21,
        "GET /api/v1/me/moderation-config",
        None,
        ("moderation_config.json",),
        "test_api_account::test_the_config_holds_only_what_is_off_and_a_catalogue_of_all_four",
    ),
    Row(
        22,
        "PUT /api/v1/me/moderation-config",
        None,
        ("moderation_config.json",),
        "test_api_account::test_a_put_is_the_whole_new_state",
    ),
    Row(
        23,
        "POST /api/v1/webhook/register",
        None,
        (
            "webhook_registered.json",
            "webhook_prompt.json",
            "webhook_image.json",
            "webhook_video.json",
            "webhook_failed.json",
            "webhook_text_batch.json",
        ),
        "test_api_account::test_registering_answers_the_secret_once_and_replaces",
    ),
]

ERRORS = {
    "QUOTA_EXCEEDED": "test_openai::test_a_used_up_quota_is_not_tried_again",
    "POLICY_NOT_FOUND": "test_openai::test_the_models_are_the_policies",
    "INVALID_REQUEST": "test_api_moderate::test_what_is_missing_or_wrong_is_named_and_nothing_is_kept",
    "UNAUTHORIZED": "test_api_auth::test_without_a_good_key_in_the_header_there_is_no_entry",
    "PAYMENT_REQUIRED": "test_ledger_api::test_payment_required_402_names_the_balance_and_how_to_top_up",
    "FORBIDDEN": "test_api_auth::test_each_route_needs_its_scope",
    "ACCOUNT_TERMINATED": "test_api_auth::test_a_closed_account_is_refused_on_every_route",
    "JOB_NOT_FOUND": "test_api_jobs::test_an_unknown_or_malformed_id_is_not_found_in_the_same_words",
    "NOT_FOUND": "test_api_auth::test_an_unknown_path_is_not_found_in_the_envelope",
    "METHOD_NOT_ALLOWED": "test_api_auth::test_another_method_is_told_which_are_allowed",
    "CONFLICT": "test_idempotency::test_what_comes_while_the_first_is_at_it_is_409",
    "PAYLOAD_TOO_LARGE": "test_api_moderate::test_what_is_too_large_is_refused_and_nothing_is_kept",
    "UNSUPPORTED_MEDIA": "test_api_moderate::test_a_body_of_another_type_is_refused_with_those_that_are_read",
    "IDEMPOTENCY_KEY_REUSED": "test_idempotency::test_another_payload_under_the_same_key_is_422",
    "RATE_LIMITED": "test_limits::test_one_more_than_the_limit_is_429_with_the_contracts_words",
    "INTERNAL_ERROR": "test_api_moderate::"
    "test_an_unexpected_fault_is_a_500_that_tells_nothing_and_is_logged_without_content",
    "SERVICE_UNAVAILABLE": "test_api_moderate::test_a_full_queue_says_when_to_try_again",
    "BATCH_EMPTY": "test_batch::test_a_batch_that_is_none_is_refused_by_name_and_nothing_of_it_is_kept",
    "BATCH_TOO_LARGE": "test_batch::test_a_batch_that_is_none_is_refused_by_name_and_nothing_of_it_is_kept",
    "DUPLICATE_ITEM_KEY": "test_batch::test_a_batch_that_is_none_is_refused_by_name_and_nothing_of_it_is_kept",
    "TEXT_TOO_LONG": "test_batch::test_a_batch_that_is_none_is_refused_by_name_and_nothing_of_it_is_kept",
    "BATCH_NOT_FOUND": "test_batch::test_a_batch_that_is_not_there_is_not_found",
    "MEDIA_UNREACHABLE": "test_custom_judged::test_an_example_that_cannot_be_tried_is_refused_by_name",
}
"""Code → the test that shows it: B.0.2, and the codes that batches added."""

BAD_INPUT = {
    "a forged cursor": "test_ledger_api::test_a_forged_cursor_is_400",
    "a negative amount": "test_stripe_checkout::test_another_wish_is_refused_before_stripe_hears_of_it",
    "a threshold above the amount": "test_stripe_checkout::"
    "test_what_cannot_stand_together_is_refused_and_changes_nothing",
    "a webhook to a private address": "test_api_account::test_an_address_that_cannot_be_sent_to_is_refused",
    "a CSV range of 367 days": "test_export::test_a_range_that_is_none_or_is_367_days_is_an_invalid_request",
    "an unknown query value": "test_history_http::test_an_unknown_value_is_an_invalid_request_that_names_its_parameter",
    "an unknown member of JSON, which is passed over": "test_stripe_checkout::"
    "test_a_member_that_nobody_knows_is_ignored",
    "another tenant's ids": "test_isolation::test_anothers_ids_are_answered_as_unknown_ones_and_change_nothing",
    "a body over the limit": "test_hostile::test_a_body_that_is_announced_too_large_is_refused_before_it_comes",
    "a body that comes slowly": "test_hostile::test_a_body_that_does_not_come_is_given_up",
    "huge headers": "test_hostile::test_huge_headers_are_refused",
    "thousands of connections": "test_hostile::test_three_thousand_idle_connections_are_in_nobodys_way",
}
"""What the issue names besides → the test that shows what it gets."""


# --- the table is true -----------------------------------------------------------------------------------------------


@functools.cache
def _tests_of(file: str) -> frozenset[str]:
    """The tests that pytest collects there: at the top of the file, by name."""
    tree = ast.parse((HERE / f"{file}.py").read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_")


@functools.cache
def _scopes() -> dict[str, str | None]:
    """Documented route → what a key must be allowed to do there."""
    return {
        f"{method} {re.sub(r':[a-z]+}', '}', path)}": handler.opt.get("scope")
        for handler in ROUTES
        if handler.include_in_schema is not False
        for method in handler.http_methods
        for path in handler.paths
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.route)
def test_each_endpoint_is_there_asks_for_its_scope_and_has_its_test(row: Row) -> None:
    assert row.route in _scopes()
    assert _scopes()[row.route] == row.scope
    file, name = row.test.split("::")
    assert name in _tests_of(file)
    for golden in row.golden:
        assert (recorded.FOLDER / golden).exists()


def test_there_are_twenty_three() -> None:
    assert [row.number for row in ROWS] == list(range(1, 24))


@pytest.mark.parametrize("test", [*ERRORS.values(), *BAD_INPUT.values()], ids=[*ERRORS, *BAD_INPUT])
def test_each_error_and_each_bad_input_has_its_test(test: str) -> None:
    file, name = test.split("::")
    assert name in _tests_of(file)


def test_no_error_is_without_one() -> None:
    def codes(kind: type[errors.Refusal]) -> set[str]:
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    assert codes(errors.Refusal) == set(ERRORS)


# --- the bodies ------------------------------------------------------------------------------------------------------


@pytest.fixture
def owner(house: House) -> Person:
    return enrol(house, "A", "production", granted=scopes.ALL)


_JOB = "a1b2c3d4-e5f6-4890-abcd-ef1234567890"


@pytest.fixture
def past(house: House, owner: Person) -> None:
    """Four jobs of the seeds' day, and four of just now: passed, rejected by text and by picture, failed."""
    nsfw = json.dumps({"ai_adult_general": False, "underage": False, "nsfw": True, "custom": {"boats": True}})
    rejected = {"is_prohibited": 1, "key_id": owner.key_id}
    for latest, step in ((T0, 60_000), (clock.now_ms() - 1, 1)):
        made.insert(
            house,
            [
                made.job(owner.org_id, latest - number * step, plan='{"checks":[]}', gpu_ms=1500, tokens=64, **{**kind})
                for number, kind in enumerate(
                    (
                        {"id": _JOB} if latest == T0 else {},
                        {**rejected, "text": "=2+2", "reason": "@home"},
                        {**rejected, "kind": "IMAGE_MODERATION", "categories": nsfw},
                        {"kind": "VIDEO_MODERATION", "status": "failed", "is_prohibited": None},
                    )
                )
            ],
        )

    def change(conn: Connection) -> None:
        for kind, micros, source in (
            (EntryType.CREDIT, 25_000_000, ("manual", "1")),
            (EntryType.CHARGE, -800, ("job", _JOB)),
            (EntryType.REFUND, 800, ("job_failed", _JOB)),
            (EntryType.STRIPE_REFUND, -5_000_000, ("refund", "re_1")),
        ):
            ledger.post(conn, owner.org_id, kind, micros, source=source, description="As agreed", now=T0)

    house.db.write(change)


def fixed(text: str) -> str:
    """Text with what differs from run to run replaced; which ids are the same can still be seen."""
    ids = dict.fromkeys(re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text))
    for number, one in enumerate((one for one in ids if one != _JOB), start=1):
        text = text.replace(one, f"00000000-0000-4000-8000-{number:012}")
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "2026-05-19T12:00:00.000Z", text)
    return re.sub(r"whsec_[A-Za-z0-9+/=]+", "whsec_…", text)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("jobs.json", "/api/v1/jobs?limit=3&status=completed,failed&to=2026-05-20T00:00:00Z"),
        ("usage.json", "/api/v1/usage?billing_period=2026-05-19"),
        ("usage_volume.json", "/api/v1/usage/volume?period=week"),
        ("usage_cost.json", "/api/v1/usage/cost?period=week"),
        ("usage_rejections.json", "/api/v1/usage/rejections?period=day"),
        ("balance.json", "/api/v1/billing/balance"),
        ("records.json", "/api/v1/billing/records"),
    ],
)
@pytest.mark.usefixtures("past")
def test_a_body_is_the_one_that_was_read_and_called_right(client: Client, owner: Person, name: str, path: str) -> None:
    response = client.get(path, headers=owner.headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    recorded.check(name, pretty(json.loads(fixed(response.text))))


@pytest.mark.usefixtures("past")
def test_the_export_is_csv_with_a_mark_and_guarded_cells(client: Client, owner: Person) -> None:
    asked = "/api/v1/jobs/export?from=2026-05-19T00:00:00Z&to=2026-05-20T00:00:00Z"
    response = client.get(asked, headers=owner.headers)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.content.startswith(b"\xef\xbb\xbfjob_id,type,status,is_prohibited,created_at,completed_at,prompt,")
    lines = response.content.decode("utf-8-sig").split("\r\n")
    assert lines[-1] == ""
    recorded.check("jobs.csv", fixed("\n".join(lines)))


@pytest.mark.usefixtures("past")
def test_the_progress_of_a_finished_job_is_one_event(client: Client, owner: Person) -> None:
    response = client.get(f"/api/v1/job/{_JOB}/progress", headers=owner.headers)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    recorded.check("progress.txt", fixed(response.text))


def test_a_registered_webhook_is_answered_with_its_secret_once(client: Client, owner: Person) -> None:
    asked = {"url": "https://93.184.216.34/webhooks/stars"}
    response = client.post("/api/v1/webhook/register", headers=owner.headers, json=asked)
    recorded.check("webhook_registered.json", pretty(json.loads(fixed(response.text))))


def test_health_without_models_says_what_is_missing(client: Client) -> None:
    response = client.get("/health")
    body = json.loads(response.text)
    recorded.check("health.json", pretty({**body, "version": "…", "degraded": ["…" for _ in body["degraded"]]}))
