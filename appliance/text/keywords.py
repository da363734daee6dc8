"""The operator's terms: rows of `keyword`, an organisation's own or (org_id None) every organisation's."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, cast, get_args

import msgspec

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.text import expressions, normalize

Kind = Literal["word", "substring", "regex"]

_LONGEST = 200
MOST_EXPRESSIONS = 500
MOST_STEPS = 10_000
"""Of a list's expressions together, and of their programs: all are run through for every text. On 10,000 characters
made to be slow that is 0.3 s; on ordinary ones, well under a millisecond."""
_CATEGORY = re.compile(r"[a-z][a-z0-9_/-]{0,39}")


class Keyword(msgspec.Struct, frozen=True):
    id: str
    org_id: str | None
    keyword: str
    match: Kind
    category: str | None
    enabled: bool
    created_at: int


class Imported(msgspec.Struct, frozen=True, omit_defaults=True):
    added: int
    present: int
    """Were on the list already."""
    refused: int = 0
    """Lines that were passed over because they cannot be used, where that was asked for."""


class Refused(msgspec.Struct, frozen=True):
    line: int
    text: str
    why: str


class Checked(msgspec.Struct, frozen=True):
    """What importing lines would do."""

    new: int
    present: int
    """On the list already, or twice in the file."""
    refused: list[Refused]
    problem: str = ""
    """Why the list as a whole could not take them."""


def add(
    conn: Connection,
    keyword: str,
    *,
    org_id: str | None,
    actor: str,
    match: str = "word",
    category: str | None = None,
    reason: str | None = None,
) -> Keyword:
    """A new term, in force for every text checked from now on. Raises InvalidRequest when it cannot be used, Conflict
    when it is on that list already."""
    made = _checked(keyword, org_id, match, category)
    if not _insert(conn, made):
        raise Conflict(f"The blocklist has {made.keyword!r} ({made.match}) already")
    _bound(conn, made)
    audit.record(conn, actor, "blocklist.add", made.id, org_id=org_id, reason=reason, **_said(made), match=made.match)
    return made


def import_lines(
    conn: Connection,
    lines: Iterable[str],
    *,
    org_id: str | None,
    actor: str,
    match: str = "word",
    category: str | None = None,
    reason: str | None = None,
    skips_refused: bool = False,
) -> Imported:
    """One term a line; empty lines and those that begin with # are passed over, and `#! match=regex category=spam` says
    of the lines after it what they are. All or nothing: raises InvalidRequest that names the line, and then nothing is
    kept; with `skips_refused` such a line is passed over."""
    added = present = refused = 0
    has_expressions: Keyword | None = None
    for number, line, how in _terms(lines, match, category):
        try:
            made = _checked(line, org_id, *how)
        except InvalidRequest as error:
            if skips_refused:
                refused += 1
                continue
            raise InvalidRequest(f"line {number}: {error.message}") from error
        if made.match == "regex":
            has_expressions = made
        if _insert(conn, made):
            added += 1
        else:
            present += 1
    if has_expressions is not None:
        _bound(conn, has_expressions)
    audit.record(
        conn, actor, "blocklist.import", org_id or "", org_id=org_id, reason=reason, added=added, present=present
    )
    return Imported(added, present, refused)


def check_lines(
    conn: Connection, lines: Iterable[str], *, org_id: str | None, match: str = "word", category: str | None = None
) -> Checked:
    """What `import_lines` would do of the same; nothing is kept."""
    have = {
        (row["keyword"], row["match"])
        for row in conn.execute("SELECT keyword, match FROM keyword WHERE org_id IS :org_id", {"org_id": org_id})
    }
    expressing = [keyword for keyword, kind in have if kind == "regex"]
    before = len(expressing)
    new = present = 0
    refused: list[Refused] = []
    for number, line, how in _terms(lines, match, category):
        try:
            made = _checked(line, org_id, *how)
        except InvalidRequest as error:
            refused.append(Refused(number, line.strip(), error.message))
            continue
        if (made.keyword, made.match) in have:
            present += 1
            continue
        have.add((made.keyword, made.match))
        new += 1
        if made.match == "regex":
            expressing.append(made.keyword)
    return Checked(new, present, refused, _too_many(expressing) if len(expressing) > before else "")


def export_lines(conn: Connection, org_id: str | None) -> Iterator[str]:
    """One list as `import_lines` reads it. What is not enabled is a remark."""
    rows = conn.execute(
        """
        SELECT * FROM keyword WHERE org_id IS :org_id
        ORDER BY match, category IS NOT NULL, category, keyword
        """,
        {"org_id": org_id},
    )
    said: tuple[str, str | None] | None = None
    for one in map(_keyword, rows):
        if (one.match, one.category) != said:
            said = (one.match, one.category)
            yield f"#! match={one.match}" + (f" category={one.category}" if one.category else "")
        if not one.enabled:
            yield f"# not looked for: {one.keyword}"
        elif one.keyword.startswith("#"):
            yield "\\" + one.keyword
        else:
            yield one.keyword


def _terms(lines: Iterable[str], match: str, category: str | None) -> Iterator[tuple[int, str, tuple[str, str | None]]]:
    """(number, term, (match, category)). Raises InvalidRequest for a line `#!` that says something else."""
    how = (match, category)
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if bare.startswith("#!"):
            how = _directive(number, bare, category)
        elif bare and not bare.startswith("#"):
            # an expression says \# for itself
            yield number, bare[1:] if bare.startswith("\\#") and how[0] != "regex" else line, how


def _directive(number: int, line: str, category: str | None) -> tuple[str, str | None]:
    said: dict[str, str] = {}
    for part in line[2:].split():
        name, _, value = part.partition("=")
        said[name] = value
    if not said.keys() <= {"match", "category"} or said.get("match", "word") not in get_args(Kind):
        raise InvalidRequest(f"line {number}: {line!r} is not understood; write #! match=word category=NAME")
    return said.get("match", "word"), said.get("category") or category


def change(
    conn: Connection,
    keyword_id: str,
    *,
    actor: str,
    enabled: bool | msgspec.UnsetType = msgspec.UNSET,
    match: str | msgspec.UnsetType = msgspec.UNSET,
    category: str | msgspec.UnsetType | None = msgspec.UNSET,
    reason: str | None = None,
) -> Keyword:
    """The term as it is then; what is unset stays. Raises NotFound, InvalidRequest, or Conflict when the list has the
    term with that match already."""
    before = get(conn, keyword_id)
    after = _checked(
        before.keyword,
        before.org_id,
        before.match if match is msgspec.UNSET else match,
        before.category if category is msgspec.UNSET else category,
    )
    after = msgspec.structs.replace(
        after,
        id=before.id,
        enabled=before.enabled if enabled is msgspec.UNSET else enabled,
        created_at=before.created_at,
    )
    if after == before:
        return before
    moved = conn.execute(
        "UPDATE OR IGNORE keyword SET match = :match, category = :category, enabled = :enabled WHERE id = :id",
        msgspec.structs.asdict(after),
    ).rowcount
    if not moved:
        raise Conflict(f"The blocklist has {after.keyword!r} ({after.match}) already")
    _bound(conn, after)
    was, now = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    differs = {name: [was[name], now[name]] for name in ("enabled", "match", "category") if was[name] != now[name]}
    audit.record(
        conn, actor, "blocklist.change", after.id, org_id=after.org_id, reason=reason, **_said(after), **differs
    )
    return after


def remove(
    conn: Connection, reference: str, *, org_id: str | None, actor: str, reason: str | None = None
) -> list[Keyword]:
    """Take a term off one list, by its id or by the term itself (both kinds of match). Raises NotFound."""
    removed = named(conn, reference, org_id)
    for one in removed:
        conn.execute("DELETE FROM keyword WHERE id = :id", {"id": one.id})
        audit.record(
            conn, actor, "blocklist.remove", one.id, org_id=org_id, reason=reason, **_said(one), match=one.match
        )
    return removed


def get(conn: Connection, keyword_id: str) -> Keyword:
    """Of any list. Raises NotFound."""
    row = conn.execute("SELECT * FROM keyword WHERE id = :id", {"id": keyword_id}).fetchone()
    if row is None:
        raise NotFound("There is no such keyword")
    return _keyword(row)


def named(conn: Connection, reference: str, org_id: str | None) -> list[Keyword]:
    """The term of one list with this id, or written so (both kinds of match). Raises NotFound."""
    rows = conn.execute(
        "SELECT * FROM keyword WHERE org_id IS :org_id AND (id = :reference OR keyword = :reference)",
        {"org_id": org_id, "reference": reference.strip()},
    ).fetchall()
    if not rows:
        raise NotFound(f"This blocklist has no {reference!r}; see: customhouse blocklist list")
    return [_keyword(row) for row in rows]


def page(conn: Connection, org_id: str | None, *, limit: int, offset: int) -> tuple[list[Keyword], int]:
    """Some of one list, in the order of `every`, and how many there are in all."""
    # as the index keyword_once has it: no sorting of a hundred thousand terms
    wanted = {"list": org_id or "", "limit": limit, "offset": offset}
    rows = conn.execute(
        """
        SELECT * FROM keyword
        WHERE ifnull(org_id, '') = :list
        ORDER BY keyword, match
        LIMIT :limit OFFSET :offset
        """,
        wanted,
    ).fetchall()
    (total,) = conn.execute("SELECT count(*) FROM keyword WHERE ifnull(org_id, '') = :list", wanted).fetchone()
    return [_keyword(row) for row in rows], int(total)


def search(
    conn: Connection, org_id: str | None, needle: str, *, limit: int, offset: int = 0
) -> tuple[list[Keyword], int]:
    """`page` of the terms that have `needle` anywhere, in whatever case, or in their category."""
    return found(conn, org_id, needle, limit=limit, offset=offset), count(conn, org_id, needle)


def found(conn: Connection, org_id: str | None, needle: str, *, limit: int, offset: int = 0) -> list[Keyword]:
    """Some of them. 20 ms where none of 100,000 terms has it, less where the first ones do."""
    where, wanted = _having(org_id, needle)
    rows = conn.execute(
        f"SELECT * FROM keyword WHERE {where} ORDER BY keyword, match LIMIT :limit OFFSET :offset",  # noqa: S608
        {**wanted, "limit": limit, "offset": offset},
    )
    return [_keyword(row) for row in rows]


def count(conn: Connection, org_id: str | None, needle: str) -> int:
    """How many there are."""
    where, wanted = _having(org_id, needle)
    return int(conn.execute(f"SELECT count(*) FROM keyword WHERE {where}", wanted).fetchone()[0])  # noqa: S608


def _having(org_id: str | None, needle: str) -> tuple[str, dict[str, object]]:
    """A condition, and what it names."""
    needle = needle.strip()
    if not needle:
        return "ifnull(org_id, '') = :list", {"list": org_id or ""}
    # LIKE folds the case of ASCII only: other letters are looked for as they are written, small, large and capitalised
    spelled = dict.fromkeys([needle, needle.lower(), needle.upper(), needle.capitalize()])
    patterns = [needle] if needle.isascii() else list(spelled)
    like = {f"like{number}": "%" + re.sub(r"([\\%_])", r"\\\1", one) + "%" for number, one in enumerate(patterns)}
    fits = " OR ".join(f"keyword LIKE :{name} ESCAPE '\\'" for name in like)
    return (
        f"ifnull(org_id, '') = :list AND ({fits} OR category LIKE :like0 ESCAPE '\\')",
        {"list": org_id or "", **like},
    )


def sizes(conn: Connection) -> dict[str | None, tuple[int, int]]:
    """Every list that has a term: whose → how many it has, and how many of them are looked for."""
    rows = conn.execute(
        """
        SELECT ifnull(org_id, '') AS list, count(*) AS terms, sum(enabled) AS enabled FROM keyword GROUP BY list
        """
    )
    return {row["list"] or None: (row["terms"], row["enabled"]) for row in rows}


def every(conn: Connection, org_id: str | None) -> list[Keyword]:
    """One list, in the order of the alphabet: an organisation's own terms, or with None those of every organisation."""
    rows = conn.execute(
        "SELECT * FROM keyword WHERE org_id IS :org_id ORDER BY keyword, match", {"org_id": org_id}
    ).fetchall()
    return [_keyword(row) for row in rows]


def version(conn: Connection, org_id: str | None) -> int:
    """Grows with every change of that list."""
    return versions(conn, org_id or "").get(org_id, 0)


def versions(conn: Connection, org_id: str) -> dict[str | None, int]:
    """Of every organisation's list (None) and of this one's own, where they ever had a term. It grows with every
    change."""
    rows = conn.execute(
        "SELECT org_id, version FROM keyword_version WHERE org_id IN ('', :org_id)", {"org_id": org_id}
    ).fetchall()
    return {row["org_id"] or None: row["version"] for row in rows}


def has_more(conn: Connection, org_id: str | None, than: int) -> bool:
    """Whether a list has more terms than that; as fast for a long one."""
    row = conn.execute(
        "SELECT count(*) FROM (SELECT 1 FROM keyword WHERE ifnull(org_id, '') = :list LIMIT :enough)",
        {"list": org_id or "", "enough": than + 1},
    ).fetchone()
    return bool(row[0] > than)


def _said(term: Keyword) -> dict[str, str]:
    """What the audit log, from which nothing goes, says of it: an organisation's own words can be erased."""
    return {"keyword": term.keyword} if term.org_id is None else {}


def _checked(keyword: str, org_id: str | None, match: str, category: str | None) -> Keyword:
    keyword = keyword.strip()
    if len(keyword) > _LONGEST:
        raise InvalidRequest(f"A term has at most {_LONGEST} characters")
    if match != "regex" and not normalize.spellings(keyword):
        raise InvalidRequest("A term needs at least one character that can be seen")
    if match not in get_args(Kind):
        raise InvalidRequest(f"match is {match!r}; it must be word, substring or regex")
    if match == "regex" and (problem := expressions.problem(keyword)) is not None:
        raise InvalidRequest(f"The expression cannot be used: {problem}")
    if category is not None and not _CATEGORY.fullmatch(category):
        raise InvalidRequest(
            f"The category {category!r} is not usable: a lower-case letter, then letters, digits, _ - /"
        )
    return Keyword(
        id=clock.new_id(),
        org_id=org_id,
        keyword=keyword,
        match=cast(Kind, match),
        category=category,
        enabled=True,
        created_at=clock.now_ms(),
    )


def _bound(conn: Connection, made: Keyword) -> None:
    """Raises InvalidRequest, and nothing is kept, when the list has more expressions now than may be run."""
    if made.match != "regex":
        return
    rows = conn.execute("SELECT keyword FROM keyword WHERE org_id IS ? AND match = 'regex'", (made.org_id,)).fetchall()
    if problem := _too_many([row["keyword"] for row in rows]):
        raise InvalidRequest(problem)


def _too_many(patterns: Sequence[str]) -> str:
    """Why a list may not have these expressions together, or nothing."""
    if len(patterns) > MOST_EXPRESSIONS:
        return f"A blocklist has at most {MOST_EXPRESSIONS} expressions; this would be {len(patterns)}"
    total = sum(map(expressions.steps, patterns))
    if total > MOST_STEPS:
        return f"The expressions of a blocklist have at most {MOST_STEPS} steps together; this would be {total}"
    return ""


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
