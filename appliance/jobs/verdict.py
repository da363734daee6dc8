"""From findings to a verdict: any category true, or a prohibited text, prohibits. Pure."""

from collections.abc import Iterable

import msgspec

from appliance.categories import BUILT_IN
from appliance.jobs.job import Finding, JobKind, Plan
from appliance.jobs.plan import CUSTOM


class Verdict(msgspec.Struct, frozen=True):
    is_prohibited: bool
    categories: dict[str, object]
    """The built-ins that ran, in the payloads' order, then `custom`: what GET job and the webhook show."""
    reason: str | None = None


def merge(kind: JobKind, plan: Plan, findings: Iterable[Finding]) -> Verdict:
    """OR over everything found. A prompt's categories hold only `custom` (seed 003), whatever its term belongs to."""
    found = list(findings)
    seen: dict[str, bool] = {}
    for finding in found:
        for slug, is_true in finding.categories.items():
            seen[slug] = seen.get(slug, False) or is_true
    prohibited = any(finding.is_prohibited for finding in found) or any(seen.values())
    reason = next((finding.reason for finding in found if finding.is_prohibited and finding.reason), None)
    custom = {slug: seen[CUSTOM + slug] for slug in plan.own if CUSTOM + slug in seen}
    if kind is JobKind.PROMPT:
        return Verdict(prohibited, {"custom": custom}, reason)
    categories: dict[str, object] = {slug: seen[slug] for slug in BUILT_IN if slug in seen}
    categories["custom"] = custom
    return Verdict(prohibited, categories, reason if prohibited else None)
