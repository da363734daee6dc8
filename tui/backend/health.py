"""How the house is: what every screen's banner says, and the overview."""

from appliance import vitals
from tui.backend.desk import Desk


def alarms(desk: Desk) -> list[str]:
    """What is wrong, in sentences, the worst first; empty when all is well. Blocks: ask it in a thread."""
    return list(vitals.look(desk.settings, desk.house.db.reader(), desk.models, desk.now()).trouble)
