"""The line on which long work is told, for a screen that begins some."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from dataclasses import dataclass

from rich.text import Text
from textual.message import Message
from textual.widgets import Static

from tui import words
from tui.backend.works import Work, Works
from tui.widgets.dialogs import gauge

_SIGN = {"done": "✓", "failed": "✗", "cancelled": "–"}


class Working(Static):
    """One line, or none while nothing was begun. `Working.Ended` is posted when a piece ends."""

    DEFAULT_CSS = """
    Working { height: 1; background: $panel; padding: 0 1; display: none; }
    Working.done { color: $text-success; }
    Working.failed { color: $text-error; }
    Working.cancelled { color: $text-warning; }
    """

    @dataclass
    class Heard(Message):
        """Something stands otherwise: a burst is drawn once."""

        work: Work

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, Working.Heard) and message.work.is_going

    @dataclass
    class Ended(Message):
        work: Work

    def __init__(self, works: Works, *, id: str | None = None, in_bytes: bool = True) -> None:
        super().__init__("", id=id, markup=False)
        self._works = works
        self._in_bytes = in_bytes

    def on_mount(self) -> None:
        self._works.listen(self._hear)
        self._draw(self._works.last)

    def on_unmount(self) -> None:
        self._works.unlisten(self._hear)

    def _hear(self, work: Work) -> None:
        """In any thread."""
        self.post_message(self.Heard(work))

    def on_working_heard(self, message: Heard) -> None:
        self._draw(message.work)
        if not message.work.is_going:
            self.post_message(self.Ended(message.work))

    def on_resize(self) -> None:
        self._draw(self._works.last)

    def _draw(self, work: Work | None) -> None:
        self.display = work is not None
        if work is None:
            return
        for state in _SIGN:
            self.set_class(work.state == state, state)
        name = f"{work.verb} {work.name}".strip()
        if not work.is_going:
            first, _, more = work.said.partition("\n")
            said = first.removeprefix(f"{work.name}: ") + (" …" if more else "")
            self.update(Text(f"{_SIGN[work.state]} {name}: {said}", no_wrap=True, overflow="ellipsis"))
            return
        room = max(self.size.width - 2, 20)
        amount = self._amount(work)
        ending = "  ending…" if work.state == "ending" else "  x cancels" if work.can_cancel else ""
        what = f"{name}  {work.what}  " if work.what not in ("", work.name) else f"{name}  "
        left = room - len(amount) - len(ending) - 2
        bar = gauge(work.done, work.total, max(left - len(what), 16)) if work.total else "under way…"
        what = what if len(what) + len(bar) <= left else f"{name}  "
        self.update(Text(f"{what}{bar}  {amount}{ending}", no_wrap=True, overflow="ellipsis"))

    def _amount(self, work: Work) -> str:
        if not self._in_bytes:
            return f"{work.done:,} of {work.total:,}" if work.total else ""
        if work.total:
            return f"{words.size(work.done)} of {words.size(work.total)}"
        return words.size(work.done) if work.done else ""
