"""What is screened for whom: the four checks by organisation, the thresholds, and organisations' own categories."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from appliance import prompts, thresholds
from appliance.accounts import custom, organisations, toggles
from appliance.accounts.custom import CustomCategory, Version
from appliance.accounts.toggles import UNDERAGE_WARNING
from appliance.categories import CHECKS
from appliance.jobs import trial
from appliance.jobs.replay import Moved, Replay
from appliance.jobs.trial import Trial
from appliance.thresholds import Change, Threshold
from tui.backend.desk import Desk

__all__ = [
    "CHECKS",
    "KINDS",
    "UNDERAGE_WARNING",
    "Change",
    "Checked",
    "CustomCategory",
    "Moved",
    "Own",
    "Question",
    "Replay",
    "Threshold",
    "Trial",
    "Version",
]

KINDS = custom.KINDS


class Checked(msgspec.Struct, frozen=True):
    """An organisation, and which checks are on for it."""

    org_id: str
    name: str
    on: dict[str, bool]
    own: int
    """Its custom categories that are asked."""


class Question(msgspec.Struct, frozen=True):
    """What a judge is asked for a built-in category."""

    slug: str
    category: str
    version: int
    """0: as the file has it."""
    words: str
    threshold: float
    judge: str
    """Empty: none is configured, and the classifiers answer."""


class Own(msgspec.Struct, frozen=True):
    """A custom category, and whose it is."""

    category: CustomCategory
    org: str


# --- the four checks -------------------------------------------------------------------------------------------------


def checks(desk: Desk) -> list[Checked]:
    """Every organisation by name."""
    off = desk.read(toggles.by_org)
    own = Counter(one.category.org_id for one in every(desk) if one.category.enabled)
    return [
        Checked(one.id, one.name, {check: check not in off[one.id] for check in CHECKS}, own[one.id])
        for one in desk.read(organisations.every)
    ]


def switch(desk: Desk, org_id: str, check: str, is_on: bool, reason: str) -> None:
    desk.change(lambda conn: toggles.switch(conn, org_id, check, is_on, actor=desk.actor, reason=reason))


# --- thresholds ------------------------------------------------------------------------------------------------------


def limits(desk: Desk) -> list[Threshold]:
    models = desk.settings.inference
    judges = {check: models.text_judge if check == "text" else models.vision_judge for check in CHECKS}
    return desk.read(lambda conn: thresholds.every(conn, desk.house.shipped_categories, judges))


def stored(desk: Desk, jobs: int, told: Callable[[int], object] = lambda _: None) -> Replay:
    """The scores of the last so many jobs, to try thresholds on."""
    return Replay(desk.house.db.reader, desk.house.categories, jobs, told=told)


def move(desk: Desk, one: Threshold, value: float | None, reason: str) -> Change:
    """To this value, or with None back to what the file says; not when somebody else moved it meanwhile."""
    file = desk.house.shipped_categories
    return desk.change(
        lambda conn: thresholds.put(
            conn, file, one.category, one.source, value, actor=desk.actor, reason=reason, expected=one.value
        )
    )


def moves(desk: Desk, one: Threshold) -> list[Change]:
    return desk.read(lambda conn: thresholds.history(conn, one.category, one.source))


# --- custom ones -----------------------------------------------------------------------------------------------------


def every(desk: Desk) -> list[Own]:
    """By organisation, then by slug."""
    return desk.read(
        lambda conn: [
            Own(category, org.name) for org in organisations.every(conn) for category in custom.every(conn, org.id)
        ]
    )


def names(desk: Desk) -> list[str]:
    """Of the organisations."""
    return [one.name for one in desk.read(organisations.every)]


def add(desk: Desk, org: str, given: Mapping[str, str], kinds: Sequence[str], *, enabled: bool) -> CustomCategory:
    """`given`: name, slug or empty, question, description, reason."""
    return desk.change(
        lambda conn: custom.add(
            conn,
            desk.settings,
            organisations.named(conn, org).id,
            given["slug"] or None,
            given["name"],
            given["question"],
            actor=desk.actor,
            description=given["description"],
            applies_to=kinds or None,
            enabled=enabled,
            reason=given["reason"],
        )
    )


def change(desk: Desk, one: CustomCategory, given: Mapping[str, str], kinds: Sequence[str]) -> CustomCategory:
    """As a new version, if anything is new."""
    return desk.change(
        lambda conn: custom.change(
            conn,
            desk.settings,
            one.org_id,
            one.id,
            actor=desk.actor,
            name=given["name"],
            question=given["question"],
            description=given["description"],
            applies_to=kinds,
            reason=given["reason"],
        )
    )


def enable(desk: Desk, one: CustomCategory, is_on: bool, reason: str) -> CustomCategory:
    return desk.change(
        lambda conn: custom.change(
            conn, desk.settings, one.org_id, one.id, actor=desk.actor, enabled=is_on, reason=reason
        )
    )


def remove(desk: Desk, one: CustomCategory, reason: str) -> None:
    desk.change(lambda conn: custom.remove(conn, one.org_id, one.id, actor=desk.actor, reason=reason))


def versions(desk: Desk, one: CustomCategory) -> list[Version]:
    """Newest first."""
    return desk.read(lambda conn: custom.history(conn, one.org_id, one.id))


def attempt(desk: Desk, question: str, what: str, *, is_text: bool, threshold: float | None = None) -> Trial:
    """The question put to a text, or to a picture by its path or address; nothing is kept."""
    return trial.once(desk.settings, question, what, is_text=is_text, threshold=threshold)


# --- the built-in questions ------------------------------------------------------------------------------------------


def questions(desk: Desk) -> list[Question]:
    known, models = desk.house.categories, desk.settings.inference
    return [
        Question(
            slug,
            category,
            known[category].version,
            known[category].question.strip(),
            known[category].judge_threshold,
            models.text_judge if category == "text" else models.vision_judge,
        )
        for slug, category in prompts.CATEGORY_OF.items()
    ]


def ask(desk: Desk, one: Question, given: str, reason: str) -> prompts.Version:
    """These words from now on, as a new version; not when somebody else changed them meanwhile."""
    return desk.change(
        lambda conn: prompts.put(conn, one.slug, given, actor=desk.actor, reason=reason, expected=one.version)
    )


def asked_before(desk: Desk, one: Question) -> list[prompts.Version]:
    """Newest first; the file's words are none of them."""
    return desk.read(lambda conn: prompts.every(conn, one.slug))


def ask_again(desk: Desk, one: Question, version: int, reason: str) -> prompts.Version:
    """The words of that version, 0 = the file's, as a new one."""
    file = desk.house.shipped_categories[one.category].question
    return desk.change(lambda conn: prompts.roll_back(conn, one.slug, version, file, actor=desk.actor, reason=reason))
