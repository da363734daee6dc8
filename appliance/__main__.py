"""The command line. Commands stand in a literal table and are imported when they are called: help stays quick."""

import importlib
import logging
import sys
from typing import cast

import click

from appliance import __version__
from appliance.errors import CustomhouseError

COMMANDS = {
    "up": ("appliance.commands.processes:up", "Run all three processes in the foreground."),
    "serve": ("appliance.commands.processes:serve", "Run the HTTP API."),
    "work": ("appliance.commands.processes:work", "Run the worker: jobs, webhooks, sweep."),
    "infer": ("appliance.commands.processes:infer", "Run the model process."),
    "status": ("appliance.commands.health:status", "How everything is; exit code 1 when something is wrong."),
    "devices": ("appliance.commands.health:devices", "GPUs, processors, memory, and what of them is ours."),
    "logs": ("appliance.commands.health:logs", "What the processes wrote, together and in order."),
    "status": ("appliance.commands.health:status", "How everything is; exit code 1 when something is wrong."),
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
    "audit": ("appliance.commands.audit:audit", "Who changed what, and why."),
    "train": ("appliance.commands.train:train", "Train and judge the text heads and the spam model."),
    "evaluate": ("appliance.commands.evaluate:evaluate", "What a policy is worth on your own labelled texts."),
    "tui": ("tui.command:tui", "Administer this box from the terminal."),
    "doctor": ("appliance.commands.doctor:doctor", "What is not in order on this machine, and the exact fix."),
    "support-bundle": (
        "appliance.commands.support:support_bundle",
        "One file for whoever helps you: no content, no key.",
    ),
    "config": ("appliance.commands.config:config", "Check and show the settings."),
    "bench": ("appliance.commands.bench:bench", "Measure this machine."),
    "version": ("appliance.commands.processes:version", "Versions of Customhouse and what it stands on."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        return cast(click.Command, getattr(importlib.import_module(module), name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="customhouse")
def root() -> None:
    """Content moderation on your own hardware.

    The state directory is named by CUSTOMHOUSE_HOME. Exit codes: 0 done, 1 failed (the reason is on standard error),
    2 wrong usage; `moderate` also has 3: prohibited.
    """


def main() -> None:
    """Run; an error that we know is one sentence on standard error, not a traceback."""
    try:
        root(prog_name="customhouse")
    except CustomhouseError as error:
        logging.getLogger(__name__).debug("command failed", exc_info=True)
        click.echo(f"customhouse: {error.message}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
