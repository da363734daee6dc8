"""The settings: each with its value and where it comes from; the file on disk checked, and edited."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from tui.backend import settings
from tui.backend.settings import Change, Draft, Problem, Report, Setting
from tui.place import Place
from tui.widgets.dialogs import Confirm
from tui.widgets.facts import Fact, Facts
from tui.widgets.rows import Column, Line, Rows

MOST_PROBLEMS = 4
"""That are listed over the table; `v` shows all."""


class SettingsPlace(Place):
    NAME = "settings"
    AUTO_FOCUS = "#settings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("E", "edit", "Edit file", id="settings.edit", tooltip="Edit the file in $EDITOR; it is checked first"),
        Binding("v", "validate", "Validate", id="settings.validate", tooltip="Check the file as it is on disk"),
        Binding("c", "changed", "Changed only", id="settings.changed", tooltip="Only what differs from the default"),
        Binding("slash", "filter", "Filter", key_display="/", id="settings.filter", tooltip="Find by name or word"),
        Binding("y", "copy", "Copy", show=False, id="settings.copy", tooltip="Copy the setting under the cursor"),
        Binding("escape", "clear", "Back", show=False, id="settings.clear", tooltip="Show all again"),
    ]
    DEFAULT_CSS = """
    SettingsPlace #state { height: auto; max-height: 6; padding: 0 1; }
    SettingsPlace #state.-bad { color: $text-error; }
    SettingsPlace #filter { background: $panel; }
    SettingsPlace #told { height: 8; border-top: solid $panel; }
    SettingsPlace.-wide #told { height: 10; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Setting] = []
        self._only_changed = False

    def body(self) -> ComposeResult:
        yield Static(id="state", markup=False)
        yield Input(placeholder="Filter: name, value, origin or a word of what it is for", compact=True, id="filter")
        yield Rows(
            [
                Column("", 1),
                Column("Setting", 30),
                Column("Value", 22, grows=True),
                Column("From", 11),
                Column("Default", 22, grows=True, least=110),
            ],
            id="settings",
            empty="No setting is like that.",
        )
        with VerticalScroll(id="told", can_focus=False):
            yield Facts(id="facts")

    async def load(self) -> None:
        self._found = await self.ask(lambda: settings.every(self.desk))
        self._show()
        self._say(await self.ask(settings.check))

    def _show(self) -> None:
        wanted = self.query_one("#filter", Input).value.lower().split()
        kept = [
            one
            for one in self._found
            if (one.is_changed or not self._only_changed) and all(word in _words(one) for word in wanted)
        ]
        self.query_one("#settings", Rows).show([_line(one) for one in kept])

    def _say(self, report: Report) -> None:
        state = Text()
        where = report.path or "no file: neither CUSTOMHOUSE_CONFIG nor CUSTOMHOUSE_HOME is set"
        is_odd = not report.is_there and bool(report.path)
        state.append(where + (" (not there: defaults and environment)" if is_odd else ""))
        changed, waiting = sum(one.is_changed for one in self._found), sum(_waits(one) for one in self._found)
        state.append(f"\n{changed} changed")
        if waiting:
            state.append(f", {waiting} wait for a restart", style="bold")
        if report.is_good:
            state.append("   ✓ in order")
        else:
            state.append(f"   ✗ {_count(len(report.problems), 'problem')}: no process would start", style="bold")
            for one in report.problems[:MOST_PROBLEMS]:
                state.append(f"\n  {_sentence(one)}")
        for name in report.ignored[:2]:
            state.append(f"\n! {name} names no setting and is ignored")
        widget = self.query_one("#state", Static)
        widget.update(state)
        widget.set_class(not report.is_good, "-bad")

    # --- detail

    def on_rows_moved(self, message: Rows.Moved) -> None:
        key = message.line.key if message.line else ""
        found = next((one for one in self._found if one.name == key), None)
        self.query_one("#facts", Facts).show(_facts(found) if found else [])

    @on(Rows.Chosen, "#settings")
    @work(exclusive=True, group="settings")
    async def _open(self, message: Rows.Chosen) -> None:
        """All of it: eight lines are too few for some."""
        one = next(one for one in self._found if one.name == message.line.key)
        said = "\n\n".join(f"{name + ': ' if name else ''}{value}" for name, value in _facts(one)[1:])
        title = f"{one.name} = {_written(one.value)}"
        if await self._asked(Confirm(title, said, yes="Copy", destructive=False)):
            self.action_copy()

    # --- filter

    def action_filter(self) -> None:
        self.query_one("#filter", Input).focus()

    @on(Input.Changed, "#filter")
    def _narrow(self) -> None:
        self._show()

    @on(Input.Submitted, "#filter")
    def _to_table(self) -> None:
        self.query_one("#settings", Rows).focus()

    def action_changed(self) -> None:
        self._only_changed = not self._only_changed
        self._show()

    def action_clear(self) -> None:
        self._only_changed = False
        self.query_one("#filter", Input).value = ""
        self._show()
        self.query_one("#settings", Rows).focus()

    def action_copy(self) -> None:
        if line := self.query_one("#settings", Rows).current:
            found = next(one for one in self._found if one.name == line.key)
            self.app.copy_to_clipboard(f"{found.name} = {_written(found.value)}")
            self.notify(f"Copied {found.name}", markup=False)

    # --- the file

    @work(exclusive=True, group="settings")
    async def action_validate(self) -> None:
        try:
            report = await self.ask(settings.check)
        except Exception as error:  # as a Place's load
            self.trouble(error)
            return
        self._say(report)
        if report.is_good:
            self.notify("A process would start with it", title="The file is in order")
            return
        said = "\n".join(_sentence(one) for one in report.problems)
        if await self._asked(Confirm("The file is not usable", said, yes="Edit file", destructive=False)):
            self.action_edit()

    @work(exclusive=True, group="settings")
    async def action_edit(self) -> None:
        """A copy is edited; only a good one takes the file's place, and not before it was seen what it changes."""
        try:
            draft = await self.ask(lambda: settings.begin(self.desk))
        except Exception as error:  # as a Place's load
            self.trouble(error)
            return
        while await self._edited(draft):
            found = await self.ask(lambda: settings.problems(draft))
            if found:
                said = "\n".join(_sentence(one) for one in found[:12])
                if await self._asked(Confirm("Not usable yet", said, yes="Edit again", destructive=False)):
                    continue
                self.notify(f"The file is as it was; your copy: {draft.copy}", timeout=20, markup=False)
                return
            changed = await self.ask(lambda: settings.changes(draft))
            if not changed or await self._is_meant(changed):
                await self._accept(draft)
                return
            self.notify(f"The file is as it was; your copy: {draft.copy}", timeout=20, markup=False)
            return

    async def _edited(self, draft: Draft) -> bool:
        try:
            with cast("App[Any]", self.app).suspend():
                settings.edit(draft)
            return True
        except SuspendNotSupported:
            settings.discard(draft)
            self.notify(
                "There is no terminal to give to an editor here; on the box: customhouse config edit",
                title="Not done",
                severity="error",
                timeout=10,
            )
        except Exception as error:  # as a Place's load; the sentence says where the copy is
            self.trouble(error)
        return False

    async def _is_meant(self, changed: Sequence[Change]) -> bool:
        lines = [f"{one.key}: {_written(one.before)} → {_written(one.after)}" for one in changed[:10]]
        more = len(changed) - len(lines)
        restart = _restart(changed)
        said = "\n".join([*lines, *([f"… and {more} more"] if more > 0 else []), "", restart])
        return await self._asked(Confirm("Replace the settings file?", said, yes="Replace"))

    async def _asked(self, dialog: Confirm) -> bool:
        return bool(await cast("App[Any]", self.app).push_screen_wait(dialog))

    async def _accept(self, draft: Draft) -> None:
        done = await self.do(
            lambda: settings.accept(self.desk, draft),
            lambda changed: _restart(changed) if changed else "Nothing was changed",
        )
        if done is None:
            self.notify(f"Your copy is kept: {draft.copy}", timeout=20, markup=False)


def _line(one: Setting) -> Line:
    mark = "!" if _waits(one) else "*" if one.is_changed else ""
    cells = (mark, one.name, _written(one.value), one.origin, _written(one.default))
    return Line(one.name, cells, "warn" if _waits(one) else "" if one.is_changed else "muted")


def _facts(one: Setting) -> list[Fact]:
    origin = {
        "default": "the default",
        "file": one.source,
        "environment": f"the variable {one.source}" + (", before the file's own value" if one.hides_file else ""),
        "credential": f"systemd's credential {one.source}",
    }[one.origin]
    facts: list[Fact] = [(one.name, Text(_written(one.value), style="bold")), ("from", origin)]
    if _waits(one):
        facts.append(("after a restart", Text(_written(one.pending), style="bold")))
    if one.is_changed:
        facts.append(("default", _written(one.default)))
    return [*facts, ("", one.documentation), ("variable", one.variable), ("restart", _who(one.used_by))]


def _words(one: Setting) -> str:
    return f"{one.name} {one.value} {one.origin} {one.source} {one.variable} {one.documentation}".lower()


def _waits(one: Setting) -> bool:
    return one.pending is not None


def _who(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "nothing: each command reads it as it starts"


def _restart(changed: Sequence[Change]) -> str:
    names = sorted({name for one in changed for name in one.used_by})
    return f"Holds once these are started again: {', '.join(names)}" if names else "Holds from the next command on"


def _sentence(one: Problem) -> str:
    return f"{one.key}: {one.reason}" if one.key else one.reason


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _written(value: object) -> str:
    """In one line, as TOML has it; a dash for none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_written(one) for one in cast("list[object]", value)) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return "—" if value is None else str(value)


SCREEN = SettingsPlace
