"""`customhouse completion`: what a shell needs to finish commands, options, and the names that this box knows."""

import click
import msgspec
from click.shell_completion import CompletionItem, get_completion_class

from appliance import categories, database, settings, settings_told
from appliance.accounts import keys, organisations, plans
from appliance.database import Connection
from appliance.errors import CustomhouseError
from appliance.inference import manifest
from appliance.policies import rows as policies
from appliance.settings import Settings

VARIABLE = "_CUSTOMHOUSE_COMPLETE"
WHERE = {
    "bash": "~/.local/share/bash-completion/completions/customhouse",
    "zsh": "~/.zfunc/_customhouse, with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc",
    "fish": "~/.config/fish/completions/customhouse.fish",
}
"""Shell → where it looks."""


@click.command()
@click.argument("shell", type=click.Choice(list(WHERE)))
@click.option("--json", "as_json", is_flag=True, help="As JSON, with where to put it.")
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the completion of bash, zsh or fish, e.g. customhouse completion bash > FILE.

    It finishes commands, options and choices, and the names of organisations, plans, policies, keys, models and
    categories as they are on this box: reading them takes the right to read the state directory.
    """
    maker = get_completion_class(shell)
    assert maker is not None  # click knows the three
    script = maker(ctx.find_root().command, {}, "customhouse", VARIABLE).source()
    if as_json:
        click.echo(msgspec.json.encode({"shell": shell, "where": WHERE[shell], "script": script}))
    else:
        click.echo(script)


def known(kind: str) -> list[tuple[str, str]]:
    """Names of that kind on this box, each with a word about it; none where they cannot be read. Raises KeyError."""
    try:
        held = settings.load()
        if kind == "model":
            return [(name, one.task) for name, one in manifest.read_all(held.models_dir).items()]
        if kind == "category":
            return [(slug, "") for slug in categories.load(held.categories_file)]
        if kind == "setting":
            return [(one.name, one.documentation) for one in settings_told.origins(held)]
        return _stored(held, kind)
    except (CustomhouseError, database.Error, OSError):
        return []  # a completion never complains


def complete(kind: str, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=said) for name, said in known(kind) if name.startswith(incomplete)]


def _stored(held: Settings, kind: str) -> list[tuple[str, str]]:
    if not held.database.exists():
        return []
    conn = database.connect(held.database)
    try:
        return _READERS[kind](conn)
    finally:
        conn.close()


def _organisations(conn: Connection) -> list[tuple[str, str]]:
    return [(one.name, one.plan) for one in organisations.every(conn)]


def _plans(conn: Connection) -> list[tuple[str, str]]:
    return [(one.slug, one.name) for one in plans.every(conn)]


def _policies(conn: Connection) -> list[tuple[str, str]]:
    found = [one for org in organisations.every(conn) for one in policies.every(conn, org.id)]
    return [(one.slug, one.name) for one in found]


def _keys(conn: Connection) -> list[tuple[str, str]]:
    return [(one.prefix, one.name) for one in keys.every(conn) if one.revoked_at is None]


_READERS = {"organisation": _organisations, "plan": _plans, "policy": _policies, "key": _keys}
