"""`customhouse prompts`: the words of the built-in questions, their versions, and trying them on an example."""

import json
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from appliance import audit, clock, settings
from appliance import prompts as rows
from appliance.categories import Category
from appliance.database import Connection
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.inference.client import Models
from appliance.jobs import trial
from appliance.jobs.trial import Trial
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.prompts import CATEGORY_OF, Version

_MB = 1_000_000
_SLUG = click.argument("slug", type=click.Choice(list(CATEGORY_OF)))
_REASON = click.option("--reason", help="Kept in the audit log.")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def prompts() -> None:
    """Prompts: list, show, set, versions, rollback, try. A change holds for jobs submitted from then on."""


@prompts.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List the four built-in questions and the versions that stand; 0 is what config/categories.toml says."""
    with _house() as house:
        found = [_shown(house, slug) for slug in CATEGORY_OF]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for one in found:
        first, *more = str(one["content"]).splitlines()
        click.echo(f"{one['slug']:<22} v{one['version']:<3} {first}{' …' if more else ''}")
        click.echo(f"{'':<22}      ← {one['answered_by'] or 'nobody: no judge is configured, the classifiers answer'}")


@prompts.command()
@_SLUG
@_JSON
def show(slug: str, as_json: bool) -> None:
    """Show the words of SLUG that stand."""
    with _house() as house:
        found = _shown(house, slug)
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else found["content"])


@prompts.command("set")
@_SLUG
@click.argument("content")
@click.option("--expect", type=click.IntRange(min=0), help="Refuse when the present version is another one.")
@_REASON
@_JSON
def set_(slug: str, content: str, expect: int | None, reason: str | None, as_json: bool) -> None:
    """Ask CONTENT (or @FILE, or - for standard input) from now on, as a new version."""
    words = _text(content)

    def change(conn: Connection) -> Version:
        return rows.put(conn, slug, words, actor=audit.operator(), reason=reason, expected=expect)

    with _house() as house:
        house.db.write(change)
        _say(_shown(house, slug), as_json)


@prompts.command()
@_SLUG
@_JSON
def versions(slug: str, as_json: bool) -> None:
    """List the versions of SLUG, newest first; none of them ever goes."""
    with _house() as house:
        found = rows.every(house.db.reader(), slug)
    if as_json:
        shown = [{**msgspec.structs.asdict(one), "created_at": clock.rfc3339(one.created_at)} for one in found]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for one in found:
        back = "" if one.rolled_back_to is None else f" (back to v{one.rolled_back_to})"
        click.echo(f"v{one.version}{back}  {clock.rfc3339(one.created_at)}  {one.actor}  {one.reason or ''}")
        click.echo(f"    {one.content}")
    if not found:
        click.echo("no versions: what config/categories.toml says is asked", err=True)


@prompts.command()
@_SLUG
@click.argument("version", type=click.IntRange(min=0))
@_REASON
@_JSON
def rollback(slug: str, version: int, reason: str | None, as_json: bool) -> None:
    """Ask the words of VERSION again, as a new version; 0 = what config/categories.toml says now."""
    with _house() as house:
        shipped = house.shipped_categories[CATEGORY_OF[slug]].question
        house.db.write(lambda conn: rows.roll_back(conn, slug, version, shipped, actor=audit.operator(), reason=reason))
        _say(_shown(house, slug), as_json)


@prompts.command("try")
@_SLUG
@click.argument("what")
@click.option("--content", help="Words to try instead of those that stand; or @FILE.")
@_JSON
def try_(slug: str, what: str, content: str | None, as_json: bool) -> None:
    """Put WHAT to the judge: a text (or @FILE, or -) for text-prohibition, else a picture's file or URL.

    Needs a running model process with a judge. Nothing is stored.
    """
    with _house() as house:
        category = house.categories[CATEGORY_OF[slug]]
        words = category.question.strip() if content is None else rows.usable(slug, _text(content))
        models = Models(house.settings.inference_socket, house.settings.inference.deadline_s)
        try:
            tried = (_try_text if CATEGORY_OF[slug] == "text" else _try_picture)(house, models, category, words, what)
        finally:
            models.close()
    version = category.version if content is None else None
    if as_json:
        click.echo(json.dumps({"slug": slug, "version": version, **msgspec.to_builtins(tried)}, ensure_ascii=False))
        return
    verdict, sign = ("prohibited", "≥") if tried.is_prohibited else ("not prohibited", "<")
    click.echo(f"{verdict}: {tried.score:.3f} {sign} {tried.threshold}")
    click.echo(f"{tried.model} {tried.digest} on {tried.device}, {tried.ms:.0f} ms")
    if output := getattr(tried, "output", None):
        click.echo(output)


def _try_text(house: House, models: Models, category: Category, words: str, what: str) -> Trial:
    judge = house.settings.inference.text_judge
    if not judge:
        raise InvalidRequest("No text judge is configured; fetch one and name it in inference.text_judge")
    return trial.of_policy(models, judge, words, _text(what), category.judge_threshold)


def _try_picture(house: House, models: Models, category: Category, words: str, what: str) -> Trial:
    judge = house.settings.inference.vision_judge
    if not judge:
        raise InvalidRequest("No vision judge is configured; fetch one and name it in inference.vision_judge")
    limits = msgspec.structs.replace(house.settings.media, decoders=1)
    decoders = Decoders(msgspec.structs.replace(house.settings, media=limits))
    try:
        with tempfile.TemporaryDirectory(dir=house.settings.media_dir) as folder:
            path = Path(what)
            if what.startswith(("http://", "https://")):
                path = Path(folder) / "example"
                outbound = Outbound(limits.allowed_private_cidrs)
                outbound.fetch(what, path, limits.max_image_mb * _MB, limits.fetch_timeout_s)
            elif not path.is_file():
                raise InvalidRequest(f"{what}: no such file; give a picture's file, or its http or https address")
            return trial.of_picture(models, decoders, judge, words, path, category.judge_threshold)
    finally:
        decoders.close()


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _text(given: str) -> str:
    """As it is; of @FILE what the file holds, of - what standard input does. Raises InvalidRequest."""
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{given[1:]}: cannot be read as UTF-8 text ({error})") from error


def _shown(house: House, slug: str) -> dict[str, object]:
    category = house.categories[CATEGORY_OF[slug]]
    judges = house.settings.inference
    return {
        "slug": slug,
        "content": category.question.strip(),
        "version": category.version,
        "updated_at": clock.rfc3339(rows.updated_at(house.db.reader(), house.settings.categories_file, slug)),
        "category": CATEGORY_OF[slug],
        "threshold": category.judge_threshold,
        "answered_by": (judges.text_judge if CATEGORY_OF[slug] == "text" else judges.vision_judge) or None,
    }


def _say(shown: dict[str, object], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    click.echo(f"{shown['slug']} is at version {shown['version']}; jobs submitted from now on are asked it")
    if shown["answered_by"] is None:
        click.echo("No judge is configured, so nobody is asked it yet: see inference in the settings", err=True)
