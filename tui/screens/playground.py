"""The playground: a text, a picture or a video, and what would come of it, explained. The picture itself is never
shown; after two deliberate steps a blur of it."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text as Letters
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static, TextArea

from tui.backend import playground
from tui.backend.desk import Refused
from tui.backend.playground import Analyzer, Decided, Found, Pipeline, Scored, Seen, Text
from tui.place import Place
from tui.screens.working import Working
from tui.widgets.dialogs import Choose, Confirm, Told
from tui.widgets.pair import Detail, Section
from tui.widgets.paths import Paths

_SIGN = {"prohibited": "✗ prohibited", "not prohibited": "✓ not prohibited", "undecided": "? undecided"}
_DECISION = {"block": "✗ block", "flag": "▲ flag", "allow": "✓ allow"}
_TEXT, _FILE = "text", "file"
_NOBODY = "nobody: everything is on"


class Playground(Place):
    NAME = "playground"
    AUTO_FOCUS = "#result"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "text", "Text", id="playground.text", tooltip="Type or paste a text"),
        Binding("f", "file", "File", id="playground.file", tooltip="Name a picture or a video; → completes the path"),
        Binding("ctrl+s", "screen", "Screen", id="playground.screen", tooltip="Ask what would come of it"),
        Binding("o", "owner", "Whose", id="playground.owner", tooltip="Whose categories, lists and policies"),
        Binding("p", "policy", "Policy", id="playground.policy", tooltip="Which policy /v1/moderations decides by"),
        Binding("b", "blurred", "Blur", show=False, id="playground.blur", tooltip="The picture, blurred; asks first"),
        Binding("x", "cancel", "Cancel", show=False, id="playground.cancel", tooltip="End what is under way"),
        Binding("n", "clear", "Clear", show=False, id="playground.clear", tooltip="Forget what was typed and found"),
        Binding("y", "copy", "Copy", show=False, id="playground.copy", tooltip="Copy what was found (OSC 52)"),
    ]
    DEFAULT_CSS = """
    Playground #ground { height: 1; padding: 0 1; color: $text-muted; }
    Playground #text { height: 4; }
    Playground #path { height: 1; }
    Playground #result { height: 1fr; }
    """

    _org: tuple[str, str] = (playground.NOBODY, _NOBODY)
    _policy: str | None = None
    _kind = _TEXT

    def body(self) -> ComposeResult:
        yield Static("", id="ground", markup=False)
        yield TextArea(
            "",
            id="text",
            compact=True,
            tab_behavior="focus",
            placeholder="t: a text to screen, then ctrl+s. Nothing that is screened here is kept or charged.",
        )
        yield Input(
            "", id="path", compact=True, suggester=Paths(), placeholder="The path of a picture or a video, then enter"
        )
        yield Detail(id="result")
        yield Working(playground.ground(self.desk).works, id="working", in_bytes=False)

    async def load(self) -> None:
        self._say_ground()
        self._show(playground.ground(self.desk).result)

    # --- what is asked ----------------------------------------------------------------------------------------------

    def _say_ground(self) -> None:
        policy = self._policy or "the default"
        said = f"For {self._org[1]}" + (f"; policy: {policy}" if self._kind == _TEXT else "")
        self.query_one("#ground", Static).update(f"{said}. Nothing is kept.")
        self.query_one("#text").display = self._kind == _TEXT
        self.query_one("#path").display = self._kind == _FILE

    def action_text(self) -> None:
        self._kind = _TEXT
        self._say_ground()
        self.query_one("#text").focus()

    def action_file(self) -> None:
        self._kind = _FILE
        self._say_ground()
        self.query_one("#path").focus()

    def action_back(self) -> None:
        self.query_one("#result").focus()

    def action_filter(self) -> None:
        self.action_text() if self._kind == _TEXT else self.action_file()

    def action_clear(self) -> None:
        self.query_one("#text", TextArea).text = ""
        self.query_one("#path", Input).value = ""
        playground.ground(self.desk).result = None
        self._show(None)

    def on_input_submitted(self) -> None:
        self.action_screen()

    @work
    async def action_owner(self) -> None:
        owners = await self.ask(lambda: playground.owners(self.desk))
        options = [(org_id or "-", name) for org_id, name in owners]
        chosen = await self.app.push_screen_wait(
            Choose("As which organisation?", options, text="Its checks, lists, custom categories and policies count.")
        )
        if chosen is None:
            return
        names = dict(options)
        self._org = (playground.NOBODY, _NOBODY) if chosen == "-" else (chosen, names[chosen])
        self._policy = None
        self._say_ground()

    @work
    async def action_policy(self) -> None:
        found = await self.ask(lambda: playground.policies(self.desk, self._org[0]))
        options = [(slug, slug + (" (the default)" if n == 0 else "")) for n, slug in enumerate(found)]
        chosen = await self.app.push_screen_wait(Choose("Under which policy?", options, chosen=self._policy or ""))
        if chosen is not None:
            self._policy = chosen
            self._say_ground()

    def action_screen(self) -> None:
        try:
            if self._kind == _TEXT:
                text = self.query_one("#text", TextArea).text
                if not text.strip():
                    raise Refused("Type a text first: t")
                playground.screen_text(self.desk, self._org[0], self._policy, text)
            else:
                given = self.query_one("#path", Input).value.strip()
                if wrong := playground.wrong_file(given) if given else "Name a file first: f":
                    raise Refused(wrong)
                playground.screen_file(self.desk, self._org[0], Path(given))
        except Exception as error:  # as in Place
            self.trouble(error)

    def action_cancel(self) -> None:
        if not playground.ground(self.desk).works.cancel():
            self.notify("Nothing that can be cancelled is under way.")

    # --- what came of it --------------------------------------------------------------------------------------------

    def on_working_ended(self, message: Working.Ended) -> None:
        self._show(playground.ground(self.desk).result)
        if message.work.state == "failed" and self.is_current:
            self.app.push_screen(Told("Not screened", message.work.said, is_bad=True))
        elif self.is_current:
            self.query_one("#result").focus()

    def _show(self, result: Text | Seen | None) -> None:
        there = self.query_one("#result", Detail)
        if result is None:
            there.show([Section("", [], empty=_HOW)])
        else:
            there.show(of_text(result) if isinstance(result, Text) else of_file(result))
            there.scroll_home(animate=False)

    def action_copy(self) -> None:
        result = playground.ground(self.desk).result
        if result is None:
            self.notify("Nothing was screened yet.")
            return
        sections = of_text(result) if isinstance(result, Text) else of_file(result)
        lines = [
            line
            for section in sections
            for line in (section.title, *("  ".join(str(cell) for cell in cells) for cells in section.lines))
            if line
        ]
        self.app.copy_to_clipboard("\n".join(lines))
        self.notify("Copied what was found")

    @work
    async def action_blurred(self) -> None:
        """The second of two steps: the first is the key."""
        if not isinstance(playground.ground(self.desk).result, Seen):
            self.notify("There is no picture: f names one.")
            return
        question = Confirm(
            "Show the picture, blurred?",
            "It is reduced to at most 24 squares a side and blurred, so that only where it is light and where dark can "
            "be told. It may still trouble you. What `underage` flags is never shown.",
            yes="Show it blurred",
            word="show",
        )
        if not await self.app.push_screen_wait(question):
            return
        try:
            rows = await self.ask(lambda: playground.blurred(self.desk))
        except Refused as error:
            self.trouble(error)
            return
        await self.app.push_screen_wait(Told("Blurred", half_blocks(rows)))


_HOW = (
    "t types a text, f names a file, ctrl+s asks. The rules answer here; for models the model process has to run.\n"
    "o chooses whose checks, lists and policies count, p the policy."
)


# --- words ----------------------------------------------------------------------------------------------------------


def of_text(found: Text) -> Sequence[Section]:
    pipeline, decided = found.pipeline, found.decided
    said = Letters("? undecided" if decided is None else f"{_DECISION[decided.decision]}{_but(decided)}", style="bold")
    return [
        Section("", [("As a prompt's job", _verdict(pipeline.outcome)), ("As /v1/moderations", said)]),
        *_pipeline(pipeline),
        *(_decided(decided) if decided else [Section("As /v1/moderations", [("", found.undecided or "")])]),
        Section("Found in lists", [_found(one) for one in found.found], empty="No entry of any list."),
        Section("Read as", _forms(found)),
        Section("", [("Took", f"{found.ms:.0f} ms in all; nothing was kept")]),
    ]


def _but(one: Decided) -> str:
    """What a decision is not to be read without."""
    watched = ", observed only" if one.is_observed_only else ""
    return watched + ("" if one.provider_status == "complete" else f", {one.provider_status.replace('_', ' ')}")


def _pipeline(one: Pipeline) -> list[Section]:
    said: list[tuple[str, str | Letters]] = [("Language", one.language)]
    said += [("Reason", one.reason)] if one.reason else []
    said += [("Blocklist term", one.term)] if one.term is not None else []
    said += [("Problem", Letters(one.problem, style="bold"))] if one.problem else []
    said += [("", "A job waits for the models and fails without them: never a silent allow.")] if one.problem else []
    return [Section("As a prompt's job", said), Section("", [_score(score) for score in one.scores])]


def _decided(one: Decided) -> list[Section]:
    version = f"version {one.version}" if one.version else "as shipped"
    degraded = f", {one.degraded_reason}" if one.degraded_reason else ""
    return [
        Section(
            f"As /v1/moderations, under {one.policy} {version}",
            [
                ("Action", f"{one.action}, severity {one.severity}"),
                ("Flagged by", ", ".join(one.flagged) or "nothing"),
                ("Language", f"{one.language}, {one.confidence:.2f} sure"),
                ("Routing", f"{one.routing}; {one.mode}; {one.provider_status}{degraded}"),
            ],
        ),
        Section("", [_analyzer(each) for each in sorted(one.analyzers, key=lambda each: -each.score)]),
    ]


def _analyzer(one: Analyzer) -> tuple[str | Letters, ...]:
    limits = one.thresholds
    steps = [f"{name} {limit:g}" for name, limit in _limits(limits.warn, limits.review, limits.block)]
    counts = one.action if one.is_enabled and steps else "only informs" if one.is_enabled else "off"
    style = "" if counts in ("allow", "only informs", "off") else "bold"
    matched = ", ".join(one.matched)
    return (
        Letters(one.name, style=style),
        f"{one.score:.3f}",
        one.severity,
        counts,
        (f"{matched}  " if matched else "") + (f"({', '.join(steps)})" if steps else ""),
    )


def _limits(warn: float | None, review: float | None, block: float | None) -> list[tuple[str, float]]:
    named = (("warn", warn), ("review", review), ("block", block))
    return [(name, limit) for name, limit in named if limit is not None]


def _found(one: Found) -> tuple[str, ...]:
    how = f"by undoing {one.disguise}" if one.disguise else "as it stands"
    kind = "allows" if one.effect == "allow" else one.severity
    return (one.term, one.analyzer, one.category or "", kind, f"“{one.piece}” at {one.start}, {how}")


def _forms(found: Text) -> list[tuple[str, ...]]:
    forms = [(one.disguise or ("hyphens kept" if n else "plain"), one.text) for n, one in enumerate(found.forms)]
    return [*forms, ("by the models", found.read_as)]


def of_file(found: Seen) -> Sequence[Section]:
    said: list[tuple[str, str | Letters]] = [
        ("Verdict", _verdict(found.outcome)),
        ("Looked at", f"{found.pictures} picture{'' if found.pictures == 1 else 's'}"),
    ]
    true = [slug for slug, is_true in found.categories.items() if is_true]
    said.append(("Categories", ", ".join(true) if true else "none is true"))
    if found.spent_ms:
        said.append(("Models spent", ", ".join(f"{ms:.0f} ms on {device}" for device, ms in found.spent_ms.items())))
    if found.times_ms:
        said.append(("Frames at", _times(found.times_ms)))
        said.append(("Prohibited at", _times(found.over_ms) if found.over_ms else "none of them"))
    said += [(name.replace("_", " "), f"{value:g}") for name, value in found.detail.items()]
    said += [("Problem", Letters(found.problem, style="bold"))] if found.problem else []
    why = [(one.subject, one.why) for one in found.unanswered] if not found.problem else []
    scores = [_score(one) for one in sorted(found.scores, key=lambda one: -one.score / one.threshold)]
    return [
        Section(f"As a job of kind {found.kind}", said),
        Section("Scores", scores, empty="Nothing was asked."),
        Section("Not answered: a job would fail", why),
        Section("", [("Took", f"{found.ms:.0f} ms in all; nothing was kept. b shows it blurred.")]),
    ]


def _score(one: Scored) -> tuple[str | Letters, ...]:
    sign = "≥" if one.is_over else "<"
    at = "" if one.at_ms is None else f" at {one.at_ms / 1000:.1f} s"
    return (
        Letters(one.category, style="bold" if one.is_over else ""),
        f"{one.model} {one.label}",
        Letters(f"{one.score:.3f} {sign} {one.threshold:g}{at}", style="bold" if one.is_over else ""),
        f"{one.device} {one.ms:.0f} ms" if one.device else "",
    )


def _verdict(outcome: str) -> Letters:
    return Letters(_SIGN[outcome], style="bold")


def _times(found: Sequence[int]) -> str:
    said = ", ".join(f"{at_ms / 1000:.1f}" for at_ms in found[:16])
    return f"{said} … s ({len(found)})" if len(found) > 16 else f"{said} s"


def half_blocks(rows: Sequence[Sequence[tuple[int, int, int]]]) -> Letters:
    """Two rows of colours a line."""
    drawn = Letters(no_wrap=True)
    for above, below in zip(rows[::2], rows[1::2], strict=True):
        for upper, lower in zip(above, below, strict=True):
            drawn.append("▀", style=f"rgb({_said(upper)}) on rgb({_said(lower)})")
        drawn.append("\n")
    return drawn


def _said(colour: tuple[int, int, int]) -> str:
    return ",".join(map(str, colour))


SCREEN = Playground
