"""`customhouse categories`: what is screened, what answers it, and organisations' own questions."""

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import UNSET

from appliance import audit, clock, settings
from appliance.accounts import custom, organisations
from appliance.accounts.custom import CustomCategory
from appliance.categories import Category
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.inference.client import Models
from appliance.jobs import trial
from appliance.jobs.trial import Trial
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound

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
        tried = _tried(house, question, what, is_text)
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


def _tried(house: House, question: str, what: str, is_text: bool) -> Trial:
    settings = house.settings
    role = "text_judge" if is_text else "vision_judge"
    judge = settings.inference.text_judge if is_text else settings.inference.vision_judge
    if not judge:
        raise CustomhouseError(
            f"No {role.replace('_', ' ')} is configured. Fetch a model of task {role.replace('_', '-')} (customhouse "
            f"models list, customhouse models fetch NAME) and name it in inference.{role}"
        )
    models = Models(settings.inference_socket, settings.inference.deadline_s)
    try:
        if is_text:
            return trial.of_text(models, judge, question, what)
        decoders = Decoders(settings)
        try:
            with _file(house, what) as path:
                return trial.of_picture(models, decoders, judge, question, path)
        finally:
            decoders.close()
    finally:
        models.close()


@contextmanager
def _file(house: House, what: str) -> Generator[Path]:
    """The picture as a file, fetched when it is an address."""
    if not what.startswith(("http://", "https://")):
        if not Path(what).is_file():
            raise click.UsageError(f"{what} is neither a file nor an http(s) URL; for a text, add --text")
        yield Path(what)
        return
    media = house.settings.media
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        outbound = Outbound(media.allowed_private_cidrs)
        outbound.fetch(what, path, media.max_image_mb * 1_000_000, media.fetch_timeout_s)
        yield path


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
