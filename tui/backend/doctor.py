"""The doctor at the desk: what is not in order, and mending what can be without losing anything."""

from appliance import doctor
from appliance.doctor import Context, Finding, Report, State
from tui.backend.desk import Desk, Refused

__all__ = ["Finding", "Refused", "Report", "State", "about", "look", "mend"]


def look(desk: Desk, *, is_quick: bool) -> Report:
    """Every check, seconds when quick; golden vectors, imports and the ledger take longer."""
    return doctor.run((), _context(desk, is_quick))


def mend(desk: Desk, id: str) -> Finding:
    """Have --fix done for this one check, and look again. Raises Refused when nothing came of it."""
    desk.check()
    (finding,) = doctor.run([id], _context(desk, True), mends=True).findings
    if not finding.mended:
        raise Refused(finding.cause or f"{id} is in order by now")
    return finding


def about(id: str) -> str:
    """What the check looks at, and why."""
    return doctor.CHECKS[id].about


def _context(desk: Desk, is_quick: bool) -> Context:
    return Context(desk.settings, is_quick=is_quick)
