"""A report for a person, as lines of text."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping

from appliance.doctor.finding import Check, Finding, Report, State, Value

_SIGN = {State.OK: "ok  ", State.WARNING: "WARN", State.FAILED: "FAIL", State.SKIPPED: "–   "}


def lines(report: Report, *, is_long: bool = False) -> Iterator[str]:
    """By group; what is in order in one line, what is not with its cause and what to do."""
    for group, found in itertools.groupby(report.findings, key=lambda finding: finding.group):
        yield f"\n{group}"
        for finding in found:
            yield from _said(finding, is_long)
    yield ""
    yield summary(report)


def summary(report: Report) -> str:
    counts = {state: report.count(state) for state in State}
    return (
        f"{len(report.findings)} checks in {report.took_ms / 1000:.1f} s: {counts[State.FAILED]} failed, "
        f"{counts[State.WARNING]} warnings, {counts[State.OK]} ok, {counts[State.SKIPPED]} skipped"
    )


def _said(finding: Finding, is_long: bool) -> Iterator[str]:
    yield f"  {_SIGN[finding.state]} {finding.id:<24} {finding.says}"
    if finding.mended:
        yield f"       mended: {finding.mended}"
    if finding.state in (State.WARNING, State.FAILED):
        yield f"       because {finding.cause}"
        if finding.fix:
            yield f"       fix: {finding.fix}" + (
                " (or --fix)" if finding.mendable and "--fix" not in finding.fix else ""
            )
    if is_long and finding.evidence:
        yield f"       measured: {_measured(finding.evidence)}; {finding.took_ms} ms"


def _measured(evidence: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in evidence.items()
    )


def explained(check: Check) -> str:
    when = [
        "before the installation too" if check.is_early else "once it is installed",
        *(["not with --quick"] if check.is_slow else []),
        *(["--fix mends it"] if check.mend else []),
        f"{check.deadline_s:g} s at most",
    ]
    return f"{check.id}: {check.title}\n\n{textwrap.fill(check.about, 96)}\n\n({'; '.join(when)})"
