"""Models: what is installed and what runs, what answers each category; fetching, importing, checking, loading, trying
one."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tui import words
from tui.backend import models
from tui.backend.desk import Refused
from tui.backend.models import Answering, Model, ModelStatus, Shown
from tui.screens.listed import Listed, copying
from tui.screens.working import Working
from tui.widgets.dialogs import Asked, Confirm, Form, Told
from tui.widgets.pair import Detail, Pair, Section
from tui.widgets.rows import Column, Line, Rows

_DISK = {"installed": "● here", "missing": "○ not here", "differs": "✗ differs", "unverified": "? unproven"}
"""How a state of the weights is shown; others as they are called."""
_RUNNING = {"ready": "● ready", "loading": "… loading", "failed": "✗ failed", "unloaded": "○ not loaded", "absent": "—"}
_TONE = {"differs": "bad", "unverified": "warn", "partly": "warn", "missing": "muted"}
_STANDING = {
    "answers": ("● answers", ""),
    "installed": ("? process is down", "warn"),
    "loading": ("… loading", "warn"),
    "not loaded": ("✗ not loaded", "bad"),
    "failed": ("✗ does not open", "bad"),
    "not installed": ("✗ not installed", "bad"),
    "no manifest": ("✗ no manifest", "bad"),
    "nobody": ("○ no judge is set", "muted"),
}


class Models(Listed):
    NAME = "models"
    EVERY_S = 5.0
    EMPTY = "There is no manifest in the folder of models; see CUSTOMHOUSE_MODELS_DIR."
    HINT = "/ filter: words of name, task, set, licence, state"
    COLUMNS = (
        Column("Model", 20, grows=True, sorts=True),
        Column("Weights", 10, sorts=True),
        Column("Process", 12, sorts=True),
        Column("Device", 7),
        Column("Memory", 8, align="right", sorts=True),
        Column("p50", 7, align="right", sorts=True),
        Column("Answered", 9, align="right", least=90, sorts=True),
        Column("Size", 9, align="right", least=100, sorts=True),
        Column("Set", 11, least=110, sorts=True),
        Column("Licence", 14, least=125),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fetch", "Fetch", id="models.fetch", tooltip="Bring its weights from their source, verified"),
        Binding("i", "import", "Import", id="models.import", tooltip="Install weights from files brought by hand"),
        Binding("v", "verify", "Verify", id="models.verify", tooltip="Check digests, and golden vectors"),
        Binding("t", "try", "Try", id="models.try", tooltip="Put it to a text or a file; nothing is kept"),
        Binding("l", "load", "Load", id="models.load", tooltip="Have the running process open it"),
        Binding(
            "r",
            "reopen",
            "Reload",
            show=False,
            id="models.reload",
            tooltip="Open it anew from its files, dropping nothing",
        ),
        Binding(
            "U",
            "unload",
            "Unload",
            show=False,
            id="models.unload",
            tooltip="Have the running process give its memory back",
        ),
        Binding(
            "X",
            "remove",
            "Remove",
            show=False,
            id="models.remove",
            tooltip="Delete its weights; fetch brings them back",
        ),
        Binding("x", "cancel", "Cancel", show=False, id="models.cancel", tooltip="End what is under way"),
        Binding("c", "answers", "Answers", show=False, id="models.answers", tooltip="To what answers each category"),
        Binding("u", "undo", "Undo", show=False, id="models.undo", tooltip="Load again what was unloaded last"),
        Binding("w", "words", "Result", show=False, id="models.words", tooltip="What the last piece of work said"),
        copying("models"),
    ]
    DEFAULT_CSS = """
    Models #process { height: auto; max-height: 5; padding: 0 1; }
    Models #process.down { color: $text-error; }
    Models #process.lame { color: $text-warning; }
    Models #left { width: 1fr; height: 1fr; }
    Models #models { height: 2fr; }
    Models #answers { height: 1fr; max-height: 16; min-height: 7; }
    """

    _shown: Shown | None = None
    _unloaded = ""

    def body(self) -> ComposeResult:
        yield Static("", id="process", markup=False)
        yield from self.bar()
        answers = Rows(
            [
                Column("What answers", 16),
                Column("Step", 4, least=70),
                Column("Model", 16),
                Column("Label, from", 18, grows=True),
                Column("Standing", 17),
            ],
            id="answers",
            empty="No category is described; see config/categories.toml.",
        )
        left = Vertical(Rows(self.COLUMNS, id="models", empty=self.EMPTY), answers, id="left")
        yield Pair(left, Detail(id="detail"), id="pair")
        yield Working(models.works(self.desk), id="working")

    async def load(self) -> None:
        self._shown = found = await self.ask(lambda: models.look(self.desk))
        self.sift()
        self.query_one("#answers", Rows).show([_answer(n, one) for n, one in enumerate(found.answers)])
        process = self.query_one("#process", Static)
        process.update(_process(found))
        process.set_class(found.process is None, "down")
        process.set_class(bool(found.process and found.process.degraded), "lame")
        if self.pair.is_open:
            self.tell()

    def sift(self) -> None:
        found = self._shown.models if self._shown else []
        lines = [_line(one) for one in found if all(word in _searched(one) for word in self.words)]
        self.table.empty = "No model is like that: escape clears the filter." if found else self.EMPTY
        self.table.show(lines)
        here = sum(one.row.state in ("installed", "built in") for one in found)
        of = "" if len(lines) == len(found) else f"{len(lines)} of "
        self.say_count(f"{of}{len(found)} models, {here} here")

    async def detail_of(self, key: str) -> Sequence[Section]:
        return _sections(await self.ask(lambda: models.detail(self.desk, key)))

    def copied(self, line: Line) -> str:
        one = self._at(line)
        return (one.row.digest if one else "") or line.key

    # --- doing ------------------------------------------------------------------------------------------------------

    def _at(self, line: Line | None) -> Model | None:
        found = self._shown.models if self._shown and line else []
        return next((one for one in found if line and one.row.name == line.key), None)

    @property
    def _here(self) -> Model | None:
        return self._at(self.table.current)

    def _begin(self, deed: Callable[[], None]) -> None:
        """Begin work; what refuses it is said. The rest is told by the line below."""
        try:
            deed()
        except Exception as error:  # as in Place
            self.trouble(error)

    def on_working_ended(self, message: Working.Ended) -> None:
        self.action_reload()
        one = message.work
        if not self.is_current:
            return
        if one.state == "failed" or one.verb in ("verify", "try"):
            self._tell_of(f"{one.verb} {one.name}", one.said, is_bad=one.state == "failed")
        elif one.verb == "unload" and one.state == "done":
            self.notify(f"{one.said}. u loads it again.", markup=False)
        else:
            self.notify(one.said, markup=False)

    def _tell_of(self, title: str, text: str, *, is_bad: bool) -> None:
        self.app.push_screen(Told(title.capitalize(), text, is_bad=is_bad))

    def action_words(self) -> None:
        last = models.works(self.desk).last
        if last is None or last.is_going:
            self.notify("Nothing has been said yet.")
            return
        self._tell_of(f"{last.verb} {last.name}", last.said, is_bad=last.state == "failed")

    def action_cancel(self) -> None:
        if not models.works(self.desk).cancel():
            self.notify("Nothing that can be cancelled is under way.")

    def action_answers(self) -> None:
        there = self.query_one("#answers", Rows)
        (self.table if there.has_focus else there).focus()

    @work
    async def action_fetch(self) -> None:
        one = self._here
        if one is None or not self.may():
            return
        row = one.row
        if row.state in ("installed", "built in"):
            self.notify(f"{row.name} is here already; v verifies it.", markup=False)
            return
        found = await self.ask(lambda: models.detail(self.desk, row.name))
        size = words.size(row.download_bytes) if row.download_bytes else "an amount that is not known beforehand"
        text = f"Licence: {row.licence}. {found.manifest.licence_note}\n\n{size} will travel, from:\n{_sources(found)}"
        if row.has_terms:
            terms = await self.ask(lambda: models.licence(self.desk, row.name))
            text = f"{text}\n\nFetching it accepts its publisher's terms:\n\n{terms}"
        question = Confirm(
            f"Fetch {row.name}?", text, yes="Fetch", word="accept" if row.has_terms else "", destructive=False
        )
        if await self.app.push_screen_wait(question):
            self._begin(lambda: models.fetch(self.desk, row.name, accepts_licence=row.has_terms))

    @work
    async def action_import(self) -> None:
        if not self.may():
            return
        one = self._here
        known = await self.ask(lambda: models.names(self.desk))
        by_digest = "whichever it belongs to"
        form = Form(
            "Import weights",
            [
                Asked(
                    "path", "File or folder", is_required=True, wrong=models.wrong_path, placeholder="/mnt/usb/x.onnx"
                ),
                Asked("model", "For the model", choices=(by_digest, *known), help=_hint(one)),
                Asked(
                    "manifest",
                    "Of a model of your own: its manifest.toml",
                    wrong=lambda given: models.wrong_path(given) or models.wrong_manifest(given),
                ),
            ],
            yes="Import",
            text="Weight files, wheels, tarballs, or a folder of them. Nothing is installed but by its digest.",
        )
        given = await self.app.push_screen_wait(form)
        if given is None:
            return
        path, own = Path(given["path"]).expanduser(), given["manifest"]
        model = "" if given["model"] == by_digest or own else given["model"]
        described = Path(own).expanduser() if own else None
        self._begin(lambda: models.bring(self.desk, path, model, described))

    def action_verify(self) -> None:
        if (one := self._here) is not None:
            self._begin(lambda: models.check(self.desk, one.row.name))

    @work
    async def action_try(self) -> None:
        one = self._here
        if one is None:
            return
        reads = await self.ask(lambda: models.reads(self.desk, one.row.name))
        asked = (
            Asked("what", "Text", is_required=True, lines=4)
            if reads
            else Asked("what", "Picture or video", is_required=True, wrong=models.wrong_path, placeholder="~/photo.jpg")
        )
        text = "What it says is shown against the thresholds that count. Nothing is kept, and nobody is charged."
        given = await self.app.push_screen_wait(Form(f"Try {one.row.name}", [asked], yes="Try", text=text))
        if given is not None:
            self._begin(lambda: models.attempt(self.desk, one.row.name, given["what"]))

    def action_load(self) -> None:
        if (one := self._here) is not None and self.may():
            self._begin(lambda: models.load(self.desk, one.row.name))

    def action_reopen(self) -> None:
        if (one := self._here) is not None and self.may():
            self._begin(lambda: models.reload(self.desk, one.row.name))

    @work
    async def action_unload(self) -> None:
        one = self._here
        if one is None or not self.may():
            return
        given = await self.app.push_screen_wait(
            Form(
                f"Unload {one.row.name}?",
                [Asked("reason", "Reason (kept in the audit log)", placeholder="Why, in a few words")],
                yes="Unload",
                text=f"What waits for it is answered first. {self._asked_of(one)}",
                destructive=True,
            )
        )
        if given is not None:
            self._unloaded = one.row.name
            self._begin(lambda: models.unload(self.desk, one.row.name, given["reason"] or None))

    def action_undo(self) -> None:
        if not self._unloaded:
            self.notify("Nothing was unloaded here.")
        elif self.may():
            name, self._unloaded = self._unloaded, ""
            self._begin(lambda: models.load(self.desk, name))

    @work
    async def action_remove(self) -> None:
        one = self._here
        if one is None or not self.may():
            return
        if one.row.state in ("missing", "built in"):
            self.trouble(Refused(f"{one.row.name} has no weights here"))
            return
        text = (
            f"{words.size(one.row.size_bytes)} are deleted, and a running model process lets go of it. "
            f"{self._asked_of(one)} Fetch or import brings it back."
        )
        if await self.app.push_screen_wait(Confirm(f"Remove {one.row.name}?", text, yes="Remove")):
            self._begin(lambda: models.remove(self.desk, one.row.name))

    def _asked_of(self, one: Model) -> str:
        answers = self._shown.answers if self._shown else []
        asked = list(dict.fromkeys(each.category for each in answers if each.model == one.row.name))
        if not asked:
            return "No category asks it."
        return f"Jobs that ask {', '.join(asked)} fail until it is back: never a silent allow."


# --- words ----------------------------------------------------------------------------------------------------------


def _process(found: Shown) -> Text:
    one = found.process
    missing = Text()
    if unanswered := [slug for slug in found.unanswered if not slug.startswith("custom,")]:
        missing.append(f"\n✗ Nothing installed answers {', '.join(unanswered)}: jobs that ask it fail. f fetches.")
    if one is None:
        return Text(f"✗ {found.why_not}").append_text(missing)
    up = words.ago(0, round(one.uptime_s * 1000))
    text = Text(f"Model process {one.pid}: {one.device}, {words.size(one.rss_bytes)}, up {up}")
    for sentence in one.degraded:
        text.append(f"\n▲ {sentence}")
    return text.append_text(missing)


def _line(one: Model) -> Line:
    row, running = one.row, one.running
    state = running.state.value if running is not None else ""
    is_open = running is not None and state == "ready"
    tone = _TONE.get(row.state, "")
    if running is not None and (state == "failed" or _falls_short(running)):
        tone = "bad" if state == "failed" else "warn"
    p50 = f"{running.p50_ms:.0f} ms" if running is not None and running.answered else ""
    return Line(
        row.name,
        (
            row.name,
            _DISK.get(row.state, row.state),
            _RUNNING.get(state, "—") if row.state != "built in" else "in library",
            _device(running) if is_open else "",
            words.size(running.memory_bytes) if running is not None and is_open else "",
            p50,
            f"{running.answered:,}" if running is not None and running.answered else "",
            words.size(row.size_bytes) if row.size_bytes else "" if row.state == "built in" else "unknown",
            row.set,
            row.licence,
        ),
        tone=tone,
        values=(
            row.name,
            row.state,
            state,
            None,
            running.memory_bytes if running else 0,
            running.p50_ms if running else 0.0,
            running.answered if running else 0,
            row.size_bytes,
            row.set,
        ),
    )


def _falls_short(one: ModelStatus) -> bool:
    return one.device != one.wanted_device


def _device(one: ModelStatus | None) -> str:
    if one is None or not one.device:
        return ""
    return f"{one.device} ▲" if _falls_short(one) else one.device


def _searched(one: Model) -> str:
    row = one.row
    return f"{row.name} {row.title} {row.task} {row.set} {row.licence} {row.state}".casefold()


def _answer(number: int, one: Answering) -> Line:
    said, tone = _STANDING[one.standing]
    label = f"{one.label} ≥ {one.threshold:g}" if one.model else ""
    return Line(f"{number}", (one.category, one.step, one.model or "—", label, said), tone=tone)


def _hint(one: Model | None) -> str:
    if one is None or one.row.state in ("installed", "built in"):
        return ""
    return f"Under the cursor: {one.row.name}"


def _sources(found: models.Detail) -> str:
    return "\n".join(part.source for file in found.manifest.files for part in file.fetched)


def _sections(found: models.Detail) -> list[Section]:
    row, known, running = found.model.row, found.manifest, found.model.running
    facts = [
        ("Model", f"{row.name}: {row.title}"),
        ("Task", f"{row.task}, by {row.runtime}; set {row.set}"),
        ("Licence", f"{row.licence}{' (terms to accept)' if row.has_terms else ''}. {known.licence_note}"),
        ("Weights", row.state),
        ("Digest", row.digest or "none yet"),
        ("Size", words.size(row.size_bytes) if row.size_bytes else "—"),
    ]
    if row.capable is not None:
        facts.append(("Capable", "yes: it may decide" if row.capable else "no: its verdict decides nothing"))
    process: list[tuple[str, str]] = []
    if running is not None:
        instead = f", instead of {running.wanted_device}" if _falls_short(running) else ""
        process = [
            ("State", running.state.value),
            ("Device", f"{running.device or '—'}{instead}"),
            ("Memory", words.size(running.memory_bytes) if running.memory_bytes else "—"),
            ("Answered", f"{running.answered:,}, {running.queued} waiting"),
            ("Latency", f"p50 {running.p50_ms:.1f} ms, p99 {running.p99_ms:.1f} ms" if running.answered else "—"),
            ("Batches", ", ".join(f"{size}: {times:,}" for size, times in running.batches.items()) or "—"),
        ]
        process += [("Last error", running.last_error)] if running.last_error else []
    answers = [
        (f"{each.category} ({each.step})", f"{each.label} from {each.threshold:g} on: {each.standing}")
        for each in found.answers
    ]
    files = [
        (each.file, f"{each.standing.value}, sha256 {(each.sha256 or each.expected)[:16] or 'not known'}")
        for each in found.files
    ]
    measured = [
        (one.metric, f"{one.value:g} on {one.data}{f' ({one.note})' if one.note else ''}") for one in known.evaluation
    ]
    return [
        Section("", facts),
        Section("In the model process", process, empty="Not known: the process does not answer, or does not open it."),
        Section("Answers", answers, empty="No category asks it."),
        Section("Files", files, empty="None: it is part of an installed library."),
        Section("Measured", measured),
        Section("Notes", [("", " ".join(known.notes.split()))] if known.notes.strip() else []),
    ]


SCREEN = Models
