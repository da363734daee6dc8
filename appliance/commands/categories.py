"""`customhouse categories`: what is screened, what answers it, and organisations' own questions."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import UNSET

from appliance import audit, clock, settings, thresholds
from appliance.accounts import custom, organisations, toggles
from appliance.accounts.custom import CustomCategory
from appliance.categories import CHECKS, Category
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.jobs import replay, trial
from appliance.jobs.replay import Moved, Replay
from appliance.thresholds import Threshold

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_ORG = click.option("--org", required=True, metavar="NAME", help="The organisation whose it is.")
_REASON = click.option("--reason", help="Why, for the audit log.")
_KINDS = click.option(
    "--applies-to", "kinds", multiple=True, type=click.Choice(custom.KINDS), help="What it is asked of; repeatable."
)


@click.group()
def categories() -> None:
    """Categories: what answers each, and custom ones."""


@categories.command("list")
@click.option("--org", metavar="NAME", help="Also this organisation's custom categories.")
@_JSON
def list_(org: str | None, as_json: bool) -> None:
    """List the categories and what answers each: a model's label against its threshold."""
    with _house() as house:
        conn = house.db.reader()
        own = custom.every(conn, organisations.named(conn, org).id) if org else []
        models = house.settings.inference
        known = house.categories
    if as_json:
        built_in = {slug: msgspec.to_builtins(category) for slug, category in known.items()}
        judges = {"vision_judge": models.vision_judge, "text_judge": models.text_judge}
        click.echo(json.dumps({"built_in": built_in, **judges, "custom": msgspec.to_builtins(own)}, indent=2))
        return
    for slug, category in known.items():
        click.echo(f"{slug:<18} {category.label}: {category.description}")
        judge = models.text_judge if slug == "text" else models.vision_judge
        for line in _answered_by(category, judge, slug == "text"):
            click.echo(f"{'':<18}   ← {line}")
    for one in own:
        off = "" if one.enabled else ", not enabled"
        click.echo(f"custom:{one.slug:<11} {one.name}: {one.question} (version {one.version}{off})")
        for kind in one.applies_to:
            judge = models.text_judge if kind == "prompt" else models.vision_judge
            click.echo(f"{'':<18}   ← {kind}: {judge or 'nothing: no judge is configured, and such jobs fail'}")


@categories.command()
@click.argument("slug", required=False)
@_ORG
@click.option("--name", required=True, help="What people read; a slug is made of it when none is given.")
@click.option("--question", required=True, help="To be answered with yes or no; yes = prohibited.")
@click.option("--description", default="", help="For people.")
@_KINDS
@click.option("--disabled", is_flag=True, help="Keep it, and do not ask it yet: try it first.")
@_REASON
@_JSON
def add(
    slug: str | None,
    org: str,
    name: str,
    question: str,
    description: str,
    kinds: tuple[str, ...],
    disabled: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Add a custom category, asked about what ORG submits from now on. Needs a vision judge, or a text judge for
    prompts."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        made = house.db.write(
            lambda conn: custom.add(
                conn,
                house.settings,
                org_id,
                slug,
                name,
                question,
                actor=audit.operator(),
                description=description,
                applies_to=kinds or None,
                enabled=not disabled,
                reason=reason,
            )
        )
    _print(made, as_json, "is asked from now on" if made.enabled else "is kept, and not asked")


@categories.command()
@click.argument("slug")
@_ORG
@click.option("--name", help="What people read.")
@click.option("--question", help="To be answered with yes or no; yes = prohibited.")
@click.option("--description", help="For people.")
@_KINDS
@_REASON
@_JSON
def change(
    slug: str,
    org: str,
    name: str | None,
    question: str | None,
    description: str | None,
    kinds: tuple[str, ...],
    reason: str | None,
    as_json: bool,
) -> None:
    """Change a custom category, as a new version. Jobs already submitted keep the question they have."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        made = house.db.write(
            lambda conn: custom.change(
                conn,
                house.settings,
                org_id,
                slug,
                actor=audit.operator(),
                name=UNSET if name is None else name,
                question=UNSET if question is None else question,
                description=UNSET if description is None else description,
                applies_to=kinds or UNSET,
                reason=reason,
            )
        )
    _print(made, as_json, f"is at version {made.version}")


@categories.command()
@click.argument("slug")
@_ORG
@_REASON
@_JSON
def enable(slug: str, org: str, reason: str | None, as_json: bool) -> None:
    """Ask a custom category from now on."""
    _print(_switch(slug, org, reason, enabled=True), as_json, "is asked from now on")


@categories.command()
@click.argument("slug")
@_ORG
@_REASON
@_JSON
def disable(slug: str, org: str, reason: str | None, as_json: bool) -> None:
    """Keep a custom category, and do not ask it."""
    _print(_switch(slug, org, reason, enabled=False), as_json, "is not asked any more")


@categories.command("try")
@click.argument("what")
@click.option("--org", metavar="NAME", help="Whose category it is, with --slug.")
@click.option("--slug", help="The category; with --question, in other words.")
@click.option("--question", help="The question, instead of a category's.")
@click.option("--text", "is_text", is_flag=True, help="WHAT is a text, for the text judge.")
@_JSON
def try_(what: str, org: str | None, slug: str | None, question: str | None, is_text: bool, as_json: bool) -> None:
    """Ask about WHAT, a picture's file or URL, at once; nothing is kept. Needs a running model process."""
    if question is None and (slug is None or org is None):
        raise click.UsageError("give --question, or --slug and --org of a category")
    with _house() as house:
        if question is None:
            conn = house.db.reader()
            question = custom.find(conn, organisations.named(conn, org or "").id, slug or "").question
        _look_for(what, is_text)
        tried = trial.once(house.settings, question, what, is_text=is_text)
    if as_json:
        click.echo(msgspec.json.encode(tried))
        return
    verdict, sign = ("prohibited", "≥") if tried.is_prohibited else ("not prohibited", "<")
    click.echo(
        f"{verdict} — {tried.model} {tried.score:.3f} {sign} {tried.threshold:g} "
        f"({tried.device}, {tried.ms:.0f} ms, weights {tried.digest})"
    )


@categories.command()
@click.argument("slug")
@_ORG
@click.option("--reason", required=True, help="Why, for the audit log.")
@_JSON
def remove(slug: str, org: str, reason: str, as_json: bool) -> None:
    """Remove a custom category; jobs already submitted keep it."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        house.db.write(lambda conn: custom.remove(conn, org_id, slug, actor=audit.operator(), reason=reason))
    click.echo(json.dumps({"removed": slug}) if as_json else f"{slug} is not asked any more")


@categories.command()
@click.argument("slug", required=False)
@_ORG
@_JSON
def history(slug: str | None, org: str, as_json: bool) -> None:
    """Show every version of an organisation's custom categories, or of one, the newest first."""
    with _house() as house:
        conn = house.db.reader()
        found = custom.history(conn, organisations.named(conn, org).id, slug)
    if as_json:
        click.echo(json.dumps([{**msgspec.to_builtins(one), "at": clock.rfc3339(one.at)} for one in found], indent=2))
        return
    for one in found:
        about = ", ".join(one.applies_to)
        click.echo(f"{one.slug}@{one.version:<4} {clock.rfc3339(one.at)}  {one.change:<8} {one.actor}  [{about}]")
        click.echo(f"{'':<6}{one.name}: {one.question}")
    if not found:
        click.echo("none")


# --- the four toggles ------------------------------------------------------------------------------------------------


@categories.command("toggles")
@click.option("--org", metavar="NAME", help="Only this organisation's.")
@_JSON
def toggles_(org: str | None, as_json: bool) -> None:
    """Show which of the four checks are on, by organisation."""
    with _house() as house:
        conn = house.db.reader()
        off = toggles.by_org(conn)
        wanted = organisations.every(conn) if org is None else [organisations.referred(conn, org)]
    found = [{"organisation": one.name, **{check: check not in off[one.id] for check in CHECKS}} for one in wanted]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        said = "  ".join(f"{check} {'on' if one[check] else 'OFF'}" for check in CHECKS)
        click.echo(f"{one['organisation']:<24} {said}")
    if not found:
        click.echo("no organisations")


@categories.command()
@click.argument("slug", type=click.Choice(CHECKS))
@click.argument("to", type=click.Choice(["on", "off"]))
@_ORG
@click.option("--reason", required=True, help="Why, for the audit log.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask before underage is turned off.")
@_JSON
def turn(slug: str, to: str, org: str, reason: str, is_sure: bool, as_json: bool) -> None:
    """Turn one of the four checks on or off for ORG; for jobs submitted from then on."""
    if slug == "underage" and to == "off":
        click.echo(toggles.UNDERAGE_WARNING, err=True)
        if not is_sure:
            click.confirm("Turn underage off all the same?", abort=True, err=True)
    with _house() as house:
        org_id = organisations.referred(house.db.reader(), org).id
        off = house.db.write(
            lambda conn: toggles.switch(conn, org_id, slug, to == "on", actor=audit.operator(), reason=reason)
        )
    if as_json:
        click.echo(json.dumps({"organisation": org, **{check: check not in off for check in CHECKS}}))
        return
    click.echo(f"{slug} is {to} for {org}; for jobs submitted from now on")


# --- thresholds ------------------------------------------------------------------------------------------------------


@categories.command("thresholds")
@click.argument("slug", required=False, type=click.Choice(CHECKS))
@click.option("--history", "is_history", is_flag=True, help="Every change: who made it, when and why.")
@_JSON
def thresholds_(slug: str | None, is_history: bool, as_json: bool) -> None:
    """List the thresholds: what each source has to reach, and whether it answers on this box."""
    with _house() as house:
        conn = house.db.reader()
        past = thresholds.history(conn, slug) if is_history else []
        found = [] if is_history else [one for one in _thresholds(house) if slug in (None, one.category)]
    if as_json:
        said = [{**msgspec.to_builtins(one), "created_at": clock.rfc3339(one.created_at)} for one in past]
        now = [{**msgspec.to_builtins(one), "is_moved": one.is_moved} for one in found]
        click.echo(json.dumps(said if is_history else now, indent=2))
        return
    for one in past:
        to = "the file's" if one.value is None else f"{one.value:g}"
        when = clock.rfc3339(one.created_at)
        click.echo(f"{one.category:<18} {one.source:<32} {one.was:g} → {to}  {when}  {one.actor}  {one.reason or ''}")
    for one in found:
        marks = [f"the file says {one.file:g}"] if one.is_moved else []
        marks += [] if one.answers else ["does not answer here"]
        click.echo(f"{one.category:<18} {one.source:<32} ≥ {one.value:<6g} {', '.join(marks)}")
    if is_history and not past:
        click.echo("no threshold was ever moved: config/categories.toml holds", err=True)


@categories.command()
@click.argument("slug", type=click.Choice(CHECKS))
@click.argument("value", metavar="VALUE|file")
@click.option("--of", "source", metavar="SOURCE", help="MODEL:LABEL, or judge: which of the category's thresholds.")
@click.option("--preview", is_flag=True, help="Count what would flip of the jobs that are done; change nothing.")
@click.option(
    "--jobs", type=click.IntRange(1, replay.MOST), default=10_000, show_default=True, help="How many, the newest."
)
@click.option("--org", metavar="NAME", help="Only jobs of this organisation.")
@click.option("--reason", help="Why, for the audit log; needed unless it is a preview.")
@_JSON
def threshold(
    slug: str,
    value: str,
    source: str | None,
    preview: bool,
    jobs: int,
    org: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Move a threshold of SLUG to VALUE, or give it back to config/categories.toml with `file`.

    It holds for what is judged from then on, of every organisation, without a restart. Say which with --of where a
    category has several; without it the one that answers here.
    """
    to = _value(value)
    with _house() as house:
        name = source or _only(slug, _thresholds(house))
        if preview:
            org_id = None if org is None else organisations.referred(house.db.reader(), org).id
            name = thresholds.named(house.shipped_categories[slug], slug, name)
            file = next(one.file for one in _thresholds(house) if (one.category, one.source) == (slug, name))
            read = Replay(house.db.reader, house.categories, jobs, org_id=org_id)
            moved = read.moved(slug, name, file if to is None else thresholds.usable(to))
            _say_moved(moved, as_json)
            return
        if not (reason or "").strip():
            raise click.UsageError("--reason is needed: it is kept in the audit log")
        shipped = house.shipped_categories
        made = house.db.write(
            lambda conn: thresholds.put(conn, shipped, slug, name, to, actor=audit.operator(), reason=reason)
        )
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(made), "created_at": clock.rfc3339(made.created_at)}))
        return
    said = "what config/categories.toml says" if to is None else f"{to:g}"
    click.echo(f"{slug}: {name} counts from {said} on, instead of {made.was:g}")


def _thresholds(house: House) -> list[Threshold]:
    models = house.settings.inference
    judges = {slug: models.text_judge if slug == "text" else models.vision_judge for slug in CHECKS}
    return thresholds.every(house.db.reader(), house.shipped_categories, judges)


def _only(slug: str, there: list[Threshold]) -> str:
    answering = [one.source for one in there if one.category == slug and one.answers]
    if len(answering) != 1:
        names = ", ".join(one.source for one in there if one.category == slug)
        raise InvalidRequest(f"{slug} has several thresholds; say which with --of: {names}")
    return answering[0]


def _value(value: str) -> float | None:
    if value == "file":
        return None
    try:
        return float(value)
    except ValueError as error:
        raise click.UsageError(f"{value} is no number; give one over 0 and at most 1, or file") from error


def _say_moved(moved: Moved, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(moved), "flips": moved.flips}))
        return
    click.echo(
        f"{moved.category}: {moved.source} {moved.before:g} → {moved.after:g}: of the last {moved.jobs:,} jobs, "
        f"{moved.scored:,} of them with this score, {moved.flips:,} would flip"
    )
    click.echo(f"  {moved.turned_true:,} would be {moved.category}; prohibited by that alone: {moved.prohibited:,}")
    click.echo(f"  {moved.turned_false:,} would not be any more; allowed by that alone: {moved.allowed:,}")


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _switch(slug: str, org: str, reason: str | None, *, enabled: bool) -> CustomCategory:
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        return house.db.write(
            lambda conn: custom.change(
                conn, house.settings, org_id, slug, actor=audit.operator(), enabled=enabled, reason=reason
            )
        )


def _look_for(what: str, is_text: bool) -> None:
    if not is_text and not what.startswith(("http://", "https://")) and not Path(what).is_file():
        raise click.UsageError(f"{what} is neither a file nor an http(s) URL; for a text, add --text")


def _print(one: CustomCategory, as_json: bool, said: str) -> None:
    shown: dict[str, Any] = msgspec.to_builtins(one)
    shown |= {"created_at": clock.rfc3339(one.created_at), "updated_at": clock.rfc3339(one.updated_at)}
    click.echo(json.dumps(shown) if as_json else f"{one.slug} {said}")


def _answered_by(category: Category, judge: str, is_text: bool) -> list[str]:
    """What decides, in words."""
    lines = [f"{source.model}: {' + '.join(source.labels)} ≥ {source.threshold}" for source in category.beside(judge)]
    before = ["the blocklist, which ends it when a term matches"] if is_text else []
    question = "the policy" if is_text else f"“{category.question}”"
    return [*before, *lines, *([f"{judge}: {question} ≥ {category.judge_threshold}"] if judge else [])]
