"""What a job asks, and the children that ask it: the seeds' tree and skip rules. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from appliance.accounts.custom import CustomCategory
from appliance.categories import BUILT_IN, CHECKS
from appliance.jobs.job import ChildKind, JobKind, Plan

CUSTOM = "custom:"
"""Begins the subject of a child that asks a custom category."""


class Asked(msgspec.Struct, frozen=True):
    """A child to be made."""

    kind: ChildKind
    subject: str = ""


def plan(
    checks_off: Mapping[str, bool],
    custom: Iterable[CustomCategory],
    prompts: Mapping[str, int],
    steps: Mapping[str, float],
) -> Plan:
    """The questions for a job submitted now: every check that is not off and the custom categories given, each in the
    version that stands."""
    checks = [check for check in CHECKS if checks_off.get(check, True)]
    versions = {check: version for check, version in prompts.items() if check in checks}
    own = {category.slug: category.version for category in custom}
    return Plan(checks=checks, versions=own, prompts=versions, steps=dict(steps) if "text" in checks else {})


def visual(plan: Plan) -> list[str]:
    """The subjects that are asked of a picture: built-in slugs in the payloads' order, then custom:SLUG."""
    return [slug for slug in BUILT_IN if slug in plan.checks] + [CUSTOM + slug for slug in plan.own]


def children(kind: JobKind, plan: Plan) -> list[Asked]:
    """The children that a job starts with; none = it completes at once (seed 002). A video's frames are asked later."""
    match kind:
        case JobKind.PROMPT:
            return [Asked(ChildKind.TEXT)] if "text" in plan.checks or plan.own else []
        case JobKind.IMAGE:
            asked = [Asked(ChildKind.VLM, subject) for subject in visual(plan)]
            return asked + ([Asked(ChildKind.NSFW, "nsfw")] if "nsfw" in plan.checks else [])
        case JobKind.VIDEO:
            return [Asked(ChildKind.EXTRACTION)] if visual(plan) else []
