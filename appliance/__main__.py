"""The command line. Commands stand in a literal table and are imported when they are called: help stays quick."""

import difflib
import importlib
import json
import logging
import sys
from typing import NoReturn, Protocol, cast

import click
from click.exceptions import NoSuchCommand
from click.shell_completion import CompletionItem

from appliance import __version__
from appliance.errors import CustomhouseError

COMMANDS = {
    "up": ("appliance.commands.processes:up", "Run all three processes in the foreground."),
    "serve": ("appliance.commands.processes:serve", "Run the HTTP API."),
    "work": ("appliance.commands.processes:work", "Run the worker: jobs, webhooks, sweep."),
    "infer": ("appliance.commands.processes:infer", "Run the model process."),
    "restart": ("appliance.commands.restart:restart", "Begin a process anew; nobody who is connected is cut off."),
    "status": ("appliance.commands.health:status", "How everything is; exit code 1 when something is wrong."),
    "top": ("appliance.commands.top:top", "Everything at a glance, again and again."),
    "devices": ("appliance.commands.health:devices", "GPUs, processors, memory, and what of them is ours."),
    "logs": ("appliance.commands.health:logs", "What the processes wrote, together and in order."),
    "demo": ("appliance.commands.demo:demo", "Screen real prompts, photographs and a clip; print what came of it."),
    "moderate": ("appliance.commands.moderate:moderate", "Screen one text, image or video."),
    "jobs": ("appliance.commands.jobs:jobs", "Why a job came out as it did."),
    "keys": ("appliance.commands.keys:keys", "Create, list, rotate and revoke API keys."),
    "models": ("appliance.commands.models:models", "List, fetch, verify, import and remove models."),
    "categories": ("appliance.commands.categories:categories", "What is screened, and what answers it."),
    "blocklist": ("appliance.commands.blocklist:blocklist", "Terms that end a prompt."),
    "steps": ("appliance.commands.steps:steps", "Analyzers asked of prompts after the blocklist."),
    "webhooks": ("appliance.commands.webhooks:webhooks", "Endpoints, deliveries, secrets."),
    "prompts": ("appliance.commands.prompts:prompts", "The words of the built-in questions, and their versions."),
    "organisations": ("appliance.commands.organisations:organisations", "The tenants: limits, plans, bans."),
    "policies": ("appliance.commands.policies:policies", "What is decided of a text: versions, previews, going back."),
    "events": ("appliance.commands.events:events", "What was decided of texts, and why."),
    "quota": ("appliance.commands.quota:quota", "Synchronous requests of the month, had and used."),
    "plans": ("appliance.commands.plans:plans", "What organisations are on: limits, charging, prices."),
    "billing": ("appliance.commands.billing:billing", "Balances, the ledger, credit by hand, reconcile."),
    "stripe": ("appliance.commands.stripe:stripe", "Payments: sync with Stripe, links, alerts."),
    "retention": ("appliance.commands.retention:retention", "How long things are kept, and what goes."),
    "erase": ("appliance.commands.erase:erase", "Remove a job, an organisation or the past, with proof."),
    "backup": ("appliance.commands.backup:backup", "Make, verify and restore backups; a continuous copy."),
    "audit": ("appliance.commands.audit:audit", "Who changed what, and why."),
    "train": ("appliance.commands.train:train", "Train and judge the text heads and the spam model."),
    "evaluate": ("appliance.commands.evaluate:evaluate", "What a policy is worth on your own labelled texts."),
    "tui": ("tui.command:tui", "Administer this box from the terminal."),
    "doctor": ("appliance.commands.doctor:doctor", "What is not in order on this machine, and the exact fix."),
    "release": ("appliance.commands.release:release", "Versions side by side: list, activate, resume, prune."),
    "upgrade": ("appliance.commands.rollback:upgrade", "How to get to a newer version, and whether this box may."),
    "rollback": ("appliance.commands.rollback:rollback", "Back to the version before, its tables included."),
    "support-bundle": (
        "appliance.commands.support:support_bundle",
        "One file for whoever helps you: no content, no key.",
    ),
    "bundle": ("appliance.commands.bundle:bundle", "Everything in one file, for a machine without a network."),
    "sbom": ("appliance.commands.bundle:sbom_", "The bill of materials of what is installed, as CycloneDX."),
    "config": ("appliance.commands.config:config", "Check and show the settings."),
    "completion": ("appliance.commands.completion:completion", "What a shell needs to finish commands and names."),
    "manual": ("appliance.commands.manual:manual", "Manual pages, made of the commands themselves."),
    "bench": ("appliance.commands.bench:bench", "Measure this machine."),
    "version": ("appliance.commands.processes:version", "Versions of Customhouse and what it stands on."),
}


NAMED: dict[str | tuple[str, str], str] = {
    "org": "organisation",
    "policy": "policy",
    "plan": "plan",
    "key": "key",
    ("models", "name"): "model",
    ("models", "names"): "model",
    ("categories", "slug"): "category",
    ("categories", "category"): "category",
    ("plans", "slug"): "plan",
    ("organisations", "name"): "organisation",
    ("config", "name"): "setting",
}
"""Parameter, of one command or of all → what a shell finishes it with: names that this box knows."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = cast(click.Command, getattr(importlib.import_module(module), name))
        _finish_names(command, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise NoSuchCommand(args[0], possibilities=difflib.get_close_matches(args[0], COMMANDS), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _finish_names(command: click.Command, top: str) -> None:
    """Have shells finish the parameters of NAMED, whatever file they are declared in."""
    for one in command.params:
        kind = NAMED.get((top, one.name or "")) or NAMED.get(one.name or "")
        if kind is not None and not isinstance(one.type, click.Choice):
            one.shell_complete = _finisher(kind)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _finish_names(below, top)


class _Finish(Protocol):
    def __call__(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]: ...


def _finisher(kind: str) -> _Finish:
    def finish(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from appliance.commands import completion

        return completion.complete(kind, incomplete)

    return finish


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="customhouse")
def root() -> None:
    """Content moderation on your own hardware.

    The state directory is named by CUSTOMHOUSE_HOME. Exit codes: 0 done, 1 failed (the reason is on standard error),
    2 wrong usage; `moderate` also has 3: prohibited. With --json what a command answers is JSON on standard output, and
    an error is JSON on standard error: {"error": {"code": ..., "message": ...}}. Manual pages: customhouse manual.
    """


def main() -> None:
    """Run; an error that we know is one sentence on standard error, or JSON where JSON was asked for; no traceback."""
    as_json = "--json" in sys.argv[1:]
    try:
        if not as_json:
            root(prog_name="customhouse")
        status: object = root.main(prog_name="customhouse", standalone_mode=False)
        sys.exit(status if type(status) is int else 0)
    except CustomhouseError as error:
        logging.getLogger(__name__).debug("command failed", exc_info=True)
        _fail(error.message, getattr(type(error), "code", "FAILED"), 1, as_json)
    except click.ClickException as error:  # as JSON only: else click has said it, with the usage
        _fail(
            error.format_message(), "USAGE" if isinstance(error, click.UsageError) else "FAILED", error.exit_code, True
        )
    except click.Abort:
        _fail("ended by the keyboard", "ABORTED", 1, as_json)


def _fail(message: str, code: str, status: int, as_json: bool) -> NoReturn:
    said = json.dumps({"error": {"code": code, "message": message}}) if as_json else f"customhouse: {message}"
    click.echo(said, err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
