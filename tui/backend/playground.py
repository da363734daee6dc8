"""The playground: what would come of a text or a file, asked in this process by the functions that decide. Nothing is
kept of it: no job, no event, no charge, no line in the audit log."""

import weakref
from pathlib import Path

from appliance.accounts import organisations
from appliance.work.playground import NOBODY, Analyzer, Decided, Found, Pipeline, Playground, Scored, Seen, Text
from tui.backend.desk import Desk
from tui.backend.works import Progress, Works

__all__ = ["NOBODY", "Analyzer", "Decided", "Found", "Pipeline", "Scored", "Seen", "Text"]


class Ground:
    """Opened with the first run, and closed with the desk's process."""

    def __init__(self, desk: Desk) -> None:
        self.works = Works()
        self.result: Text | Seen | None = None
        """Of the last run, until the next."""
        self._house = desk.house
        self._playground: Playground | None = None

    @property
    def playground(self) -> Playground:
        if self._playground is None:
            self._playground = Playground(self._house)
        return self._playground

    def close(self) -> None:
        self.works.close()
        if self._playground is not None:
            self._playground.close()


_GROUNDS: "weakref.WeakKeyDictionary[Desk, Ground]" = weakref.WeakKeyDictionary()


def ground(desk: Desk) -> Ground:
    if desk not in _GROUNDS:
        _GROUNDS[desk] = Ground(desk)
    return _GROUNDS[desk]


def owners(desk: Desk) -> list[tuple[str, str]]:
    """(id, name) of each organisation, and first nobody: everything on, the shared lists, the shipped policy."""
    every = [(one.id, one.name) for one in desk.read(organisations.every)]
    return [(NOBODY, "nobody: everything is on, the shipped policy"), *every]


def policies(desk: Desk, org_id: str) -> list[str]:
    """Slugs, the default first."""
    return ground(desk).playground.policies(org_id)


def screen_text(desk: Desk, org_id: str, policy: str | None, text: str) -> None:
    there = ground(desk)

    def deed(progress: Progress) -> str:
        progress("asking", 0, 0)
        there.result = None
        there.result = there.playground.text(org_id, policy, text)
        return f"{there.result.ms:.0f} ms; nothing was kept"

    there.works.start("screen", "a text", deed, can_cancel=False)


def screen_file(desk: Desk, org_id: str, path: Path) -> None:
    there = ground(desk)

    def deed(progress: Progress) -> str:
        there.result = None
        there.result = there.playground.file(org_id, path.expanduser(), progress)
        return f"{there.result.ms:.0f} ms; nothing was kept"

    there.works.start("screen", path.name, deed)


def blurred(desk: Desk) -> list[list[tuple[int, int, int]]]:
    """Of the picture that stands highest. Raises Refused where it may not be shown."""
    return ground(desk).playground.blurred()


def wrong_file(given: str) -> str | None:
    path = Path(given).expanduser()
    if path.is_dir():
        return f"{path} is a folder"
    return None if path.is_file() else f"{path}: there is no such file"
