"""What can be changed on a screen can be changed by a command: every binding stands in one of two tables."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import click
import pytest
from textual.binding import Binding

import tui.screens
from appliance.__main__ import root

CHANGES = {
    "billing.compare": "stripe reconcile",
    "billing.credit": "billing credit",
    "billing.link": "stripe topup-link",
    "billing.resolve": "stripe resolve-alert",
    "billing.stop_auto": "stripe disable-auto-topup",
    "billing.sync": "stripe sync",
    "blocklists.add": "blocklist add",
    "blocklists.import": "blocklist import",
    "blocklists.remove": "blocklist remove",
    "blocklists.switch": "blocklist disable",
    "blocklists.undo": "blocklist enable",
    "blocklists.write": "blocklist export",
    "categories.ai_adult_general": "categories turn",
    "categories.back_to": "prompts rollback",
    "categories.enable": "categories enable",
    "categories.file": "categories threshold",
    "categories.new": "categories add",
    "categories.nsfw": "categories turn",
    "categories.remove": "categories remove",
    "categories.text": "categories turn",
    "categories.underage": "categories turn",
    "categories.undo": "categories turn",
    "doctor.mend": "doctor --fix",
    "jobs.retry": "jobs retry",
    "keys.new": "keys create",
    "keys.revoke": "keys revoke",
    "keys.rotate": "keys rotate",
    "models.fetch": "models fetch",
    "models.import": "models import",
    "models.load": "models load",
    "models.reload": "models reload",
    "models.remove": "models remove",
    "models.undo": "models load",
    "models.unload": "models unload",
    "organisations.ban": "organisations ban",
    "organisations.change": "organisations change",
    "organisations.erase": "erase --org",
    "organisations.new": "organisations create",
    "organisations.pause": "organisations disable",
    "organisations.undo": "organisations enable",
    "policies.activate": "policies activate",
    "policies.default": "policies rename --default",
    "policies.edit": "policies edit",
    "policies.limits": "policies version",
    "policies.new": "policies create",
    "policies.observe": "policies observe",
    "settings.edit": "config edit",
    "webhooks.new": "webhooks register",
    "webhooks.pause": "webhooks disable",
    "webhooks.remove": "webhooks unregister",
    "webhooks.replay": "webhooks replay",
    "webhooks.replay_failed": "webhooks replay",
    "webhooks.reveal": "webhooks secret reveal",
    "webhooks.rotate": "webhooks secret rotate",
    "webhooks.test": "webhooks test",
}
"""Binding → the command, with the option where that makes it, that does the same."""

ASKS = {
    "billing.prove": "billing reconcile",
    "blocklists.test": "blocklist test",
    "categories.asked": "prompts list",
    "categories.limits": "categories thresholds",
    "categories.past": "categories history",
    "categories.try": "categories try",
    "doctor.fully": "doctor",
    "models.try": "models try",
    "models.verify": "models verify",
    "playground.screen": "moderate",
    "policies.preview": "policies preview",
    "settings.validate": "config check",
    "settings.changed": "config show --changed",
    "billing.usage": "billing usage",
    "billing.accounts": "billing balance",
    "billing.ledger": "billing records",
    "billing.stripe": "stripe status",
    "logs.follow": "logs",
    "jobs.narrow": "jobs list",
    "audit.narrow": "audit list",
}
"""Bindings that change nothing and still have a command: what they ask for is worth asking by a script."""

LOOKS = """\
    audit.actor audit.copy audit.subject
    billing.copy billing.period billing.type billing.whose
    blocklists.copy blocklists.filter blocklists.list
    categories.checks categories.copy categories.filter categories.own
    doctor.copy doctor.problems
    gpu.copy
    jobs.copy jobs.org jobs.picture
    keys.copy keys.state
    link.close link.copy
    logs.close logs.copy logs.filter logs.level logs.next logs.previous logs.process
    models.answers models.cancel models.copy models.words
    mover.cancel mover.down mover.up
    organisations.copy organisations.jobs organisations.keys organisations.webhooks
    overview.copy
    playground.blur playground.cancel playground.clear playground.copy playground.file playground.owner
    playground.policy playground.text
    policies.copy policies.differing policies.filter
    settings.clear settings.copy settings.filter
    webhooks.copy webhooks.state
""".split()  # noqa: SIM905  # a hundred names in quotes are no easier to read
"""Bindings that only change what is seen; a command says it by its options."""


def bindings() -> Iterator[str]:
    """The ids of all that the screens bind by themselves."""
    for found in pkgutil.iter_modules(tui.screens.__path__):
        module = importlib.import_module(f"tui.screens.{found.name}")
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                for one in vars(kind).get("BINDINGS", ()):
                    if isinstance(one, Binding):
                        assert one.id, f"{found.name}: {one.key} has no id"
                        yield one.id


BOUND = sorted(set(bindings()))


def test_every_binding_of_every_screen_is_known() -> None:
    """New ones go into CHANGES when they change something, with their command; else into one of the others."""
    assert [one for one in BOUND if one not in CHANGES and one not in ASKS and one not in LOOKS] == []


def test_no_binding_is_told_of_that_is_gone() -> None:
    assert sorted(one for one in (*CHANGES, *ASKS, *LOOKS) if one not in BOUND) == []


@pytest.mark.parametrize(("binding", "line"), [*CHANGES.items(), *ASKS.items()])
def test_the_command_that_does_the_same_exists_and_speaks_json(binding: str, line: str) -> None:
    names = [one for one in line.split() if not one.startswith("-")]
    options = [one for one in line.split() if one.startswith("-")]
    command, ctx = root, click.Context(root, info_name="customhouse")
    for name in names:
        assert isinstance(command, click.Group)
        found = command.get_command(ctx, name)
        assert found is not None, line
        command, ctx = found, click.Context(found, info_name=name, parent=ctx)
    known = [name for one in command.params for name in one.opts]
    assert set(options) <= set(known), line
    assert isinstance(command, click.Group) or "--json" in known, f"{line} has no --json"
