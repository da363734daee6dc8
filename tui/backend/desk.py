"""The admin's hold of the house: where it is, who asks, whether they may change anything, and what time it is."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from appliance import clock
from appliance.access import Access
from appliance.database import Connection
from appliance.errors import CustomhouseError, Forbidden
from appliance.house import House
from appliance.inference.client import Models
from appliance.settings import Settings

__all__ = ["Access", "Desk", "Refused"]

Refused = CustomhouseError
"""What any function of the backend raises when it cannot: `message` is a sentence for the admin."""

T = TypeVar("T")


class Desk:
    """Opened once, handed to every screen. `now` is the time that everything is shown against, in ms."""

    def __init__(
        self, settings: Settings, access: Access | None = None, *, now: Callable[[], int] = clock.now_ms
    ) -> None:
        self.settings = settings
        self.house = House(settings, access)
        self.access = self.house.access
        self.models = Models(settings.inference_socket, min(settings.inference.deadline_s, 10.0))
        self.now = now

    @property
    def actor(self) -> str:
        return self.access.actor

    @property
    def home(self) -> Path:
        return self.settings.home

    def read(self, ask: Callable[[Connection], T]) -> T:
        """The answer, as of the newest commit."""
        return ask(self.house.db.reader())

    def change(self, do: Callable[[Connection], T]) -> T:
        """Have it done, on disk when this returns. Raises Refused."""
        self.check()
        return self.house.db.write(do)

    def check(self) -> None:
        """Raises Refused when who sits here may only look."""
        if not self.access.may_change:
            raise Forbidden(self.access.why_not or "You may look, not change")

    def close(self) -> None:
        self.models.close()
        self.house.close()
