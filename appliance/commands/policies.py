"""`customhouse policies`: an organisation's policies: made, moved on, previewed, gone back with."""

import csv
import json
import time
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import InvalidRequest, Misconfigured
from appliance.house import House
from appliance.moderations import evaluations, sampling
from appliance.moderations import preview as replay
from appliance.moderations.preview import Report, Wanted
from appliance.moderations.sampling import Rate
from appliance.policies import body as bodies
from appliance.policies import change, rows
from appliance.policies.change import By
from appliance.policies.rows import Made, Policy
from appliance.policies.version import Body
from appliance.text.analysis import ANALYZERS

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_ORG = click.option("--org", required=True, help="The organisation: its name or id.")
_REASON = click.option("--reason", required=True, help="Kept in the audit log.")
_BODY = (
    click.option("--file", "file", type=click.Path(dir_okay=False, path_type=Path), help="Members, as TOML or JSON."),
    click.option("--set", "assigned", multiple=True, metavar="MEMBER=VALUE", help="One member; may be repeated."),
    click.option("--replace", is_flag=True, help="What is not said is off, instead of as before."),
)


def _with_body(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_BODY):
        command = option(command)
    return command


@click.group()
def policies() -> None:
    """Policies of an organisation: list, show, create, version, activate, preview, diff.

    POLICY is a slug or an id. Members of a version are named by their path, e.g.
    --set analyzers.spam.thresholds.block=0.97 --set semantic.mode=off.
    """


@policies.command("list")
@click.option("--org", help="The organisation: its name or id; without it, every organisation's.")
@_JSON
def list_(org: str | None, as_json: bool) -> None:
    """List the policies, the default first, and how often the sampled audit disagreed with the version in force."""
    with _house() as house:
        if org is not None:
            _begun(house, org)
        conn = house.db.reader()
        wanted = organisations.every(conn) if org is None else [organisations.referred(conn, org)]
        found: list[tuple[str, Policy, Made, Rate | None]] = []
        for one in wanted:
            audited = {rate.version_id: rate for rate in sampling.rates(conn, one.id)}
            for policy in rows.every(conn, one.id):
                made = rows.made(conn, policy)
                found.append((one.name, policy, made, audited.get(made.id)))
    if as_json:
        said = [
            {
                "organisation": name,
                **_as_dict(policy, made),
                "audited": None if rate is None else msgspec.to_builtins(rate),
            }
            for name, policy, made, rate in found
        ]
        click.echo(json.dumps(said, indent=2))
        return
    for name, policy, made, rate in found:
        whose = "" if org is not None else f"{name:<20} "
        checked = "" if rate is None else f"  audited {rate.sampled:,}, {rate.share:.1%} disagreed"
        click.echo(f"{whose}{_line(policy, made)}{checked}")


@policies.command()
@click.argument("policy")
@click.option("--version", "number", type=int, help="Not the one in force, but this.")
@click.option("--versions", "lists_all", is_flag=True, help="All versions: who made them, and why.")
@_ORG
@_JSON
def show(policy: str, number: int | None, lists_all: bool, org: str, as_json: bool) -> None:
    """Show POLICY: its version in force, or another."""
    with _house() as house:
        found = rows.find(house.db.reader(), _begun(house, org), policy)
        conn = house.db.reader()
        made = rows.versions(conn, found) if lists_all else [rows.made(conn, found, number)]
        kept = [] if lists_all else evaluations.of_version(conn, found.org_id, made[0].id)
    if as_json:
        said = [_as_dict(found, one) for one in made]
        click.echo(json.dumps(said if lists_all else said[0], indent=2))
        return
    for one in made:
        click.echo(_line(found, one))
        click.echo(f"  {clock.rfc3339(one.created_at)} by {one.made_by}: {one.reason or 'no reason given'}")
        if not lists_all:
            click.echo(_body_lines(one.body))
    for one in kept:
        click.echo(f"  evaluated {clock.rfc3339(one.created_at)}: {one.data}, {one.texts:,} texts  {one.id}")
    if kept:
        click.echo("  see: customhouse evaluate --saved")


@policies.command()
@click.argument("slug")
@click.option("--name", help="As people read it.")
@click.option("--template", default=rows.DEFAULT, show_default=True, help="What it begins as: a file of policies_dir.")
@click.option("--default", "is_default", is_flag=True, help="It holds where a request names none.")
@_with_body
@_ORG
@_REASON
@_JSON
def create(
    slug: str, name: str | None, template: str, is_default: bool, org: str, reason: str, as_json: bool, **how: Any
) -> None:
    """Make the policy SLUG: a template with what is said in its place."""
    given = _given(**how)

    def act(conn: Connection, org_id: str, folder: Path) -> Policy:
        by = _by(reason)
        return change.create(
            conn, org_id, slug, name or slug, given, ANALYZERS, folder, by, template=template, is_default=is_default
        )

    _write(org, act, as_json)


@policies.command()
@click.argument("policy")
@click.option("--default", "is_default", is_flag=True, help="It holds where a request names none.")
@click.option("--name", help="A new name.")
@_ORG
@_REASON
@_JSON
def rename(policy: str, is_default: bool, name: str | None, org: str, reason: str, as_json: bool) -> None:
    """Rename POLICY, or make it the default."""
    _write(
        org,
        lambda conn, org_id, _: change.change(
            conn, rows.find(conn, org_id, policy), _by(reason), name=name, is_default=is_default or None
        ),
        as_json,
    )


@policies.command()
@click.argument("policy")
@_with_body
@_ORG
@_REASON
@_JSON
def version(policy: str, org: str, reason: str, as_json: bool, **how: Any) -> None:
    """Make the next version of POLICY, in force at once. Look at `preview` first."""
    given, by = _given(**how), _by(reason)
    if not given:  # with --replace it would be a policy in force that looks at nothing
        raise InvalidRequest("Nothing is said of the version: name members with --set or --file")
    _write(
        org,
        lambda conn, org_id, _: change.add(
            conn, rows.find(conn, org_id, policy), given, ANALYZERS, by, is_whole=how["replace"]
        ),
        as_json,
    )


@policies.command()
@click.argument("policy")
@click.option("--version", "number", type=int, help="Begin with this version instead of the one in force.")
@_ORG
@_REASON
@_JSON
def edit(policy: str, number: int | None, org: str, reason: str, as_json: bool) -> None:
    """Write the next version of POLICY in $EDITOR, as TOML; in force as it is saved. Unchanged, nothing is made."""
    by = _by(reason)
    with _house() as house:
        conn = house.db.reader()
        found = rows.find(conn, _begun(house, org), policy)
        before = rows.made(conn, found, number).body
    text = click.edit(bodies.toml(before), extension=".toml", require_save=True)
    if text is None:
        raise InvalidRequest("Nothing was saved: no version was made")
    given = bodies.parse(text)
    _write(
        org,
        lambda conn, org_id, _: change.add(conn, rows.find(conn, org_id, policy), given, ANALYZERS, by, is_whole=True),
        as_json,
    )


@policies.command()
@click.argument("policy")
@click.argument("to", type=click.Choice(["on", "off"]))
@_ORG
@_REASON
@_JSON
def observe(policy: str, to: str, org: str, reason: str, as_json: bool) -> None:
    """Have POLICY decide and record, but answer allow; or, with off, hold again. Makes a version."""
    by, wanted = _by(reason), to == "on"

    def act(conn: Connection, org_id: str, _: Path) -> Policy:
        found = rows.find(conn, org_id, policy)
        return change.observe(conn, found, wanted, ANALYZERS, by)

    _write(org, act, as_json)


@policies.command()
@click.argument("policy")
@click.argument("number", type=int)
@_ORG
@_REASON
@_JSON
def activate(policy: str, number: int, org: str, reason: str, as_json: bool) -> None:
    """Go back: a copy of version NUMBER of POLICY becomes the next one, in force at once."""
    _write(
        org,
        lambda conn, org_id, _: change.activate(conn, rows.find(conn, org_id, policy), number, _by(reason)),
        as_json,
    )


@policies.command()
@click.argument("policy")
@click.option("--version", "number", type=int, help="A version that there is, instead of members.")
@_with_body
@click.option(
    "--events", type=click.IntRange(1, replay.MOST), default=100_000, show_default=True, help="How many, the newest."
)
@click.option("--all-policies", is_flag=True, help="Also what other policies decided.")
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, help="How many flips to list.")
@click.option("--export", type=click.Path(dir_okay=False, writable=True), help="Write every flip there, as CSV.")
@_ORG
@_JSON
def preview(
    policy: str,
    number: int | None,
    events: int,
    all_policies: bool,
    limit: int,
    export: str | None,
    org: str,
    as_json: bool,
    **how: Any,
) -> None:
    """What a version of POLICY would have decided of the last events. Nothing is changed."""
    given = _given(**how)
    if number is not None and given:
        raise InvalidRequest("--version and members of a version are both given; say one of them")
    with _house() as house:
        conn = house.db.reader()
        found = rows.find(conn, _begun(house, org), policy)
        before = rows.made(conn, found).body
        if number is None:
            body = bodies.draft(given, Body() if how["replace"] else before, ANALYZERS)
        else:
            body = rows.made(conn, found, number).body
        wanted = Wanted(found.org_id, None if all_policies else found.id, events)
        has_judge = bool(house.settings.inference.text_judge)
        began = time.monotonic()
        report = replay.run(house.db.reader, wanted, body, has_judge=has_judge, most_flips=limit)
        took_s = time.monotonic() - began
        if export is not None:
            _export(export, house, wanted, body, has_judge)
    changes = bodies.diff(before, body)
    if as_json:
        said = {"policy": found.slug, **msgspec.to_builtins(report), "changes": changes, "took_s": round(took_s, 2)}
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    _say(report, changes, took_s)


@policies.command()
@click.argument("policy")
@click.argument("before", type=int, required=False)
@click.argument("after", type=int, required=False)
@_ORG
@_JSON
def diff(policy: str, before: int | None, after: int | None, org: str, as_json: bool) -> None:
    """What differs between two versions of POLICY; without AFTER the one in force, without BEFORE the one before it."""
    with _house() as house:
        conn = house.db.reader()
        found = rows.find(conn, _begun(house, org), policy)
        to = found.active if after is None else after
        start = max(1, to - 1) if before is None else before
        changes = bodies.diff(rows.made(conn, found, start).body, rows.made(conn, found, to).body)
    if as_json:
        click.echo(json.dumps({"policy": found.slug, "before": start, "after": to, "changes": changes}, indent=2))
        return
    click.echo(f"{found.slug}: version {start} → {to}")
    for line in _changes(changes) or ["  nothing differs"]:
        click.echo(line)


# --- what is given ---------------------------------------------------------------------------------------------------


def _given(*, file: Path | None, assigned: tuple[str, ...], replace: bool) -> dict[str, Any]:
    """The members of a version's body. Raises Misconfigured or InvalidRequest."""
    given = {} if file is None else _read(file)
    given.pop("name", None)  # of a file of config/policies
    for one in assigned:
        path, equals, value = one.partition("=")
        if not equals:
            raise InvalidRequest(f"--set {one}: say MEMBER=VALUE, e.g. analyzers.spam.thresholds.block=0.97")
        place = given
        *parents, last = path.split(".")
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InvalidRequest(f"--set {path}: {parent} has no members")
            place = cast("dict[str, Any]", inner)
        place[last] = _value(value)
    return given


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise Misconfigured(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{file}: neither TOML nor JSON ({error})") from error
    if not isinstance(found, dict):
        raise Misconfigured(f"{file}: must be an object of a version's members")
    return cast("dict[str, Any]", found)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


# --- what is done ----------------------------------------------------------------------------------------------------


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _begun(house: House, org: str) -> str:
    """The organisation's id; it has the shipped default from here on."""
    org_id = organisations.referred(house.db.reader(), org).id
    if rows.in_force(house.db.reader(), org_id, None) is None:
        house.db.write(lambda conn: rows.begin(conn, org_id, house.settings.policies_dir))
    return org_id


def _by(reason: str) -> By:
    if not reason.strip():
        raise InvalidRequest("--reason is empty; it is kept in the audit log")
    return By(audit.operator(), reason.strip())


def _write(org: str, act: Callable[[Connection, str, Path], Policy], as_json: bool) -> None:
    with _house() as house:
        org_id = _begun(house, org)
        policy = house.db.write(lambda conn: act(conn, org_id, house.settings.policies_dir))
        made = rows.made(house.db.reader(), policy)
    click.echo(json.dumps(_as_dict(policy, made), indent=2) if as_json else _line(policy, made))


def _export(path: str, house: House, wanted: Wanted, body: Body, has_judge: bool) -> None:
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(replay.COLUMNS)
            for chunk in replay.every_flip(house.db.reader, wanted, body, has_judge=has_judge):
                lines.writerows(replay.line(flip) for flip in chunk)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be written ({error.strerror})") from error


# --- what is said ----------------------------------------------------------------------------------------------------


def _as_dict(policy: Policy, made: Made) -> dict[str, Any]:
    return {
        "id": policy.id,
        "slug": policy.slug,
        "name": policy.name,
        "is_default": policy.is_default,
        "version": made.number,
        "version_id": made.id,
        "is_active": made.number == policy.active,
        **msgspec.to_builtins(made.body),
        "made_by": made.made_by,
        "reason": made.reason,
        "copied_from": made.copied_from,
        "created_at": clock.rfc3339(made.created_at),
    }


def _line(policy: Policy, made: Made) -> str:
    marks = ["default"] if policy.is_default else []
    marks += ["observes only"] if made.body.observe_only else []
    marks += [f"copy of {made.copied_from}"] if made.copied_from else []
    marks += [] if made.number == policy.active else ["not in force"]
    on = sum(rule.enabled for rule in made.body.analyzers.values())
    said = ", ".join([f"{on} analyzers", f"judge {made.body.semantic.mode}", *marks])
    return f"{policy.slug:<24} version {made.number:<4}  {said}  ({policy.name})"


def _body_lines(body: Body) -> str:
    lines = [f"  {'':<18} {'WARN':>6} {'REVIEW':>6} {'BLOCK':>6}"]
    for name, rule in body.analyzers.items():
        limits = rule.thresholds
        steps = " ".join(f"{'–' if one is None else one:>6}" for one in (limits.warn, limits.review, limits.block))
        lines.append(f"  {name:<18} {steps}{'' if rule.enabled else '  off'}")
    reuse, semantic = body.hash_reuse, body.semantic
    lines.append(f"  hash reuse: {f'{reuse.ttl_seconds:,} s' if reuse.enabled else 'off'}")
    lines.append(
        f"  judge: {semantic.mode}, within {semantic.deadline_ms:,} ms, when it is down: {semantic.fail_mode}, "
        f"audited: {semantic.audit_share:.1%}"
    )
    return "\n".join(lines)


def _changes(changes: dict[str, list[Any]]) -> list[str]:
    return [f"  {name}: {_word(old)} → {_word(new)}" for name, (old, new) in changes.items()]


def _word(value: Any) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False)


def _say(report: Report, changes: dict[str, list[Any]], took_s: float) -> None:
    for line in _changes(changes) or ["  nothing differs from the version in force"]:
        click.echo(line)
    missing = sum(report.not_replayed.values())
    click.echo(
        f"{report.events:,} events in {took_s:.1f} s: {report.flipped:,} would be decided otherwise, "
        f"{missing:,} cannot be told"
    )
    for turn in report.turns:
        click.echo(f"{turn.before} → {turn.after}: {turn.events:,}")
        click.echo(f"  by analyzer: {_counts(turn.by_analyzer)}")
        click.echo(f"  by language: {_counts(turn.by_language)}")
    if missing:
        click.echo(f"cannot be told, as it was not asked: {_counts(report.not_replayed)}")
    for flip in report.flips:
        when = clock.rfc3339(flip.created_at)
        click.echo(f"  {flip.event_id}  {when}  {flip.before} → {flip.after}  {' '.join(flip.analyzers)}")


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"
