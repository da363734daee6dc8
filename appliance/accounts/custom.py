"""Custom categories: an organisation's own yes-or-no questions, answered by the judges. Yes = prohibited.

Every change makes a version, and versions are only ever added: a job carries slug@version and the question's words, so
that an old verdict still names what made it, whatever became of the category since.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from appliance import audit, clock
from appliance.categories import CHECKS
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.settings import Settings

LIMIT = 10
"""The most categories of one organisation."""

_ROLES = {"prompt": "text_judge", "image": "vision_judge", "video": "vision_judge"}
KINDS = tuple(_ROLES)
"""What a category can be about: the contract's types of jobs. Which judge answers is set in inference."""

THRESHOLD = 0.5
"""The probability of yes from which on a category is true."""

LONGEST_NAME = 100
LONGEST_DESCRIPTION = 500
LONGEST_QUESTION = 2000

_SLUG = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LONGEST_SLUG = 40


class CustomCategory(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    slug: str
    version: int
    name: str
    description: str
    question: str
    applies_to: tuple[str, ...]
    enabled: bool
    created_at: int
    updated_at: int


class Version(msgspec.Struct, frozen=True):
    """A category as it stood from `at` on."""

    category_id: str
    slug: str
    version: int
    change: str
    """added, changed, enabled, disabled or removed."""
    name: str
    description: str
    question: str
    applies_to: tuple[str, ...]
    enabled: bool
    actor: str
    at: int


def add(
    conn: Connection,
    settings: Settings,
    org_id: str,
    slug: str | None,
    name: str,
    question: str,
    *,
    actor: str,
    description: str = "",
    applies_to: Sequence[str] | None = None,
    enabled: bool = True,
    reason: str | None = None,
) -> CustomCategory:
    """A new question, asked about what is submitted from now on; without a slug the name makes one. Raises
    InvalidRequest when no judge is there to answer it or a value is not usable, Conflict when the slug is taken."""
    kinds = _answerable(settings, applies_to)
    name, question = _usable("name", name, LONGEST_NAME), _usable("system_prompt", question, LONGEST_QUESTION)
    have = every(conn, org_id)
    taken = {category.slug for category in have}
    if slug is None:
        slug = slug_of(name, taken)
    elif not _SLUG.fullmatch(slug) or slug in CHECKS or slug == "custom":
        raise _refused(
            "slug",
            f"{slug!r} is not usable: a lower-case letter, then up to 39 letters, digits or _; "
            "and not the name of a built-in check",
        )
    if slug in taken:
        raise Conflict(f"There is a custom category {slug!r} already")
    if len(have) >= LIMIT:
        raise InvalidRequest(f"An organisation has at most {LIMIT} custom categories; remove one first")
    now = clock.now_ms()
    category = CustomCategory(
        id=clock.new_id(),
        org_id=org_id,
        slug=slug,
        version=_newest(conn, org_id, slug) + 1,
        name=name,
        description=_described(description),
        question=question,
        applies_to=kinds,
        enabled=enabled,
        created_at=now,
        updated_at=now,
    )
    conn.execute(
        """
        INSERT INTO custom_category (id, org_id, slug, version, name, description, question, applies_to, enabled,
            created_at, updated_at)
        VALUES (:id, :org_id, :slug, :version, :name, :description, :question, :applies_to, :enabled,
            :created_at, :updated_at)
        """,
        {**msgspec.structs.asdict(category), "applies_to": _json(kinds), "enabled": int(enabled)},
    )
    _keep(conn, category, "added", actor, reason)
    return category


def change(
    conn: Connection,
    settings: Settings,
    org_id: str,
    reference: str,
    *,
    actor: str,
    name: str | UnsetType = UNSET,
    description: str | UnsetType = UNSET,
    question: str | UnsetType = UNSET,
    applies_to: Sequence[str] | UnsetType = UNSET,
    enabled: bool | UnsetType = UNSET,
    reason: str | None = None,
) -> CustomCategory:
    """What is given replaces what was there, as a new version, for what is submitted from now on; nothing new, no
    version. Raises NotFound or InvalidRequest, also when it would be enabled with no judge to answer it."""
    old = find(conn, org_id, reference)
    new = msgspec.structs.replace(
        old,
        name=old.name if name is UNSET else _usable("name", name, LONGEST_NAME),
        description=old.description if description is UNSET else _described(description),
        question=old.question if question is UNSET else _usable("system_prompt", question, LONGEST_QUESTION),
        applies_to=old.applies_to if applies_to is UNSET else _kinds(applies_to),
        enabled=old.enabled if enabled is UNSET else enabled,
    )
    if new == old:
        return old
    if new.enabled and (not old.enabled or new.applies_to != old.applies_to):
        _answerable(settings, new.applies_to)
    is_a_switch = new == msgspec.structs.replace(old, enabled=new.enabled)
    new = msgspec.structs.replace(new, version=_newest(conn, org_id, old.slug) + 1, updated_at=clock.now_ms())
    conn.execute(
        """
        UPDATE custom_category
        SET version = :version, name = :name, description = :description, question = :question,
            applies_to = :applies_to, enabled = :enabled, updated_at = :updated_at
        WHERE id = :id
        """,
        {**msgspec.structs.asdict(new), "applies_to": _json(new.applies_to), "enabled": int(new.enabled)},
    )
    switched = "enabled" if new.enabled else "disabled"
    _keep(conn, new, switched if is_a_switch else "changed", actor, reason)
    return new


def remove(conn: Connection, org_id: str, reference: str, *, actor: str, reason: str | None = None) -> None:
    """From now on it is not asked, and its slug is free; jobs already submitted keep it. Raises NotFound."""
    old = find(conn, org_id, reference)
    now = clock.now_ms()
    gone = msgspec.structs.replace(old, enabled=False, version=_newest(conn, org_id, old.slug) + 1, updated_at=now)
    conn.execute(
        """
        UPDATE custom_category
        SET version = :version, enabled = 0, updated_at = :now, removed_at = :now
        WHERE id = :id
        """,
        {"id": old.id, "version": gone.version, "now": now},
    )
    _keep(conn, gone, "removed", actor, reason)


def find(conn: Connection, org_id: str, reference: str) -> CustomCategory:
    """The organisation's category with this id or slug. Raises NotFound."""
    row = conn.execute(
        """
        SELECT * FROM custom_category
        WHERE org_id = :org_id AND removed_at IS NULL AND (id = :reference OR slug = :reference)
        """,
        {"org_id": org_id, "reference": reference},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such custom category")
    return _category(row)


def every(conn: Connection, org_id: str) -> list[CustomCategory]:
    """By slug, the disabled ones too."""
    rows = conn.execute(
        "SELECT * FROM custom_category WHERE org_id = :org_id AND removed_at IS NULL ORDER BY slug",
        {"org_id": org_id},
    )
    return [_category(row) for row in rows]


def asked(conn: Connection, org_id: str, kind: str) -> list[CustomCategory]:
    """Those that a job of this kind is asked now, the oldest first: what a plan holds."""
    rows = conn.execute(
        """
        SELECT * FROM custom_category
        WHERE org_id = :org_id AND removed_at IS NULL AND enabled
        ORDER BY created_at, slug
        """,
        {"org_id": org_id},
    )
    return [category for category in map(_category, rows) if kind in category.applies_to]


def unanswered(conn: Connection, settings: Settings) -> list[str]:
    """In sentences, for the operator: categories that are enabled, of any organisation, and that no configured judge
    answers. Looks at nothing where both judges are."""
    lacking = {kind: role for kind, role in _ROLES.items() if not getattr(settings.inference, role)}
    if not lacking:
        return []
    rows = conn.execute("SELECT applies_to FROM custom_category WHERE enabled AND removed_at IS NULL")
    asked = [msgspec.json.decode(row["applies_to"], type=tuple[str, ...]) for row in rows]
    return [
        f"{'1 custom category is' if count == 1 else f'{count} custom categories are'} asked of every {kind}, and "
        f"inference.{role} names no judge to answer: such jobs fail. Name one, or disable them (customhouse categories)"
        for kind, role in lacking.items()
        if (count := sum(kind in kinds for kinds in asked))
    ]


def history(conn: Connection, org_id: str, reference: str | None = None) -> list[Version]:
    """Every version, of all the organisation's categories or of one, removed ones too, the newest first. Raises
    NotFound when `reference` was never there."""
    rows = conn.execute(
        """
        SELECT custom_category_version.*, custom_category.slug
        FROM custom_category_version
        JOIN custom_category ON custom_category.id = custom_category_version.category_id
        WHERE custom_category.org_id = :org_id
            AND (:reference IS NULL OR custom_category.id = :reference OR custom_category.slug = :reference)
        ORDER BY custom_category_version.at DESC, custom_category_version.version DESC
        """,
        {"org_id": org_id, "reference": reference},
    ).fetchall()
    if reference is not None and not rows:
        raise NotFound("There is no such custom category")
    return [_version(row) for row in rows]


def slug_of(name: str, taken: Collection[str] = ()) -> str:
    """A slug that the name suggests and that is free: accents dropped, anything else made one `_`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_").lstrip("0123456789_")[:_LONGEST_SLUG].rstrip("_")
    base = base or "category"
    unusable = {*taken, *CHECKS, "custom"}
    found = base
    number = 2
    while found in unusable:
        end = f"_{number}"
        found = base[: _LONGEST_SLUG - len(end)].rstrip("_") + end
        number += 1
    return found


def as_policy(question: str) -> str:
    """The words under which the text judge holds a prompt against a category: it weighs policies, not questions."""
    return f"Prohibited: any text that this describes, or that makes the answer to it yes: {question}"


def _answerable(settings: Settings, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds wanted, or all that a judge can answer. Raises InvalidRequest when none is there for one of them."""
    have = tuple(kind for kind, role in _ROLES.items() if getattr(settings.inference, role))
    kinds = have if wanted is None else _kinds(wanted)
    if not kinds or any(kind != "prompt" and kind not in have for kind in kinds):
        raise InvalidRequest(
            "A custom category needs a vision judge, and none is configured. Fetch a model of task vision-judge "
            "(customhouse models list, customhouse models fetch NAME) and name it in inference.vision_judge"
        )
    if "prompt" in kinds and "prompt" not in have:
        raise InvalidRequest(
            "A custom category for prompts needs a text judge, and none is configured. Fetch a model of task "
            "text-judge (customhouse models list, customhouse models fetch NAME) and name it in inference.text_judge"
        )
    return kinds


def _kinds(given: Sequence[str]) -> tuple[str, ...]:
    if not given or any(kind not in KINDS for kind in given):
        raise _refused("applies_to", f"must name one or more of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in given)


def _usable(field: str, given: str, longest: int) -> str:
    given = given.strip()
    if not 1 <= len(given) <= longest:
        raise _refused(field, f"must have 1 to {longest:,} characters")
    return given


def _described(given: str) -> str:
    if len(given) > LONGEST_DESCRIPTION:
        raise _refused("description", f"must have at most {LONGEST_DESCRIPTION} characters")
    return given


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])


def _newest(conn: Connection, org_id: str, slug: str) -> int:
    """The number of the slug's last version, whichever category had it: slug@version never means two things."""
    row = conn.execute(
        "SELECT max(version) FROM custom_category WHERE org_id = :org_id AND slug = :slug",
        {"org_id": org_id, "slug": slug},
    ).fetchone()
    return row[0] or 0


def _keep(conn: Connection, category: CustomCategory, change: str, actor: str, reason: str | None) -> None:
    conn.execute(
        """
        INSERT INTO custom_category_version (category_id, version, change, name, description, question, applies_to,
            enabled, actor, at)
        VALUES (:id, :version, :change, :name, :description, :question, :applies_to, :enabled, :actor, :updated_at)
        """,
        {
            **msgspec.structs.asdict(category),
            "applies_to": _json(category.applies_to),
            "enabled": int(category.enabled),
            "change": change,
            "actor": actor,
        },
    )
    audit.record(
        conn,
        actor,
        f"category.{change}",
        category.slug,
        org_id=category.org_id,
        reason=reason,
        version=category.version,
    )


def _json(kinds: Sequence[str]) -> str:
    return msgspec.json.encode(kinds).decode()


def _read(row: Row) -> dict[str, object]:
    return {**dict(row), "applies_to": msgspec.json.decode(row["applies_to"]), "enabled": bool(row["enabled"])}


def _category(row: Row) -> CustomCategory:
    return msgspec.convert(_read(row), CustomCategory)


def _version(row: Row) -> Version:
    return msgspec.convert(_read(row), Version)
