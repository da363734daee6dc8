"""The settings: what holds, where it comes from, whether the file on disk is usable, and the file edited."""

from appliance import settings_file, settings_told
from appliance.settings_file import Change, Draft, Report
from appliance.settings_told import Problem, Setting
from tui.backend.desk import Desk

__all__ = ["Change", "Draft", "Problem", "Report", "Setting"]


def every(desk: Desk) -> list[Setting]:
    """All settings as this process holds them, in the order of the file that shows them."""
    return settings_told.origins(desk.settings)


def check() -> Report:
    """Whether a process would start with what is on disk now."""
    return settings_file.check()


def begin(desk: Desk) -> Draft:
    """A copy of the file to edit. Raises Refused."""
    desk.check()
    return settings_file.begin()


def edit(draft: Draft) -> None:
    """The person's editor, on this terminal, until it ends. Raises Refused; the copy stays."""
    settings_file.ask(draft)


def problems(draft: Draft) -> list[Problem]:
    return settings_file.problems(draft)


def changes(draft: Draft) -> list[Change]:
    return settings_file.changes(draft)


def accept(desk: Desk, draft: Draft) -> list[Change]:
    """The copy takes the file's place. Raises Refused; the copy stays then."""
    desk.check()
    return settings_file.accept(desk.house.db, draft, actor=desk.actor)


def discard(draft: Draft) -> None:
    settings_file.discard(draft)
