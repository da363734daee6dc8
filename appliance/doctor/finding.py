"""The shapes of the doctor: a check, what it came to, what is said of it.

Dataclasses of the standard library, not Structs: the doctor runs where nothing is installed yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.doctor.context import Context

Value = str | int | float | bool | None | list[str]
Evidence = Mapping[str, Value]


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """What one look came to."""

    state: State
    says: str
    """One sentence: what was found, or why it was skipped."""
    evidence: Evidence = field(default_factory=dict[str, Value])
    """What was measured. Never a name, a text or an address that somebody gave."""
    cause: str = ""
    fix: str = ""
    """A command to paste, or what to change; empty when there is nothing to do."""
    mendable: bool = False
    """`--fix` does it, and nothing can be lost by that."""


@dataclass(frozen=True)
class Check:
    id: str
    """group.noun"""
    title: str
    about: str
    """What is looked at, why it matters, and what to do: `customhouse doctor --explain ID`."""
    look: Callable[[Context], Outcome]
    mend: Callable[[Context], str] | None = None
    """Does what is safe, and says what it did."""
    is_early: bool = False
    """Makes sense before anything is installed."""
    is_slow: bool = False
    """Left out with --quick."""
    deadline_s: float = 15.0

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True)
class Finding:
    id: str
    group: str
    title: str
    state: State
    says: str
    evidence: Evidence
    cause: str
    fix: str
    mendable: bool
    mended: str = ""
    """What --fix did about it; the state is the one afterwards."""
    took_ms: int = 0


@dataclass(frozen=True)
class Report:
    findings: list[Finding]
    took_ms: int

    def count(self, state: State) -> int:
        return sum(finding.state is state for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 = all is well, 1 = something failed, 3 = warnings only."""
        return 1 if self.count(State.FAILED) else 3 if self.count(State.WARNING) else 0


class Skip(Exception):
    """This cannot be looked at here; its sentence says why."""


_NONE: Evidence = {}


def ok(says: str, *, evidence: Evidence = _NONE, **measured: Value) -> Outcome:
    return Outcome(State.OK, says, {**evidence, **measured})


def warning(
    says: str, *, cause: str, fix: str, mendable: bool = False, evidence: Evidence = _NONE, **measured: Value
) -> Outcome:
    return Outcome(State.WARNING, says, {**evidence, **measured}, cause, fix, mendable)


def failed(
    says: str, *, cause: str, fix: str, mendable: bool = False, evidence: Evidence = _NONE, **measured: Value
) -> Outcome:
    return Outcome(State.FAILED, says, {**evidence, **measured}, cause, fix, mendable)


def skipped(why: str, *, evidence: Evidence = _NONE, **measured: Value) -> Outcome:
    return Outcome(State.SKIPPED, why, {**evidence, **measured})
