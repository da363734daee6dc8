"""The command line. Commands stand in a literal table and are imported when they are called: help stays quick."""

import importlib
import logging
import sys
from typing import cast

import click

from appliance import __version__
from appliance.errors import CustomhouseError

COMMANDS = {
    "up": "appliance.commands.processes:up",
    "serve": "appliance.commands.processes:serve",
    "work": "appliance.commands.processes:work",
    "infer": "appliance.commands.processes:infer",
    "demo": "appliance.commands.demo:demo",
    "moderate": "appliance.commands.moderate:moderate",
    "keys": "appliance.commands.keys:keys",
    "models": "appliance.commands.models:models",
    "categories": "appliance.commands.categories:categories",
    "blocklist": "appliance.commands.blocklist:blocklist",
    "webhooks": "appliance.commands.webhooks:webhooks",
    "train": "appliance.commands.train:train",
    "config": "appliance.commands.config:config",
    "bench": "appliance.commands.bench:bench",
    "version": "appliance.commands.processes:version",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = COMMANDS.get(cmd_name)
        if path is None:
            return None
        module, name = path.split(":")
        return cast(click.Command, getattr(importlib.import_module(module), name))


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
