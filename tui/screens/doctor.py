"""The doctor: what is not in order on this machine, why, what was measured, and the command that puts it right."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tui.backend import doctor
from tui.backend.desk import Refused
from tui.backend.doctor import Finding, State
from tui.screens.listed import Listed
from tui.widgets.dialogs import Confirm
from tui.widgets.pair import Section
from tui.widgets.rows import Column, Line

_GRAVEST_FIRST = (State.FAILED, State.WARNING, State.OK, State.SKIPPED)
_TONE = {State.FAILED: "bad", State.WARNING: "warn", State.SKIPPED: "muted"}


class Doctor(Listed):
    NAME = "doctor"
    EMPTY = "Looking at everything; this takes some seconds."
    HINT = "/ filter: words of the group, the check, its state or what it says"
    COLUMNS = (
        Column("State", 8, sorts=True),
        Column("Check", 22, sorts=True),
        Column("Says", 30, grows=True),
        Column("Took", 9, align="right", least=100, sorts=True),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "m", "mend", "Mend", id="doctor.mend", tooltip="Do what --fix does for this check; nothing is lost by it"
        ),
        Binding("p", "problems", "Problems", id="doctor.problems", tooltip="Only what is not in order, then all again"),
        Binding("f", "fully", "Fully", id="doctor.fully", tooltip="Look again, at what takes long too"),
        Binding("y", "copy", "Copy fix", id="doctor.copy", tooltip="Copy the command that puts it right (OSC 52)"),
    ]

    _found: Sequence[Finding] = ()
    _only_problems = False
    _is_quick = True

    async def load(self) -> None:
        if not self._found:
            self.table.empty = self.EMPTY
            self.table.refresh()
        self.say_count("looking…")
        quick, self._is_quick = self._is_quick, True
        report = await self.ask(lambda: doctor.look(self.desk, is_quick=quick))
        self._found = sorted(report.findings, key=lambda one: _GRAVEST_FIRST.index(one.state))
        self.sift()
        if self.pair.is_open:
            self.tell()

    def sift(self) -> None:
        shown = [
            one
            for one in self._found
            if (one.state in (State.FAILED, State.WARNING) or not self._only_problems)
            and all(
                word in f"{one.group} {one.id} {one.title} {one.state} {one.says}".casefold() for word in self.words
            )
        ]
        if self._found:
            self.table.empty = "Nothing is out of order." if not self.words else "Nothing is like that."
        self.table.show([_line(one) for one in shown])
        failed, warned = (sum(one.state is state for one in self._found) for state in (State.FAILED, State.WARNING))
        self.say_count(f"{failed} failed, {warned} warning{'' if warned == 1 else 's'} of {len(self._found)}")

    async def detail_of(self, key: str) -> Sequence[Section]:
        one = self._named(key)
        facts: list[tuple[str, str]] = [
            ("Check", one.id),
            ("State", one.state.value),
            ("Says", one.says),
            *([("Because", one.cause)] if one.cause else []),
            *([("Fix", one.fix)] if one.fix else []),
            *([("", "m does that here")] if one.mendable else []),
        ]
        measured = [
            (name, ", ".join(value) if isinstance(value, list) else str(value)) for name, value in one.evidence.items()
        ]
        return [
            Section("", facts),
            Section("Measured", [*measured, ("took", f"{one.took_ms:,} ms")]),
            Section(one.title, [(doctor.about(key),)]),
        ]

    def copied(self, line: Line) -> str:
        return self._named(line.key).fix or line.key

    def _named(self, key: str) -> Finding:
        return next(one for one in self._found if one.id == key)

    # --- what can be done ---------------------------------------------------------------------------------------------

    def action_problems(self) -> None:
        self._only_problems = not self._only_problems
        self.sift()

    def action_fully(self) -> None:
        self._is_quick = False
        self.action_reload()

    @work(exclusive=True, group="deed")
    async def action_mend(self) -> None:
        line = self.table.current
        if line is None or not self.may():
            return
        one = self._named(line.key)
        if not one.mendable:
            self.trouble(Refused(f"{one.id}: not for a program to mend. {one.fix or 'There is nothing to do.'}"))
            return
        text = f"{one.says}\n\nThis does what customhouse doctor {one.id} --fix does; it stands in the audit log."
        if await self.app.push_screen_wait(Confirm(f"Mend {one.id}?", text, yes="Mend", destructive=False)):
            await self.do(lambda: doctor.mend(self.desk, one.id), lambda found: f"{found.id}: {found.mended}")


def _line(one: Finding) -> Line:
    return Line(
        one.id,
        (one.state.value, one.id, one.says, f"{one.took_ms:,} ms"),
        tone=_TONE.get(one.state, ""),
        values=(_GRAVEST_FIRST.index(one.state), one.id, None, one.took_ms),
    )


SCREEN = Doctor
