"""Names and values, one a line: the detail of something."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text
from textual.widgets import Static

Fact = tuple[str, str | Text]


class Facts(Static):
    DEFAULT_CSS = """
    Facts { height: auto; padding: 0 1; }
    """

    def show(self, facts: Sequence[Fact], empty: str = "") -> None:
        """Replace what is there."""
        if not facts:
            self.update(Text(empty, style="dim"))
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts:
            table.add_row(name, value if isinstance(value, Text) else Text(value))
        self.update(table)
