"""The thresholds of the built-in categories: those of config/categories.toml, or the administrator's in their place.

A category has one a source, named MODEL:LABEL+LABEL, and one for a judge. A change is only ever added, and holds for
what is judged from then on, in every process; the file's holds again when the administrator gives it back.
"""

import math
from collections.abc import Mapping

import msgspec

from appliance import audit, clock
from appliance.categories import CHECKS, Category
from appliance.database import Connection
from appliance.errors import Conflict, InvalidRequest, NotFound

JUDGE = "judge"
"""Names a category's judge_threshold."""

Key = tuple[str, str]
"""Category, source."""


class Threshold(msgspec.Struct, frozen=True):
    category: str
    source: str
    value: float
    file: float
    """What config/categories.toml says."""
    answers: bool
    """Whether it counts on this box: a judge that is configured stands in place of some classifiers."""

    @property
    def is_moved(self) -> bool:
        return self.value != self.file


class Change(msgspec.Struct, frozen=True):
    id: int
    category: str
    source: str
    value: float | None
    """None: the file's again."""
    was: float
    actor: str
    reason: str | None
    created_at: int


def now(conn: Connection) -> dict[Key, float]:
    """Those that are not the file's: a few rows at most."""
    return {
        (row["category"], row["source"]): row["value"]
        for row in conn.execute("SELECT category, source, value FROM threshold_now")
    }


def over(file: Mapping[str, Category], moved: Mapping[Key, float]) -> dict[str, Category]:
    """The file's categories with these thresholds in place; of a source that is not there any more, none."""
    found = dict(file)
    for slug in {slug for slug, _ in moved} & file.keys():
        category = file[slug]
        found[slug] = msgspec.structs.replace(
            category,
            judge_threshold=moved.get((slug, JUDGE), category.judge_threshold),
            sources=[
                msgspec.structs.replace(one, threshold=moved.get((slug, one.name), one.threshold))
                for one in category.sources
            ],
        )
    return found


def every(conn: Connection, file: Mapping[str, Category], judges: Mapping[str, str]) -> list[Threshold]:
    """All there are, category by category; `judges` says which judge is configured for each."""
    moved = now(conn)
    found: list[Threshold] = []
    for slug in CHECKS:
        category, judge = file[slug], judges.get(slug, "")
        counting = {one.name for one in (category.sources if slug == "text" else category.beside(judge))}
        for name, value in _of(category).items():
            answers = bool(judge) if name == JUDGE else name in counting
            found.append(Threshold(slug, name, moved.get((slug, name), value), value, answers))
    return found


def named(category: Category, slug: str, source: str | None) -> str:
    """The name of the source that is meant; without one the only one there is. Raises NotFound or InvalidRequest that
    lists them."""
    names = list(_of(category))
    if source is None:
        if len(names) > 1:
            raise InvalidRequest(f"{slug} has several thresholds; say which of: {', '.join(names)}")
        return names[0]
    if source not in names:
        raise NotFound(f"{slug} has no threshold of {source!r}; it has: {', '.join(names)}")
    return source


def put(
    conn: Connection,
    file: Mapping[str, Category],
    slug: str,
    source: str | None,
    value: float | None,
    *,
    actor: str,
    reason: str | None = None,
    expected: float | None = None,
) -> Change:
    """Move a threshold, or with None give it back to the file. Raises NotFound; InvalidRequest when the value is none,
    or what holds already; Conflict when it is not at `expected` any more."""
    if slug not in CHECKS:
        raise NotFound(f"There is no built-in category {slug!r}; there are: {', '.join(CHECKS)}")
    name = named(file[slug], slug, source)
    said = _of(file[slug])[name]
    moved = now(conn)
    was = moved.get((slug, name), said)
    if value is not None:
        value = usable(value)
    if expected is not None and was != expected:
        raise Conflict(f"The threshold is at {was:g}, not {expected:g}: it was changed meanwhile")
    if value == was if value is not None else (slug, name) not in moved:
        raise InvalidRequest(f"The threshold of {slug} for {name} is {was:g} already")
    at = clock.now_ms()
    made = conn.execute(
        """
        INSERT INTO threshold_change (category, source, value, was, actor, reason, created_at)
        VALUES (:category, :source, :value, :was, :actor, :reason, :at)
        """,
        {"category": slug, "source": name, "value": value, "was": was, "actor": actor, "reason": reason, "at": at},
    )
    to = said if value is None else value
    audit.record(conn, actor, "threshold.changed", slug, reason=reason, source=name, moved=[was, to])
    return Change(made.lastrowid or 0, slug, name, value, was, actor, reason, at)


def history(conn: Connection, slug: str | None = None, source: str | None = None) -> list[Change]:
    """Newest first."""
    rows = conn.execute(
        """
        SELECT * FROM threshold_change
        WHERE (:slug IS NULL OR category = :slug) AND (:source IS NULL OR source = :source)
        ORDER BY id DESC
        """,
        {"slug": slug, "source": source},
    )
    return [msgspec.convert(dict(row), Change) for row in rows]


def usable(value: float) -> float:
    """Raises InvalidRequest."""
    if not math.isfinite(value) or not 0 < value <= 1:
        issue = "is over 0 and at most 1"
        raise InvalidRequest(f"A threshold {issue}, not {value:g}", details=[{"field": "threshold", "issue": issue}])
    return float(value)


def _of(category: Category) -> dict[str, float]:
    found = {one.name: one.threshold for one in reversed(category.sources)}  # of two alike the first is said
    return {**{one.name: found[one.name] for one in category.sources}, JUDGE: category.judge_threshold}
