"""How the house is: what every screen's banner says, and the overview."""

from appliance import overview, vitals
from appliance.database import Error
from appliance.inference.wire import ModelState, ModelStatus
from appliance.jobs.job import JobKind
from appliance.overview import Disk, Overview, ProcessFigures, StripeState
from appliance.pulse import Allowance, Minute, Rejection, Waiting
from tui.backend.desk import Desk

__all__ = [
    "Allowance",
    "Disk",
    "JobKind",
    "Minute",
    "ModelState",
    "ModelStatus",
    "Overview",
    "ProcessFigures",
    "Rejection",
    "StripeState",
    "Waiting",
    "Watch",
    "alarms",
]


def alarms(desk: Desk) -> list[str]:
    """What is wrong, in sentences, the worst first; empty when all is well. Blocks: ask it in a thread."""
    try:
        conn = desk.house.db.reader()
    except Error as error:
        said = f"The database cannot be opened: {error}"
        return [said, *vitals.look(desk.settings, None, desk.models, desk.now()).trouble]
    return list(vitals.look(desk.settings, conn, desk.models, desk.now()).trouble)


class Watch:
    """The overview, again and again, for as long as a screen is open."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watch = overview.Watch(desk.settings, desk.models, desk.now)

    def look(self) -> Overview:
        """Blocks."""
        return self._watch.look(self._desk.house.db.reader())
