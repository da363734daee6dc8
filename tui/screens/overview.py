"""How the house is: every process and model, what waits, verdicts a minute, the last rejections, disk, Stripe."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from tui import words
from tui.backend import health
from tui.place import Place
from tui.widgets.plot import Plot, Series
from tui.widgets.rows import Column, Line, Rows

_NAMES = {"api": "API", "worker": "worker", "models": "models"}


class _App(Protocol):
    """The application, as far as this screen knows it."""

    alarms: Sequence[str]

    def go(self, name: str) -> None: ...


class Overview(Place):
    NAME = "overview"
    EVERY_S = 2.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy id", id="overview.copy", tooltip="Copy the id of the rejection under the cursor"),
    ]
    CSS = """
    Overview #all { padding: 0 1; scrollbar-size: 1 1; }
    Overview .cols { height: auto; layout: grid; grid-size: 2; grid-columns: 3fr 2fr; grid-rows: auto;
        grid-gutter: 0 2; }
    Overview .part { height: auto; width: 100%; }
    Overview #guide { color: $text-warning; margin-bottom: 1; display: none; }
    Overview #wrong { color: $text-error; display: none; }
    Overview #verdicts { height: 3; }
    Overview #rejections { height: 1fr; min-height: 5; }
    Overview.-wide #verdicts { height: 12; }
    Overview .cols .part { text-wrap: nowrap; text-overflow: ellipsis; }
    Overview.-wide .cols, Overview.-wide #verdicts { margin-bottom: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._watch: health.Watch | None = None
        self._found: health.Overview | None = None

    def body(self) -> ComposeResult:
        with VerticalScroll(id="all", can_focus=False):
            yield Static(id="guide", classes="part", markup=False)
            yield Static(id="wrong", classes="part", markup=False)
            with Container(classes="cols"):
                yield Static(id="processes", classes="part", markup=False)
                yield Static(id="queue", classes="part", markup=False)
            yield Static(id="verdicts-title", markup=False)
            yield Plot(id="verdicts", names=11, said=5)
            with Container(classes="cols"):
                yield Static(id="models", classes="part", markup=False)
                yield Static(id="rest", classes="part", markup=False)
            yield Rows(
                [
                    Column("Rejected", 8, align="right"),
                    Column("Organisation", 12, grows=True),
                    Column("Kind", 6),
                    Column("Category", 16, grows=True),
                    Column("Score", 6, align="right"),
                    Column("Surface", 9, least=90),
                    Column("Id", 30, least=110),
                ],
                id="rejections",
                empty="Nothing was rejected lately.",
            )

    def on_resize(self) -> None:
        super().on_resize()
        self.set_class(self.app.size.width >= 120 and self.app.size.height >= 36, "-wide")

    async def load(self) -> None:
        if self._watch is None:
            self._watch = health.Watch(self.desk)
        self._show(await self.ask(self._watch.look))

    def say_alarms(self) -> None:
        """What the banner says need not be said again below it."""
        super().say_alarms()
        if self._found is not None:
            self._say_wrong(self._found)

    def _show(self, found: health.Overview) -> None:
        self._found = found
        guide = self.query_one("#guide", Static)
        guide.display = bool(found.guide)
        self._put("guide", Text("\n".join(f"→ {one}" for one in found.guide)))
        self._say_wrong(found)
        self._put("processes", _processes(found))
        self._put("queue", _queue(found))
        self._put("verdicts-title", Text(_hour(found), "bold"))
        self.query_one("#verdicts", Plot).show(list(_verdicts(found)))
        self._put("models", _models(found))
        self._put("rest", _rest(found))
        self.query_one("#rejections", Rows).show(
            [
                Line(
                    one.id,
                    (
                        words.ago(one.at, found.at),
                        one.org,
                        one.kind,
                        one.category,
                        f"{one.score:.3f}" if one.score is not None else "term" if one.category == "blocklist" else "—",
                        one.origin,
                        one.id,
                    ),
                )
                for one in found.rejections
            ]
        )

    def _say_wrong(self, found: health.Overview) -> None:
        banner = cast("_App", self.app).alarms[:2]  # it has room for so many
        more = [one for one in found.trouble if one not in banner]
        self.query_one("#wrong", Static).display = bool(more)
        self._put("wrong", Text("\n".join(f"▲ {one}" for one in more)))

    def _put(self, id: str, text: Text) -> None:
        """Only when it is another: most looks find what the last one found."""
        here = self.query_one(f"#{id}", Static)
        if here.content != text:
            here.update(text)

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        """A job is looked at where jobs are; a decision that left only an event, by its command."""
        if message.line.key.startswith("mev_"):
            said = f"customhouse events show {message.line.key} --org {message.line.cells[1]}"
            self.notify(said, title="A synchronous decision; its scores:", markup=False)
            return
        cast("_App", self.app).go("jobs")

    def action_copy(self) -> None:
        line = self.query_one("#rejections", Rows).current
        if line is None:
            self.notify("There is nothing under the cursor.")
            return
        self.app.copy_to_clipboard(line.key)
        self.notify(f"Copied {line.key}", markup=False)


def _lines(title: str, lines: Iterable[Text]) -> Text:
    return Text("\n").join([Text(title, "bold"), *lines])


def _processes(found: health.Overview) -> Text:
    return _lines("PROCESSES", (_process(one, found.at) for one in found.processes))


def _process(one: health.ProcessFigures, now: int) -> Text:
    sign, style = ("●", "green") if one.is_up and not one.note else ("▲", "yellow") if one.is_up else ("✗", "bold red")
    line = Text.assemble((f"{sign} ", style), (f"{_NAMES[one.name]:<7}", ""))
    if not one.is_up:
        return line.append_text(Text.assemble((" DOWN ", "bold red"), (one.start, "")))
    figures = [
        "up" if one.started_at is None else f"up {words.ago(one.started_at, now)}",
        f"{words.size(one.rss_bytes)}" if one.rss_bytes is not None else "",
        f"{one.share:.0%} CPU" if one.share is not None else "",
        one.note,
    ]
    return line.append(" " + "  ".join(filter(None, figures)))


def _queue(found: health.Overview) -> Text:
    if found.rows_error:
        return _lines("QUEUE", [Text("not known: see above", "red")])
    return _lines(f"QUEUE  {found.open_jobs:,} open", (_waiting(one, found.at) for one in found.waiting))


def _waiting(one: health.Waiting, now: int) -> Text:
    if not one.queued and not one.processing:
        return Text.assemble((f"{one.kind.wire:<6} ", ""), ("none", "dim"))
    age = "" if one.oldest_at is None else f", {words.ago(one.oldest_at, now)}"
    return Text(f"{one.kind.wire:<6} {one.queued + one.processing:,}{age}")


def _verdicts(found: health.Overview) -> Iterable[Series]:
    for name, tone in (("allowed", "good"), ("prohibited", "bad"), ("failed", "warn")):
        values = tuple(int(getattr(one, name)) for one in found.minutes)
        last = values[-2] if len(values) > 1 else 0  # the present minute is not over
        yield Series(name, values, f"{last:,}" if last < 10_000 else f"{last // 1000}k", tone)


def _hour(found: health.Overview) -> str:
    """Each verdict counts in the minute in which the job was submitted: the newest bars still grow."""
    totals = [
        f"{sum(getattr(one, name) for one in found.minutes):,} {name}" for name in ("allowed", "prohibited", "failed")
    ]
    return f"VERDICTS A MINUTE, LAST HOUR: {', '.join(totals)}"


def _models(found: health.Overview) -> Text:
    if not found.models:
        is_up = any(one.name == "models" and one.is_up for one in found.processes)
        return _lines("MODELS", [Text("none are loaded" if is_up else "not known: the model process is down", "dim")])
    title = f"MODELS on {found.device or '?'}, asked for: {found.wanted_device}"
    return _lines(title, (_model(one) for one in found.models))


def _model(one: health.ModelStatus) -> Text:
    is_ready = one.state is health.ModelState.READY
    is_lame = is_ready and one.device != one.wanted_device
    line = Text.assemble(_sign(one, is_lame), f"{one.name:<15} ")
    if not is_ready:
        line.append(one.state.value)
    elif is_lame:
        line.append(f"{one.device}, NOT {one.wanted_device}", "bold yellow")
    else:
        line.append(one.device)
    if one.answered:
        line.append(f"  {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f}", "dim")
    if one.last_error:
        line.append(f"  {one.last_error}", "red")
    return line


def _sign(one: health.ModelStatus, is_lame: bool) -> tuple[str, str]:
    match one.state:
        case health.ModelState.READY:
            return ("▲ ", "yellow") if is_lame else ("● ", "green")
        case health.ModelState.FAILED:
            return "✗ ", "bold red"
        case _:
            return "○ ", "dim"


def _rest(found: health.Overview) -> Text:
    lines: list[Text] = []
    if (disk := found.disk) is not None:
        low = disk.free_bytes < disk.least_bytes * 4
        lines.append(Text(f"free {words.size(disk.free_bytes)}", "bold red" if low else ""))
        for name, size in (
            ("database", disk.database_bytes),
            ("media", disk.media_bytes),
            ("weights", disk.weights_bytes),
            ("log", disk.log_bytes),
        ):
            lines.append(Text.assemble((f"{name} ", "dim"), words.size(size)))
        lines = [_joined(lines[:3]), _joined(lines[3:])]
    lines.append(Text.assemble(("Stripe ", "dim"), _stripe(found)))
    for one in found.allowances[:3]:
        lines.append(
            Text.assemble(("quota ", "dim"), (f"{one.org} {one.share:.0%} of {one.quota:,}", "yellow"), no_wrap=True)
        )
    late = [name for name, one in found.rounds.items() if one.failed_at is not None and one.failed_at > (one.at or 0)]
    if found.rounds:
        lines.append(
            Text.assemble(("rounds ", "dim"), (f"failing: {', '.join(late)}", "red") if late else "all went well")
        )
    return _lines("DISK, STRIPE, QUOTA", lines)


def _joined(parts: list[Text]) -> Text:
    return Text("  ").join(parts)


def _stripe(found: health.Overview) -> tuple[str, str]:
    stripe = found.stripe
    if not stripe.is_on:
        return "off (no key)", ""
    if stripe.last_ok_at is None:
        return (
            f"never synced{': ' + stripe.last_error if stripe.last_error else ''}",
            "red" if stripe.last_error else "",
        )
    is_failing = (stripe.last_error_at or 0) > stripe.last_ok_at
    said = f"synced {words.ago(stripe.last_ok_at, found.at)} ago"
    return (f"{said}: {stripe.last_error}", "red") if is_failing else (said, "")


SCREEN = Overview
