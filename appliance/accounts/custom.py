"""Custom categories: an organisation's own yes-or-no questions about pictures, answered by the vision judge."""

import re

import msgspec

from appliance import audit, clock
from appliance.categories import CHECKS
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.settings import Settings

LIMIT = 10
"""The most categories of one organisation."""

_SLUG = re.compile(r"[a-z][a-z0-9_]{0,39}")


class CustomCategory(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    slug: str
    name: str
    question: str
    enabled: bool
    created_at: int
    updated_at: int


def add(
    conn: Connection, settings: Settings, org_id: str, slug: str, name: str, question: str, *, actor: str
) -> CustomCategory:
    """A new question, asked about every picture submitted from now on. Raises InvalidRequest when no vision judge is
    there to answer it or a value is not usable, Conflict when the slug is taken."""
    if not settings.inference.vision_judge:
        raise InvalidRequest(
            "A custom category needs a vision judge, and none is configured. Fetch a model of task vision-judge "
            "(customhouse models list, customhouse models fetch NAME) and name it in inference.vision_judge"
        )
    if not _SLUG.fullmatch(slug) or slug in CHECKS or slug == "custom":
        raise InvalidRequest(
            f"The slug {slug!r} is not usable: a lower-case letter, then up to 39 letters, digits or _; "
            "and not the name of a built-in check"
        )
    if not 1 <= len(name) <= 100:
        raise InvalidRequest("A category's name has 1 to 100 characters")
    if not 1 <= len(question.strip()) <= 500:
        raise InvalidRequest("A category's question has 1 to 500 characters, to be answered with yes or no")
    have = every(conn, org_id)
    if any(category.slug == slug for category in have):
        raise Conflict(f"There is a custom category {slug!r} already")
    if len(have) >= LIMIT:
        raise InvalidRequest(f"An organisation has at most {LIMIT} custom categories; remove one first")
    now = clock.now_ms()
    category = CustomCategory(
        id=clock.new_id(),
        org_id=org_id,
        slug=slug,
        name=name,
        question=question.strip(),
        enabled=True,
        created_at=now,
        updated_at=now,
    )
    conn.execute(
        """
        INSERT INTO custom_category (id, org_id, slug, name, question, enabled, created_at, updated_at)
        VALUES (:id, :org_id, :slug, :name, :question, 1, :created_at, :updated_at)
        """,
        msgspec.structs.asdict(category),
    )
    audit.record(conn, actor, "category.added", slug, org_id=org_id)
    return category


def every(conn: Connection, org_id: str) -> list[CustomCategory]:
    rows = conn.execute("SELECT * FROM custom_category WHERE org_id = :org_id ORDER BY slug", {"org_id": org_id})
    return [_category(row) for row in rows]


def questions(conn: Connection, org_id: str) -> dict[str, str]:
    """Slug → question of each category that is enabled: what a plan asks."""
    return {category.slug: category.question for category in every(conn, org_id) if category.enabled}


def remove(conn: Connection, org_id: str, slug: str, *, actor: str) -> None:
    """From now on it is not asked; jobs already submitted keep it. Raises NotFound."""
    gone = conn.execute(
        "DELETE FROM custom_category WHERE org_id = :org_id AND slug = :slug", {"org_id": org_id, "slug": slug}
    ).rowcount
    if not gone:
        raise NotFound(f"There is no custom category {slug!r}")
    audit.record(conn, actor, "category.removed", slug, org_id=org_id)


def _category(row: Row) -> CustomCategory:
    return CustomCategory(
        id=row["id"],
        org_id=row["org_id"],
        slug=row["slug"],
        name=row["name"],
        question=row["question"],
        enabled=bool(row["enabled"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
