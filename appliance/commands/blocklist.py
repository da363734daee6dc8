"""`customhouse blocklist`: the terms that a prompt may not have, for one organisation or for all."""

import json
import sys
from collections import Counter
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
from appliance.text import keywords, lexicons, matches, named_lists
from appliance.text.keywords import Checked, Keyword
from appliance.text.lexicons import Lexicons
from appliance.text.matches import Explained
from appliance.text.named_lists import Matcher

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
@click.option("--preview", is_flag=True, help="Say what would be added, and what is refused and why; add nothing.")
@click.option("--skip-refused", is_flag=True, help="Pass over lines that cannot be used, instead of adding nothing.")
@_REASON
@_JSON
def import_(
    file: IO[bytes],
    org: str | None,
    match: str,
    category: str | None,
    preview: bool,
    skip_refused: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Add the terms of FILE, one a line, or - for standard input. Lines with # are remarks. All of them or none.

    A line `#! match=substring category=spam` says of the lines after it what they are, as `export` writes it.
    """
    try:
        lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file.name}: not UTF-8 at byte {error.start}; nothing was added") from error
    with _house() as house:
        org_id = _org_id(house, org)
        if preview:
            conn = house.db.reader()
            _say_checked(keywords.check_lines(conn, lines, org_id=org_id, match=match, category=category), as_json)
            return
        done = house.db.write(
            lambda conn: keywords.import_lines(
                conn,
                lines,
                org_id=org_id,
                match=match,
                category=category,
                actor=audit.operator(),
                reason=reason,
                skips_refused=skip_refused,
            )
        )
    if as_json:
        click.echo(msgspec.json.encode(done))
    else:
        passed = f", {done.refused} passed over" if done.refused else ""
        click.echo(f"{done.added} added, {done.present} were there already{passed}")


@blocklist.command()
@click.argument("file", type=click.File("w", encoding="utf-8"), default="-")
@_ORG
@_JSON
def export(file: IO[str], org: str | None, as_json: bool) -> None:
    """Write a list to FILE, or to standard output, as `import` reads it; with --json every term and what it is."""
    with _house() as house:
        conn = house.db.reader()
        org_id = _org_id(house, org)
        if as_json:
            file.write(json.dumps([_shown(one) for one in keywords.every(conn, org_id)], indent=2, ensure_ascii=False))
            file.write("\n")
            return
        for line in keywords.export_lines(conn, org_id):
            file.write(line + "\n")


@blocklist.command()
@click.argument("words")
@_ORG
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@_JSON
def search(words: str, org: str | None, limit: int, as_json: bool) -> None:
    """List the terms that have WORDS in them, or in their category."""
    with _house() as house:
        found, total = keywords.search(house.db.reader(), _org_id(house, org), words, limit=limit)
    if as_json:
        said = {"terms": [_shown(one) for one in found], "count": total}
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    for one in found:
        off = "" if one.enabled else "  disabled"
        click.echo(f"{one.keyword:<32} {one.match}  {one.category or '–'}  {one.id}{off}")
    click.echo(f"{len(found):,} of {total:,}", err=True)


@blocklist.command()
@_JSON
def lists(as_json: bool) -> None:
    """List the lists, and how many terms each has: everybody's, organisations', named ones, and the shipped ones."""
    with _house() as house:
        conn = house.db.reader()
        names = {one.id: one.name for one in organisations.every(conn)}
        found = [
            {"list": "everyone" if whose is None else "own", "organisation": whose and names[whose], "terms": terms}
            for whose, (terms, _) in keywords.sizes(conn).items()
        ]
        found += [
            {"list": name, "organisation": names[org], "terms": size} for org, name, size in named_lists.sizes(conn)
        ]
        shipped = Counter(entry.language for entry in lexicons.read_all(house.settings.lexicons_dir))
    found += [{"list": f"shipped {code}", "organisation": None, "terms": size} for code, size in shipped.items()]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for one in found:
        click.echo(f"{one['list']:<24} {one['organisation'] or '':<24} {one['terms']:>9,}")


@blocklist.command()
@click.argument("text")
@_ORG
@click.option("--explain", is_flag=True, help="Every match on every list: where, what was undone, whether it counts.")
@_JSON
def test(text: str, org: str | None, explain: bool, as_json: bool) -> None:
    """Say whether TEXT has a term, and which; exit 3 if so. - reads it from standard input."""
    if text == "-":
        text = sys.stdin.read()
    with _house() as house:
        org_id = _org_id(house, org)
        if explain:
            told = matches.explain(house.db.reader(), Lexicons(house), Matcher(), org_id, text)
            _say_explained(told, as_json)
            sys.exit(3 if told.is_refused else 0)
        # an organisation without terms of its own has the shared ones: '' names none
        found = Lexicons(house).match(org_id or "", text)
    if as_json:
        click.echo(msgspec.json.encode(found))
    elif found is None:
        click.echo("no term found")
    else:
        about = f", category {found.category}" if found.category else ""
        click.echo(f"{found.term!r} at characters {found.start} to {found.end}{about}")
    if found is not None:
        sys.exit(3)


def _say_explained(told: Explained, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(told))
        return
    for one in told.found:
        about = "  ".join(part for part in (one.list, one.language, one.category or "", one.match) if part)
        undone = f", undone: {one.undone}" if one.undone else ""
        click.echo(f"{one.start}–{one.end}  {one.term!r}  ({about}{undone})")
        click.echo(f"      {'counts' if one.counts else 'does not count'}: {one.why}")
    language = f"{told.language.code} ({told.language.confidence:.0%})"
    refused = "a prompt would be refused" if told.is_refused else "the blocklist would let a prompt pass"
    click.echo(f"{len(told.found)} matches in a text read as {language}; {refused}")


def _say_checked(checked: Checked, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(checked))
        return
    for one in checked.refused:
        click.echo(f"line {one.line}: {one.text!r}: {one.why}")
    if checked.problem:
        click.echo(checked.problem)
    click.echo(f"{checked.new:,} new, {checked.present:,} there already, {len(checked.refused):,} refused")


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
