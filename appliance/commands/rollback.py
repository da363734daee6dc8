"""`customhouse rollback` and `customhouse upgrade`: back to the version before, and how to get to a newer one."""

import ast
import json
import re
from pathlib import Path

import click

from appliance import __version__, installed
from appliance.commands.release import HEALTHY, JSON, PREFIX, prefix_of, rolled_back
from appliance.errors import Misconfigured
from appliance.release import release


@click.command()
@click.option(
    "--restore-backup",
    is_flag=True,
    help="Put the backup of before the upgrade in the place of the database: what was accepted since is lost.",
)
@click.option(
    "--identity",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help="With --restore-backup: the file that opens an encrypted backup.",
)
@click.option("--reason", default="", help="Kept in the audit log.")
@HEALTHY
@PREFIX
@JSON
def rollback(
    restore_backup: bool, identity: str | None, reason: str, healthy_s: float, prefix: Path | None, as_json: bool
) -> None:
    """Go back to the version before, its tables included. What was accepted meanwhile stays.

    Connections wait for the seconds that it takes. It is refused, and nothing has changed, when there is no version
    before, when it would not start with the settings as they are, or when a migration cannot be taken back.
    """
    rolled_back(prefix, healthy_s, reason, restore=restore_backup, identity=identity or "", as_json=as_json)


@click.command()
@click.argument("tree", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@PREFIX
@JSON
def upgrade(tree: Path | None, prefix: Path | None, as_json: bool) -> None:
    """Say how to upgrade; with TREE, a newer version's folder, whether this box may go to it, and the command.

    Nothing is changed. A newer version is installed by its own ./install.sh, beside the one that runs.
    """
    at = prefix_of(prefix)
    runs = installed.current(at)
    told: dict[str, object] = {"prefix": str(at), "runs": runs, "code": __version__}
    if tree is not None:
        new, least = _of_tree(tree)
        before = runs or __version__
        told |= {"version": new, "upgrade_from": least, "command": f"{tree.resolve()}/install.sh"}
        if release.order(new)[0] <= release.order(before)[0]:
            raise Misconfigured(f"{tree} is {new}, and {before} runs; the way back is: customhouse rollback")
        if least != "0" and release.order(before)[0] < release.order(least)[0]:
            raise Misconfigured(f"{new} can be upgraded to from {least} on, and {before} runs; first to {least}")
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{runs or 'nothing'} runs, of {at}")
    if tree is None:
        click.echo("unpack the newer version anywhere and run: sudo ./install.sh   (air-gapped: --bundle FILE)")
        click.echo("it is installed beside this one, tried, switched to, and left again when it is not well")
    else:
        click.echo(f"{told['version']} may follow: sudo {told['command']}")
    click.echo("the way back: customhouse rollback")


def _of_tree(tree: Path) -> tuple[str, str]:
    """Its version, and the least that may be upgraded to it; read, not run. Raises Misconfigured."""
    try:
        said = re.search(r'^__version__ = "([^"]+)"', (tree / "appliance/__init__.py").read_text(), re.MULTILINE)
        source = ast.parse((tree / "appliance/release/release.py").read_text())
        required = next(
            tuple(ast.literal_eval(one.value))
            for one in source.body
            if isinstance(one, ast.Assign)
            and [name.id for name in one.targets if isinstance(name, ast.Name)] == ["REQUIRED"]
        )
    except (OSError, SyntaxError, ValueError, StopIteration) as error:
        raise Misconfigured(f"{tree} is no tree of Customhouse that can be upgraded to") from error
    if said is None:
        raise Misconfigured(f"{tree}/appliance/__init__.py names no version")
    return said[1], release.least_before(said[1], required)
