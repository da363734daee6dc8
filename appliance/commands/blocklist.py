"""`customhouse blocklist`: the terms that a prompt may not have, for one organisation or for all."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.text import keywords, lexicons
from appliance.text.keywords import Keyword
from appliance.text.lexicons import Lexicons

_ORG = click.option("--org", metavar="NAME", help="This organisation's own list; without it, every organisation's.")
_MATCH = click.option(
    "--match",
    type=click.Choice(["word", "substring", "regex"]),
    default="word",
    show_default=True,
    help="word: standing alone. substring: inside words too. regex: an expression of RE2.",
)
_CATEGORY = click.option("--category", help="What the term is about, e.g. underage; shown to the admin.")
_REASON = click.option("--reason", help="Kept in the audit log.")
_WHY = click.option("--reason", required=True, help="Kept in the audit log.")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def blocklist() -> None:
    """Terms that a prompt is refused for. A change holds from the next prompt on, without a restart."""


@blocklist.command()
@click.argument("term")
@_ORG
@_MATCH
@_CATEGORY
@_REASON
@_JSON
def add(term: str, org: str | None, match: str, category: str | None, reason: str | None, as_json: bool) -> None:
    """Add TERM, in any spelling: case, spaces, look-alike letters and leetspeak are seen through."""
    with _house() as house:
        org_id = _org_id(house, org)
        made = house.db.write(
            lambda conn: keywords.add(
                conn, term, org_id=org_id, match=match, category=category, actor=audit.operator(), reason=reason
            )
        )
    click.echo(json.dumps(_shown(made), ensure_ascii=False) if as_json else f"{made.keyword!r} is refused from now on")


@blocklist.command("list")
@_ORG
@click.option("--shipped", is_flag=True, help="What config/lexicons has instead.")
@_JSON
def list_(org: str | None, shipped: bool, as_json: bool) -> None:
    """List the terms: those of every organisation, or with --org that one's own."""
    if shipped and org is not None:
        raise click.UsageError("--shipped terms are every organisation's; leave out --org")
    with _house() as house:
        if shipped:
            found = [msgspec.structs.asdict(entry) for entry in lexicons.read_all(house.settings.lexicons_dir)]
        else:
            found = [_shown(one) for one in keywords.every(house.db.reader(), _org_id(house, org))]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for one in found:
        told = ("language", "analyzer", "match", "category", "id")
        about = "  ".join(str(one[key]) for key in told if one.get(key))
        about += f"  {one['effect']}" if one.get("effect", "block") != "block" else ""
        about += "" if one.get("enabled", True) else "  disabled"
        click.echo(f"{one.get('keyword', one.get('term')):<32} {about}")
    if not found:
        click.echo("no terms" if shipped else "no terms; those that come with Customhouse: --shipped", err=True)


@blocklist.command()
@click.argument("term")
@_ORG
@_WHY
@_JSON
def remove(term: str, org: str | None, reason: str, as_json: bool) -> None:
    """Remove TERM, named as it was added or by its id."""
    with _house() as house:
        org_id = _org_id(house, org)
        removed = house.db.write(
            lambda conn: keywords.remove(conn, term, org_id=org_id, actor=audit.operator(), reason=reason)
        )
    if as_json:
        click.echo(json.dumps([_shown(one) for one in removed], indent=2, ensure_ascii=False))
    else:
        click.echo(f"removed {len(removed)}")


def _switch(name: str, enabled: bool, help_: str) -> click.Command:
    @click.command(name, help=help_)
    @click.argument("term")
    @_ORG
    @_REASON
    @_JSON
    def command(term: str, org: str | None, reason: str | None, as_json: bool) -> None:
        def act(conn: Connection) -> list[Keyword]:
            found = keywords.named(conn, term, org_id)
            return [
                keywords.change(conn, one.id, enabled=enabled, actor=audit.operator(), reason=reason) for one in found
            ]

        with _house() as house:
            org_id = _org_id(house, org)
            changed = house.db.write(act)
        if as_json:
            click.echo(json.dumps([_shown(one) for one in changed], indent=2, ensure_ascii=False))
        else:
            click.echo(f"{term!r} is {'looked for' if enabled else 'not looked for'} from now on")

    return command


blocklist.add_command(_switch("enable", True, "Look for TERM again, named as it was added or by its id."))
blocklist.add_command(_switch("disable", False, "Keep TERM on the list, and do not look for it."))


@blocklist.command()
@click.argument("term")
@click.argument("about", metavar="CATEGORY")
@_ORG
@_REASON
@_JSON
def category(term: str, about: str, org: str | None, reason: str | None, as_json: bool) -> None:
    """Say that TERM is about CATEGORY, or none."""
    to = None if about == "none" else about

    def act(conn: Connection) -> list[Keyword]:
        found = keywords.named(conn, term, org_id)
        return [keywords.change(conn, one.id, category=to, actor=audit.operator(), reason=reason) for one in found]

    with _house() as house:
        org_id = _org_id(house, org)
        changed = house.db.write(act)
    if as_json:
        click.echo(json.dumps([_shown(one) for one in changed], indent=2, ensure_ascii=False))
    else:
        click.echo(f"{term!r} is about {about}")


@blocklist.command("import")
@click.argument("file", type=click.File("rb"))
@_ORG
@_MATCH
@_CATEGORY
@_REASON
@_JSON
def import_(
    file: IO[bytes], org: str | None, match: str, category: str | None, reason: str | None, as_json: bool
) -> None:
    """Add the terms of FILE, one a line, or - for standard input. Lines with # are remarks. All of them or none."""
    try:
        lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file.name}: not UTF-8 at byte {error.start}; nothing was added") from error
    with _house() as house:
        org_id = _org_id(house, org)
        done = house.db.write(
            lambda conn: keywords.import_lines(
                conn, lines, org_id=org_id, match=match, category=category, actor=audit.operator(), reason=reason
            )
        )
    if as_json:
        click.echo(msgspec.json.encode(done))
    else:
        click.echo(f"{done.added} added, {done.present} were there already")


@blocklist.command()
@click.argument("text")
@_ORG
@_JSON
def test(text: str, org: str | None, as_json: bool) -> None:
    """Say whether TEXT has a term, and which; exit 3 if so. - reads it from standard input."""
    if text == "-":
        text = sys.stdin.read()
    with _house() as house:
        # an organisation without terms of its own has the shared ones: '' names none
        found = Lexicons(house).match(_org_id(house, org) or "", text)
    if as_json:
        click.echo(msgspec.json.encode(found))
    elif found is None:
        click.echo("no term found")
    else:
        about = f", category {found.category}" if found.category else ""
        click.echo(f"{found.term!r} at characters {found.start} to {found.end}{about}")
    if found is not None:
        sys.exit(3)


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _org_id(house: House, org: str | None) -> str | None:
    return None if org is None else organisations.named(house.db.reader(), org).id


def _shown(one: Keyword) -> dict[str, str | bool | None]:
    return {
        "id": one.id,
        "keyword": one.keyword,
        "match": one.match,
        "category": one.category,
        "enabled": one.enabled,
        "created_at": clock.rfc3339(one.created_at),
    }
