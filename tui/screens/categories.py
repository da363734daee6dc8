"""What is screened for whom: the four checks by organisation, the thresholds with a live count of what would flip, and
organisations' own categories with a trial."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui import words
from tui.backend import categories
from tui.backend.categories import CHECKS, Checked, CustomCategory, Moved, Own, Question, Replay, Threshold
from tui.backend.desk import Refused
from tui.screens.viewed import Viewed
from tui.widgets.cells import clean, clean_lines
from tui.widgets.dialogs import REASON, Asked, Choose, Confirm, Form, Going, Progress
from tui.widgets.rows import Column, Line, Rows

JOBS = 10_000
"""Whose stored scores a threshold is tried on."""

_BARS = " ▁▂▃▄▅▆▇█"
_KINDS = {
    "all that a judge answers": (),
    **{kind: (kind,) for kind in categories.KINDS},
    "image and video": ("image", "video"),
    "prompt, image and video": categories.KINDS,
}


class Categories(Viewed):
    NAME = "categories"
    VIEWS = (("checks", "c", "Checks"), ("limits", "t", "Thresholds"), ("own", "o", "Custom"), ("asked", "w", "Words"))
    HINTS: ClassVar[Mapping[str, str]] = {
        "checks": "Filter: an organisation",
        "limits": "Filter: a category, a model",
        "own": "Filter: its name, whose it is",
        "asked": "Filter: words of a question",
    }
    ONLY_IN: ClassVar[Mapping[str, Sequence[str]]] = {
        "switch": ("checks",),
        "new": ("own",),
        "enable": ("own",),
        "try": ("own", "asked"),
        "past": ("own", "limits", "asked"),
        "back_to": ("asked",),
        "remove": ("own",),
        "file": ("limits",),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "view('checks')", "Checks", show=False, id="categories.checks", tooltip="The four checks"),
        Binding("t", "view('limits')", "Thresholds", show=False, id="categories.limits", tooltip="The thresholds"),
        Binding("o", "view('own')", "Custom", show=False, id="categories.own", tooltip="Organisations' own categories"),
        Binding("w", "view('asked')", "Words", show=False, id="categories.asked", tooltip="The judges' questions"),
        *(
            Binding(
                str(number), f"switch('{check}')", label, id=f"categories.{check}", tooltip=f"Turn {check} on or off"
            )
            for number, (check, label) in enumerate(zip(CHECKS, ("nsfw", "adult", "underage", "text"), strict=True), 1)
        ),
        Binding("f", "file", "File's", id="categories.file", tooltip="Give the threshold back to what the file says"),
        Binding("n", "new", "New", id="categories.new", tooltip="Add a custom category to an organisation"),
        Binding("s", "enable", "On/off", id="categories.enable", tooltip="Ask the category, or keep it unasked"),
        Binding("r", "try", "Try", id="categories.try", tooltip="Put its question to a text or a picture"),
        Binding("v", "past", "Past", id="categories.past", tooltip="Every version, by whom and when"),
        Binding("b", "back_to", "Go back", id="categories.back_to", tooltip="Ask an older version's words again"),
        Binding("D", "remove", "Remove", id="categories.remove", tooltip="Do not ask it any more; jobs keep it"),
        Binding("u", "undo", "Undo", show=False, id="categories.undo", tooltip="Take the last change back"),
        Binding("slash", "filter", "Filter", key_display="/", show=False, id="categories.filter", tooltip="Filter"),
        Binding("y", "copy", "Copy", show=False, id="categories.copy", tooltip="Copy the name under the cursor"),
    ]

    _checks: Sequence[Checked] = ()
    _limits: Sequence[Threshold] = ()
    _own: Sequence[Own] = ()
    _asked: Sequence[Question] = ()

    def views(self) -> ComposeResult:
        with Vertical(id="checks"):
            yield Rows(
                [
                    Column("Organisation", 18, grows=True, sorts=True),
                    *(Column(check, max(len(check), 6)) for check in CHECKS),
                    Column("Custom", 6, align="right", sorts=True),
                ],
                id="checks-rows",
                empty="There are no organisations yet: make a key, and its organisation is there.",
            )
        with Vertical(id="limits"):
            yield Rows(
                [
                    Column("Category", 16, sorts=True),
                    Column("Model and label", 24, grows=True, sorts=True),
                    Column("From", 6, align="right", sorts=True),
                    Column("File", 6, align="right"),
                    Column("State", 16),
                ],
                id="limits-rows",
                empty="No threshold is like that: escape clears the filter.",
            )
            yield Static(
                "A score from there on makes the category true, for every organisation. enter moves a threshold: you "
                "see what would flip before it holds. File: what config/categories.toml says.",
                classes="about",
            )
        with Vertical(id="own"):
            yield Rows(
                [
                    Column("Organisation", 14, grows=True, sorts=True),
                    Column("Category", 18, grows=True, sorts=True),
                    Column("V", 3, align="right"),
                    Column("Asked of", 20, least=70),
                    Column("State", 9),
                    Column("Changed", 9, align="right", least=70),
                ],
                id="own-rows",
                empty="No organisation has a category of its own: n adds one.",
            )
            yield Static("", id="question", classes="about", markup=False)
        with Vertical(id="asked"):
            yield Rows(
                [
                    Column("Category", 17),
                    Column("V", 4, align="right"),
                    Column("From", 5, align="right"),
                    Column("Asked of", 16),
                    Column("Question", 24, grows=True),
                ],
                id="asked-rows",
                empty="No question is like that: escape clears the filter.",
            )
            yield Static("", id="words", classes="about", markup=False)

    async def load(self) -> None:
        self._checks = await self.ask(lambda: categories.checks(self.desk))
        self._limits = await self.ask(lambda: categories.limits(self.desk))
        self._own = await self.ask(lambda: categories.every(self.desk))
        self._asked = await self.ask(lambda: categories.questions(self.desk))
        self.sift()

    def sift(self) -> None:
        match self.view:
            case "checks":
                lines = [_checks_line(one) for one in self._checks]
            case "limits":
                lines = [_limit_line(one) for one in self._limits]
            case "own":
                lines = [self._own_line(one) for one in self._own]
            case _:
                lines = [_asked_line(one) for one in self._asked]
        self.show_sifted(lines)

    def _own_line(self, one: Own) -> Line:
        category = one.category
        return Line(
            category.id,
            (
                one.org,
                category.name,
                str(category.version),
                ", ".join(category.applies_to),
                "asked" if category.enabled else "not asked",
                words.ago(category.updated_at, self.desk.now()),
            ),
            tone="" if category.enabled else "muted",
        )

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "own-rows":
            one = self._custom()
            said = "" if one is None else f"{one.slug}@{one.version}: {one.question}\n{one.description}".strip()
            self.query_one("#question", Static).update(clean_lines(said))
        elif event.rows.id == "asked-rows":
            asked = self._question()
            self.query_one("#words", Static).update(clean_lines(asked.words if asked else ""))

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        match self.view:
            case "checks":
                self.notify("1 nsfw, 2 ai_adult_general, 3 underage, 4 text: the key turns the check on or off.")
            case "limits":
                self.move()
            case "own":
                self.change()
            case _:
                self.reword()

    def copied(self, line: Line) -> str:
        if self.view == "own" and (one := self._custom()) is not None:
            return one.slug
        return line.key

    # --- checks ------------------------------------------------------------------------------------------------------

    @work(exclusive=True, group="deed")
    async def action_switch(self, check: str) -> None:
        line = self.table.current
        one = next((one for one in self._checks if line is not None and one.org_id == line.key), None)
        if one is None or not self.may():
            return
        to = not one.on[check]
        if check == "underage" and not to:
            text = f"{categories.UNDERAGE_WARNING}\n\nOrganisation: {one.name}"
            if not await self.app.push_screen_wait(
                Confirm("Turn underage off?", text, yes="Turn it off", word="underage")
            ):
                return
        says = "on" if to else "off"
        desk = self.desk
        await self.reasoned(
            f"Turn {check} {says} for {one.name}?",
            "It counts for jobs submitted from then on. "
            + ("They are checked again." if to else "What it would have caught passes."),
            lambda reason: categories.switch(desk, one.org_id, check, to, reason),
            yes=f"Turn it {says}",
            done=f"{check} is {says} for {one.name}.",
            destructive=not to,
            undo=(
                f"{check} is {'off' if to else 'on'} again for {one.name}.",
                lambda: categories.switch(desk, one.org_id, check, not to, "undone at the desk"),
            ),
        )

    # --- thresholds --------------------------------------------------------------------------------------------------

    def _limit(self) -> Threshold | None:
        line = self.table.current if self.view == "limits" else None
        return next((one for one in self._limits if line is not None and _name(one) == line.key), None)

    @work(exclusive=True, group="deed")
    async def move(self) -> None:
        """Move the threshold under the cursor, seeing what would flip."""
        one = self._limit()
        if one is None:
            return

        def read(going: Going) -> Replay:
            return categories.stored(self.desk, JOBS, lambda done: going.tell(done, JOBS, f"{done:,} jobs"))

        outcome = await self.app.push_screen_wait(Progress("Reading the scores of jobs done", read))
        if outcome.error is not None:
            self.trouble(outcome.error)
        if outcome.value is None:
            return
        given = await self.app.push_screen_wait(Mover(one, outcome.value))
        if given is None or not self.may():
            return
        value, reason = given
        await self._put(one, value, reason)

    async def _put(self, one: Threshold, value: float | None, reason: str) -> None:
        desk, to = self.desk, one.file if value is None else value
        said = f"{one.category}: {one.source} counts from {to:g} on.  (u undoes it)"
        if await self.do(lambda: categories.move(desk, one, value, reason), said) is None:
            return
        back = None if one.value == one.file else one.value

        def undo() -> object:
            now = next(there for there in categories.limits(desk) if _name(there) == _name(one))
            return categories.move(desk, now, back, "undone at the desk")

        self._undo = (f"{one.category}: {one.source} counts from {one.value:g} again.", undo)
        self.refresh_bindings()

    @work(exclusive=True, group="deed")
    async def action_file(self) -> None:
        one = self._limit()
        if one is None or not self.may():
            return
        if not one.is_moved:
            self.notify("That is what the file says.")
            return
        given = await self.app.push_screen_wait(
            Form(
                f"Give {one.category} back to the file?",
                [REASON],
                yes="Give it back",
                text=f"{one.source} counts from {one.value:g} on; config/categories.toml says {one.file:g}.",
            )
        )
        if given is not None:
            await self._put(one, None, given["reason"])

    # --- custom ones -------------------------------------------------------------------------------------------------

    def _custom(self) -> CustomCategory | None:
        line = self.query_one("#own-rows", Rows).current
        return next((one.category for one in self._own if line is not None and one.category.id == line.key), None)

    @work(exclusive=True, group="deed")
    async def action_new(self) -> None:
        if not self.may():
            return
        orgs = await self.ask(lambda: categories.names(self.desk))
        if not orgs:
            self.notify("There is no organisation yet: make a key first.", severity="warning")
            return
        desk = self.desk
        await self.filled(
            "A custom category",
            [
                Asked("org", "Organisation", choices=tuple(orgs)),
                Asked("name", "Name", is_required=True, placeholder="What people read"),
                Asked("question", "Question: yes prohibits", is_required=True, lines=2),
                Asked("kinds", "Asked of", choices=tuple(_KINDS)),
                Asked("enabled", "From now on", choices=("ask it", "keep it, and try it first")),
                Asked("slug", "Slug", placeholder="made of the name"),
                Asked("description", "Description"),
                REASON,
            ],
            lambda given: categories.add(
                desk, given["org"], given, _KINDS[given["kinds"]], enabled=given["enabled"] == "ask it"
            ),
            yes="Add",
            done=lambda made: f"{made.slug} is {'asked from now on' if made.enabled else 'kept, and not asked'}.",
        )

    @work(exclusive=True, group="deed")
    async def change(self) -> None:
        """Change the category under the cursor, as a new version."""
        one = self._custom()
        if one is None or not self.may():
            return
        kinds = next((name for name, these in _KINDS.items() if these == one.applies_to), "prompt, image and video")
        desk = self.desk
        await self.filled(
            f"Change {one.slug}",
            [
                Asked("name", "Name", one.name, is_required=True),
                Asked("question", "Question: yes prohibits", one.question, is_required=True, lines=3),
                Asked("kinds", "Asked of", kinds, choices=tuple(name for name, these in _KINDS.items() if these)),
                Asked("description", "Description", one.description),
                REASON,
            ],
            lambda given: categories.change(desk, one, given, _KINDS[given["kinds"]]),
            yes="Change",
            text="A new version, asked of jobs submitted from then on; older jobs keep the words that they were asked.",
            done=lambda made: f"{made.slug} is at version {made.version}.",
        )

    @work(exclusive=True, group="deed")
    async def action_enable(self) -> None:
        one = self._custom()
        if one is None or not self.may():
            return
        to, desk = not one.enabled, self.desk
        await self.reasoned(
            f"{'Ask' if to else 'Do not ask'} {one.slug}?",
            one.question,
            lambda reason: categories.enable(desk, one, to, reason),
            yes="Ask it" if to else "Do not ask it",
            done=f"{one.slug} is {'asked from now on' if to else 'not asked any more'}.",
            undo=(
                f"{one.slug} is {'not asked' if to else 'asked'} again.",
                lambda: categories.enable(desk, one, not to, "undone at the desk"),
            ),
        )

    # --- built-in questions ------------------------------------------------------------------------------------------

    def _question(self) -> Question | None:
        line = self.query_one("#asked-rows", Rows).current
        return next((one for one in self._asked if line is not None and one.slug == line.key), None)

    @work(exclusive=True, group="deed")
    async def reword(self) -> None:
        """Ask other words from now on."""
        one = self._question()
        if one is None or not self.may():
            return
        desk = self.desk
        await self.filled(
            f"What is asked: {one.slug}",
            [Asked("words", "Words", one.words, is_required=True, lines=6), REASON],
            lambda given: categories.ask(desk, one, given["words"], given["reason"]),
            yes="Ask it",
            text="A new version, asked of jobs submitted from then on. Try it first: r."
            + ("" if one.judge else " No judge is configured: nobody is asked yet."),
            done=lambda made: f"{made.slug} is at version {made.version}.",
            undo=(
                f"{one.slug} is asked as before.",
                lambda: categories.ask_again(desk, one, one.version, "undone at the desk"),
            ),
        )

    @work(exclusive=True, group="deed")
    async def action_back_to(self) -> None:
        one = self._question()
        if one is None or not self.may():
            return
        found = await self.ask(lambda: categories.asked_before(self.desk, one))
        options = [(str(made.version), f"version {made.version}: {made.content}") for made in found]
        options.append(("0", "what config/categories.toml says"))
        chosen = await self.app.push_screen_wait(
            Choose(f"Ask which words of {one.slug} again?", [each for each in options if each[0] != str(one.version)])
        )
        if chosen is None:
            return
        desk, version = self.desk, int(chosen)
        await self.reasoned(
            f"Go back to {'the file' if not version else f'version {version}'}?",
            next((made.content for made in found if made.version == version), "The words of config/categories.toml."),
            lambda reason: categories.ask_again(desk, one, version, reason),
            yes="Ask it again",
            done=f"{one.slug} is asked so from now on.",
        )

    @work(exclusive=True, group="deed")
    async def action_try(self) -> None:
        """Put the question to an example; nothing is kept, so that who only looks may too."""
        built_in = self._question() if self.view == "asked" else None
        own = self._custom() if self.view == "own" else None
        if own is not None:
            name, question, threshold = own.slug, own.question, None
        elif built_in is not None:
            name, question, threshold = built_in.slug, built_in.words, built_in.threshold
        else:
            return
        kinds = ("a text", "a picture, by its path or address")
        if built_in is not None:
            kinds = kinds[:1] if built_in.category == "text" else kinds[1:]
        given = await self.app.push_screen_wait(
            Form(
                f"Try {name}",
                [
                    Asked("question", "Question", question, is_required=True, lines=3),
                    Asked("kind", "Of", choices=kinds),
                    Asked("what", "The text, or the path", is_required=True, lines=3),
                ],
                yes="Try",
                text="Nothing is kept, and the picture is not shown.",
            )
        )
        if given is None:
            return
        is_text = given["kind"] == "a text"
        outcome = await self.app.push_screen_wait(
            Progress(
                "Asking the judge",
                lambda _: categories.attempt(
                    self.desk, given["question"], given["what"], is_text=is_text, threshold=threshold
                ),
            )
        )
        if outcome.error is not None:
            self.trouble(outcome.error if isinstance(outcome.error, Refused) else _sayable(outcome.error))
        if (tried := outcome.value) is not None:
            verdict, sign = ("Prohibited", "≥") if tried.is_prohibited else ("Not prohibited", "<")
            self.notify(
                f"{tried.score:.3f} {sign} {tried.threshold:g}\n{tried.model}, {tried.device}, {tried.ms:.0f} ms",
                title=verdict,
                severity="warning" if tried.is_prohibited else "information",
                timeout=20,
                markup=False,
            )

    @work(exclusive=True, group="deed")
    async def action_past(self) -> None:
        if self.view == "limits":
            limit = self._limit()
            if limit is None:
                return
            moves = await self.ask(lambda: categories.moves(self.desk, limit))
            said = [
                f"{words.moment(one.created_at)}  {one.was:g} → {'the file' if one.value is None else f'{one.value:g}'}"
                f"\n  {one.actor}: {one.reason or 'no reason given'}"
                for one in moves
            ]
            title = f"{limit.category}: {limit.source}"
            text = "\n".join(said) or "It was never moved: it is what the file says."
        elif self.view == "asked":
            one = self._question()
            if one is None:
                return
            past = await self.ask(lambda: categories.asked_before(self.desk, one))
            title = one.slug
            text = "\n".join(
                f"version {made.version}  {words.moment(made.created_at)}  {made.actor}: {made.reason or 'no reason'}"
                f"\n  {made.content}"
                for made in past
            )
            text = text or "It was never changed: what config/categories.toml says is asked."
        else:
            own = self._custom()
            if own is None:
                return
            found = await self.ask(lambda: categories.versions(self.desk, own))
            title = own.slug
            text = "\n".join(
                f"{one.slug}@{one.version}  {one.change}  {words.moment(one.at)}  {one.actor}\n  {one.question}"
                for one in found
            )
        await self.tell(title, text)

    @work(exclusive=True, group="deed")
    async def action_remove(self) -> None:
        one = self._custom()
        if one is None or not self.may():
            return
        desk = self.desk
        await self.reasoned(
            f"Remove {one.slug}?",
            f"It is not asked any more, and its slug is free. Jobs keep its words.\n\n{one.question}",
            lambda reason: categories.remove(desk, one, reason),
            yes="Remove",
            done=f"{one.slug} is removed.",
            destructive=True,
        )


class Mover(ModalScreen[tuple[float, str] | None]):
    """A threshold to move: what would flip of the jobs done is counted as it moves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="mover.cancel", tooltip="Leave it where it is"),
        Binding("up", "nudge(0.01)", "Up", id="mover.up", tooltip="A hundredth up", priority=True),
        Binding("down", "nudge(-0.01)", "Down", id="mover.down", tooltip="A hundredth down", priority=True),
    ]
    DEFAULT_CSS = """
    Mover { align: center middle; }
    Mover > #box { width: 72; max-width: 95%; height: auto; padding: 0 2; border: round $primary;
        background: $surface; }
    Mover #title { text-style: bold; width: 100%; }
    Mover .label { color: $text-muted; width: 100%; }
    Mover #flips { height: 4; }
    Mover #spread { height: 2; color: $text-accent; }
    Mover #wrong { color: $text-error; height: 1; }
    Mover #buttons { height: auto; align-horizontal: right; }
    Mover Button { margin-left: 2; }
    """

    def __init__(self, one: Threshold, replay: Replay) -> None:
        super().__init__()
        self._one = one
        self._replay = replay
        self._spread = replay.spread(one.category, one.source)

    def compose(self) -> ComposeResult:
        one = self._one
        with Vertical(id="box"):
            yield Label(clean(f"{one.category}: {one.source}"), id="title", markup=False)
            yield Label(
                f"It is at {one.value:g}; the file says {one.file:g}. It counts for every organisation.",
                classes="label",
                markup=False,
            )
            yield Label("Threshold (↑ and ↓ move it)", classes="label", markup=False)
            yield Input(f"{one.value:g}", id="value", compact=True)
            yield Static("", id="spread", markup=False)
            yield Static("", id="flips", markup=False)
            yield Label("Reason (kept in the audit log) *", classes="label", markup=False)
            yield Input(placeholder="Why, in a few words", id="reason", compact=True)
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Move", id="yes", variant="primary")

    def on_mount(self) -> None:
        self.query_one("#value", Input).focus()
        self._count()

    def _value(self) -> float | None:
        try:
            value = float(self.query_one("#value", Input).value)
        except ValueError:
            return None
        return value if 0 < value <= 1 else None

    def action_nudge(self, by: float) -> None:
        value = self._value()
        to = self._one.value if value is None else value + by
        self.query_one("#value", Input).value = f"{round(min(max(to, 0.001), 1.0), 3):g}"

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#wrong", Static).update("")
        if event.input.id == "value":
            self._count()

    def _count(self) -> None:
        self.run_worker(self._counted(self._value()), group="count", exclusive=True)

    async def _counted(self, value: float | None) -> None:
        flips = self.query_one("#flips", Static)
        if value is None:
            flips.update("A threshold is over 0 and at most 1.")
            return
        one = self._one
        moved = await asyncio.to_thread(self._replay.moved, one.category, one.source, value)
        self.query_one("#spread", Static).update(_spread(self._spread, value))
        flips.update(_said(moved))

    def on_input_submitted(self) -> None:
        self._accept()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self._accept()
        else:
            self.dismiss(None)

    def _accept(self) -> None:
        value, reason = self._value(), self.query_one("#reason", Input).value.strip()
        wrong = ""
        if value is None:
            wrong = "A threshold is over 0 and at most 1"
        elif value == self._one.value:
            wrong = f"It is at {value:g} already"
        elif not reason:
            wrong = "A reason is needed"
            self.query_one("#reason", Input).focus()
        self.query_one("#wrong", Static).update(wrong)
        if not wrong and value is not None:
            self.dismiss((value, reason))

    def action_cancel(self) -> None:
        self.dismiss(None)


def _said(moved: Moved) -> Text:
    if not moved.scored:
        return Text(f"None of the last {moved.jobs:,} jobs has this score: nothing can be counted.", style="italic")
    found = Text(f"Of the last {moved.jobs:,} jobs, {moved.scored:,} have this score. ")
    found.append(f"{moved.flips:,} would flip:\n", style="bold")
    found.append(f" + {moved.turned_true:>7,} would be {moved.category}; {moved.prohibited:,} prohibited by it alone\n")
    found.append(f" − {moved.turned_false:>7,} would not be any more; {moved.allowed:,} allowed")
    return found


def _spread(counts: Sequence[int], value: float) -> str:
    """How the scores lie from 0 to 1, and below where the threshold stands."""
    most = max([*counts, 1])
    bars = "".join(_BARS[0 if not count else 1 + round(count / most * 7)] * 3 for count in counts)
    place = min(int(value * len(counts) * 3), len(counts) * 3 - 1)
    return f"0 {bars} 1\n  {' ' * place}▲"


def _checks_line(one: Checked) -> Line:
    cells = [Text("on") if one.on[check] else Text("OFF", style="bold") for check in CHECKS]
    tone = "bad" if not one.on["underage"] else "warn" if not all(one.on.values()) else ""
    return Line(one.org_id, (one.name, *cells, str(one.own) if one.own else "–"), tone=tone)


def _limit_line(one: Threshold) -> Line:
    state = "moved" if one.is_moved else "as in the file"
    if not one.answers:
        state = "not asked here"
    return Line(
        _name(one),
        (one.category, one.source, f"{one.value:g}", f"{one.file:g}", state),
        tone="muted" if not one.answers else "warn" if one.is_moved else "",
    )


def _asked_line(one: Question) -> Line:
    of = one.judge or "no judge"
    return Line(
        one.slug,
        (one.category, str(one.version) if one.version else "file", f"{one.threshold:g}", of, one.words),
        tone="" if one.judge else "muted",
    )


def _name(one: Threshold) -> str:
    return f"{one.category} {one.source}"


def _sayable(error: Exception) -> Exception:
    """A failure of the judge, or of the picture, as the sentence that it brings along."""
    message = str(getattr(error, "message", ""))
    return Refused(message) if message else error


SCREEN = Categories
