"""The words of the four built-in questions: those of config/categories.toml, or the administrator's own in their place.

A version is only ever added, and names its words for good: a job carries the versions that it was submitted under, so
its verdict can be traced to what the judge was asked. Version 0 is the file's question, whatever that is now.
"""

from pathlib import Path

import msgspec

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound

CATEGORY_OF = {
    "vlm-nsfw": "nsfw",
    "vlm-ai-adult-general": "ai_adult_general",
    "vlm-underage": "underage",
    "text-prohibition": "text",
}
"""The contract's slug → the category whose question it is."""
SLUG_OF = {category: slug for slug, category in CATEGORY_OF.items()}

LONGEST = {"text-prohibition": 4000}
"""Characters: a policy is read once and kept in the judge's cache, a question once a picture and category."""
_QUESTION = 500


class Version(msgspec.Struct, frozen=True):
    slug: str
    version: int
    content: str
    actor: str
    reason: str | None
    rolled_back_to: int | None
    created_at: int


def now(conn: Connection) -> dict[str, int]:
    """Category → version, of those questions that are not the file's. Four rows at most: 8 to 14 µs."""
    return {CATEGORY_OF[row["slug"]]: row["version"] for row in conn.execute("SELECT slug, version FROM prompt_now")}


def get(conn: Connection, slug: str, version: int) -> Version:
    """Raises NotFound."""
    row = conn.execute(
        "SELECT * FROM prompt_version WHERE slug = :slug AND version = :version", {"slug": slug, "version": version}
    ).fetchone()
    if row is None:
        raise NotFound(f"The prompt {slug} has no version {version}; see: customhouse prompts versions {slug}")
    return _version(row)


def every(conn: Connection, slug: str) -> list[Version]:
    """The administrator's versions, newest first; without any the file's question is asked."""
    check(slug)
    rows = conn.execute("SELECT * FROM prompt_version WHERE slug = :slug ORDER BY version DESC", {"slug": slug})
    return [_version(row) for row in rows]


def updated_at(conn: Connection, file: Path, slug: str) -> int:
    """When the present words were written: the version's, or the file's."""
    present = _present(conn, slug)
    return get(conn, slug, present).created_at if present else int(file.stat().st_mtime * 1000)


def put(
    conn: Connection, slug: str, content: str, *, actor: str, reason: str | None = None, expected: int | None = None
) -> Version:
    """These words are asked of every job submitted from now on, in every process. The same words again are no new
    version. Raises NotFound, InvalidRequest, or Conflict when the present version is not the `expected` one."""
    content = usable(slug, content)
    present = _present(conn, slug)
    if expected is not None and expected != present:
        raise Conflict(f"The prompt {slug} is at version {present}, not {expected}: it was changed meanwhile")
    if present and (newest := get(conn, slug, present)).content == content:
        return newest
    return _add(conn, slug, content, actor, reason, None)


def roll_back(conn: Connection, slug: str, to: int, file: str, *, actor: str, reason: str | None = None) -> Version:
    """The words of version `to` again, as a new version; `file` is what the configuration says, for 0. Raises
    NotFound, or InvalidRequest when it is the present one."""
    check(slug)
    if to == _present(conn, slug):
        raise InvalidRequest(f"The prompt {slug} is at version {to} already")
    content = get(conn, slug, to).content if to else file.strip()
    return _add(conn, slug, content, actor, reason, to)


def check(slug: str) -> None:
    """Raises NotFound that lists the slugs there are."""
    if slug not in CATEGORY_OF:
        raise NotFound(f"There is no prompt {slug!r}; there are: {', '.join(CATEGORY_OF)}")


def usable(slug: str, content: str) -> str:
    """The words as they are kept. Raises NotFound or InvalidRequest."""
    check(slug)
    content = content.strip()
    longest = LONGEST.get(slug, _QUESTION)
    if not 1 <= len(content) <= longest:
        raise InvalidRequest(
            f"The content of {slug} has 1 to {longest:,} characters",
            details=[{"field": "content", "issue": f"has 1 to {longest:,} characters"}],
        )
    return content


def _present(conn: Connection, slug: str) -> int:
    row = conn.execute("SELECT version FROM prompt_now WHERE slug = :slug", {"slug": slug}).fetchone()
    return row["version"] if row else 0


def _add(
    conn: Connection, slug: str, content: str, actor: str, reason: str | None, rolled_back_to: int | None
) -> Version:
    made = Version(
        slug=slug,
        version=_present(conn, slug) + 1,
        content=content,
        actor=actor,
        reason=reason,
        rolled_back_to=rolled_back_to,
        created_at=clock.now_ms(),
    )
    conn.execute(
        """
        INSERT INTO prompt_version (slug, version, content, actor, reason, rolled_back_to, created_at)
        VALUES (:slug, :version, :content, :actor, :reason, :rolled_back_to, :created_at)
        """,
        msgspec.structs.asdict(made),
    )
    audit.record(
        conn, actor, "prompt.changed", slug, reason=reason, version=made.version, rolled_back_to=rolled_back_to
    )
    return made


def _version(row: Row) -> Version:
    return msgspec.convert(dict(row), Version)
