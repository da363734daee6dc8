"""API keys."""

from textual.app import ComposeResult

from tui import words
from tui.backend import keys
from tui.place import Place
from tui.widgets.rows import Column, Line, Rows


class Keys(Place):
    NAME = "keys"

    def body(self) -> ComposeResult:
        yield Rows(
            [
                Column("Key", 18),
                Column("Organisation", 16, grows=True),
                Column("Name", 16, grows=True),
                Column("Used", 8, align="right"),
            ],
            id="keys",
            empty="There are no keys yet.",
        )

    async def load(self) -> None:
        found = await self.ask(lambda: keys.every(self.desk))
        now = self.desk.now()
        self.query_one("#keys", Rows).show(
            [Line(key.id, (f"{key.prefix}…", org, key.name, words.ago(key.last_used_at, now))) for key, org in found]
        )


SCREEN = Keys
