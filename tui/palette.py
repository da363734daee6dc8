"""`:` and ctrl+p: the command palette finds places, what can be done on this screen, and what the application does."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Callable, Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

Command = tuple[str, str, Callable[[], object]]
"""What it is called, what it does, and doing it."""


class Actions(Provider):
    """Everything that a key does here, by its name: made from the bindings."""

    def _commands(self) -> Iterator[Command]:
        seen: set[tuple[int, str]] = set()
        for active in self.screen.active_bindings.values():
            one = active.binding
            if not one.description or one.system or not active.enabled or (id(active.node), one.action) in seen:
                continue
            seen.add((id(active.node), one.action))
            if one.action.split(".")[-1] == "command_palette" or not one.id:
                continue  # it is open; and what has no id is a widget's own, such as moving in a field
            tells = f"{one.tooltip} " if one.tooltip else ""
            key = self.app.get_key_display(one)
            yield one.description, f"{tells}({key})", partial(self.app.run_action, one.action, active.node)

    async def discover(self) -> Hits:
        for name, tells, do in self._commands():
            yield DiscoveryHit(name, do, help=tells)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, tells, do in self._commands():
            score = matcher.match(name) or 0.4 * (query.casefold() in tells.casefold())
            if score > 0:
                yield Hit(score, matcher.highlight(name), do, help=tells)
