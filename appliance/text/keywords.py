"""The operator's terms: rows of `keyword`, an organisation's own or (org_id None) every organisation's."""

import re
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.text import normalize

Kind = Literal["word", "substring"]

_LONGEST = 200
_CATEGORY = re.compile(r"[a-z][a-z0-9_/-]{0,39}")


class Keyword(msgspec.Struct, frozen=True):
    id: str
    org_id: str | None
    keyword: str
    match: Kind
    category: str | None
    enabled: bool
    created_at: int


class Imported(msgspec.Struct, frozen=True):
    added: int
    present: int
    """Were on the list already."""


def add(
    conn: Connection,
    keyword: str,
    *,
    org_id: str | None,
    actor: str,
    match: str = "word",
    category: str | None = None,
) -> Keyword:
    """A new term, in force for every prompt checked from now on. Raises InvalidRequest when it cannot be used, Conflict
    when it is on that list already."""
    made = _checked(keyword, org_id, match, category)
    if not _insert(conn, made):
        raise Conflict(f"The blocklist has {made.keyword!r} ({made.match}) already")
    audit.record(conn, actor, "blocklist.add", made.id, org_id=org_id, keyword=made.keyword, match=made.match)
    return made


def import_lines(
    conn: Connection,
    lines: Iterable[str],
    *,
    org_id: str | None,
    actor: str,
    match: str = "word",
    category: str | None = None,
) -> Imported:
    """One term a line; empty lines and those that begin with # are passed over. All or nothing: raises InvalidRequest
    that names the line, and then nothing is kept."""
    added = present = 0
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            made = _checked(line, org_id, match, category)
        except InvalidRequest as error:
            raise InvalidRequest(f"line {number}: {error.message}") from error
        if _insert(conn, made):
            added += 1
        else:
            present += 1
    audit.record(conn, actor, "blocklist.import", org_id or "", org_id=org_id, added=added, present=present)
    return Imported(added, present)


def remove(conn: Connection, reference: str, *, org_id: str | None, actor: str) -> list[Keyword]:
    """Take a term off one list, by its id or by the term itself (both kinds of match). Raises NotFound."""
    rows = conn.execute(
        """
        DELETE FROM keyword
        WHERE org_id IS :org_id AND (id = :reference OR keyword = :reference)
        RETURNING *
        """,
        {"org_id": org_id, "reference": reference.strip()},
    ).fetchall()
    if not rows:
        raise NotFound(f"This blocklist has no {reference!r}; see: customhouse blocklist list")
    removed = [_keyword(row) for row in rows]
    for one in removed:
        audit.record(conn, actor, "blocklist.remove", one.id, org_id=org_id, keyword=one.keyword, match=one.match)
    return removed


def every(conn: Connection, org_id: str | None) -> list[Keyword]:
    """One list, in the order of the alphabet: an organisation's own terms, or with None those of every organisation."""
    rows = conn.execute(
        "SELECT * FROM keyword WHERE org_id IS :org_id ORDER BY keyword, match", {"org_id": org_id}
    ).fetchall()
    return [_keyword(row) for row in rows]


def version(conn: Connection, org_id: str | None) -> int:
    """Grows with every change of that list."""
    row = conn.execute(
        "SELECT version FROM keyword_version WHERE org_id = :org_id", {"org_id": org_id or ""}
    ).fetchone()
    return 0 if row is None else row["version"]


def _checked(keyword: str, org_id: str | None, match: str, category: str | None) -> Keyword:
    keyword = keyword.strip()
    if len(keyword) > _LONGEST:
        raise InvalidRequest(f"A term has at most {_LONGEST} characters")
    if not normalize.spellings(keyword):
        raise InvalidRequest("A term needs at least one character that can be seen")
    if match not in get_args(Kind):
        raise InvalidRequest(f"match is {match!r}; it must be word or substring")
    if category is not None and not _CATEGORY.fullmatch(category):
        raise InvalidRequest(
            f"The category {category!r} is not usable: a lower-case letter, then letters, digits, _ - /"
        )
    return Keyword(
        id=clock.new_id(),
        org_id=org_id,
        keyword=keyword,
        match="word" if match == "word" else "substring",
        category=category,
        enabled=True,
        created_at=clock.now_ms(),
    )


def _insert(conn: Connection, made: Keyword) -> bool:
    """False when the term is on that list already."""
    cursor = conn.execute(
        """
        INSERT INTO keyword (id, org_id, keyword, match, category, enabled, created_at)
        VALUES (:id, :org_id, :keyword, :match, :category, :enabled, :created_at)
        ON CONFLICT DO NOTHING
        """,
        msgspec.structs.asdict(made),
    )
    return cursor.rowcount == 1


def _keyword(row: Row) -> Keyword:
    return Keyword(
        id=row["id"],
        org_id=row["org_id"],
        keyword=row["keyword"],
        match=row["match"],
        category=row["category"],
        enabled=bool(row["enabled"]),
        created_at=row["created_at"],
    )
