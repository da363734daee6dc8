"""`customhouse events`: what the synchronous surfaces decided. Never a text: scores, hashes, list entries."""

import json
from datetime import UTC, datetime

import click
import msgspec

from appliance import clock, settings
from appliance.accounts import organisations
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.moderations import events as rows
from appliance.moderations.decision import DECISIONS
from appliance.moderations.events import Event, Filter, Whole
from appliance.policies import rows as policies

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_ORG = click.option("--org", required=True, help="The organisation: its name or id.")


@click.group()
def events() -> None:
    """Moderation events of an organisation: list, show."""


@events.command("list")
@_ORG
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, the newest.")
@click.option("--cursor", help="After the event with this id.")
@click.option("--decision", type=click.Choice(sorted(set(DECISIONS.values()))), help="Only these.")
@click.option("--policy", help="Of this policy: its slug or id.")
@click.option("--external-id", help="With this metadata.external_id.")
@click.option("--language", help="In this language: en, es, …, mixed or unknown.")
@click.option("--origin", help="From this surface: omnimod, openai, perspective, azure, litellm, dify …")
@click.option("--since", metavar="TIME", help="From this moment on, ISO 8601.")
@click.option("--until", metavar="TIME", help="Before this moment, ISO 8601.")
@_JSON
def list_(
    org: str,
    limit: int,
    cursor: str | None,
    decision: str | None,
    policy: str | None,
    external_id: str | None,
    language: str | None,
    origin: str | None,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """What was decided, newest first."""
    house = House(settings.load())
    conn = house.db.reader()
    org_id = organisations.referred(conn, org).id
    wanted = Filter(
        decision=decision,
        policy_id=None if policy is None else policies.find(conn, org_id, policy).id,
        external_id=external_id,
        language=language,
        origin=origin,
        since=_moment("--since", since),
        until=_moment("--until", until),
    )
    found, next_cursor = rows.page(conn, org_id, wanted, cursor=cursor, limit=limit)
    house.close()
    if as_json:
        click.echo(json.dumps({"events": [_as_dict(one) for one in found], "next_cursor": next_cursor}, indent=2))
        return
    for one in found:
        click.echo(
            f"{one.id}  {clock.rfc3339(one.created_at)}  {one.decision:<5}  {one.engine_action:<6}  {one.severity:<8}  "
            f"{one.language:<7}  {one.origin:<11}  {one.external_id or ''}".rstrip()
        )
    if next_cursor is not None:
        click.echo(f"There are more: --cursor {next_cursor}", err=True)


@events.command()
@click.argument("event")
@_ORG
@_JSON
def show(event: str, org: str, as_json: bool) -> None:
    """All that is kept of EVENT, and why it was decided so."""
    house = House(settings.load())
    conn = house.db.reader()
    found = rows.get(conn, organisations.referred(conn, org).id, event)
    house.close()
    if as_json:
        click.echo(json.dumps(_whole(found), indent=2))
        return
    one, made = found.event, found.verdict
    click.echo(f"{one.id}  {clock.rfc3339(one.created_at)}  {one.decision} ({one.engine_action}, {one.severity})")
    click.echo(f"  by {made.version.policy_slug or one.policy_id}, version {one.version}; {made.mode}, {made.reason}")
    click.echo(f"  {one.modality} in {one.language}, from {one.origin}, {made.processing_ms:.1f} ms")
    if made.degraded_reason:
        click.echo(f"  {made.provider_status}: {made.degraded_reason}")
    for name, result in sorted(made.analysis.results.items(), key=lambda item: -item[1].score):
        flagged = "flagged" if name in made.flagged else ""
        click.echo(f"  {name:<18} {result.score:.3f}  {flagged:<7}  {', '.join(result.matched)}".rstrip())
    for name, value in found.metadata.items():
        click.echo(f"  {name}: {value}")


def _whole(found: Whole) -> dict[str, object]:
    made = found.verdict
    return {
        **_as_dict(found.event),
        "scores": {name: result.score for name, result in made.analysis.results.items()},
        "flagged": list(made.flagged),
        "matched": {name: list(result.matched) for name, result in made.analysis.results.items() if result.matched},
        "labels": made.analysis.labels,
        "language_confidence": made.analysis.language.confidence,
        "provider_status": made.provider_status,
        "degraded_reason": made.degraded_reason,
        "mode": made.mode,
        "reason": made.reason,
        "text_llm_credits": made.text_llm_credits,
        "processing_ms": made.processing_ms,
        "metadata": found.metadata,
    }


def _as_dict(event: Event) -> dict[str, object]:
    said = msgspec.structs.asdict(event)
    del said["seq"]
    return {**said, "created_at": clock.rfc3339(event.created_at)}


def _moment(option: str, given: str | None) -> int | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise InvalidRequest(f"{option} must be a moment as ISO 8601 writes it, e.g. 2026-05-19T12:00:00Z") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
