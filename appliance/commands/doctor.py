"""`customhouse doctor`: what is not in order, why, and the exact command that puts it right."""

import dataclasses
import json
import sys

import click

from appliance import access
from appliance import doctor as checks
from appliance.doctor import context, said


@click.command()
@click.argument("names", metavar="[GROUP]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--fix", is_flag=True, help="Put right what can be without losing anything, and look again.")
@click.option("--quick", is_flag=True, help="Leave out what takes long: golden vectors, the ledger, imports.")
@click.option("--before-installation", is_flag=True, help="Only what makes sense where nothing is installed yet.")
@click.option("--online", is_flag=True, help="Also ask outside this machine: Stripe, the public address.")
@click.option("--explain", metavar="ID", help="Say what a check looks at, and why.")
@click.option("--list", "lists", is_flag=True, help="List the groups and their checks.")
@click.option("--evidence", is_flag=True, help="Print what was measured.")
def doctor(
    names: tuple[str, ...],
    as_json: bool,
    fix: bool,
    quick: bool,
    before_installation: bool,
    online: bool,
    explain: str | None,
    lists: bool,
    evidence: bool,
) -> None:
    """Check the machine, the installation and the state, and say what is wrong and the exact fix.

    GROUP is a group (host, gpu, database …) or one check (host.kernel). Nothing is changed without --fix, and --fix
    never removes what could be missed: it tightens modes, makes missing folders and indices, clears up after dead
    processes.

    Exit codes: 0 all is well, 1 something failed, 3 warnings only.
    """
    if explain is not None:
        if explain not in checks.CHECKS:
            raise click.UsageError(f"There is no check {explain}; see: customhouse doctor --list")
        _explain(explain, as_json)
        return
    if lists:
        _list(as_json)
        return
    here = context.make(is_quick=quick, is_early=before_installation, is_online=online)
    if fix and here.settings is not None and here.settings.home.exists():
        access.check(here.settings)
    try:
        report = checks.run(names, here, mends=fix)
    except KeyError as error:
        raise click.UsageError(f"There is no group or check {error}; groups: {', '.join(checks.GROUPS)}") from error
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(report), "exit_code": report.exit_code}, indent=2))
    else:
        for line in said.lines(report, is_long=evidence):
            click.echo(line)
    sys.exit(report.exit_code)


def _explain(name: str, as_json: bool) -> None:
    check = checks.CHECKS[name]
    if not as_json:
        click.echo(said.explained(check))
        return
    click.echo(
        json.dumps(
            {
                "id": check.id,
                "title": check.title,
                "about": check.about,
                "mendable": check.mend is not None,
                "before_installation": check.is_early,
                "slow": check.is_slow,
                "deadline_s": check.deadline_s,
            },
            indent=2,
        )
    )


def _list(as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps({group: [check.id for check in found] for group, found in checks.GROUPS.items()}, indent=2)
        )
        return
    for group, found in checks.GROUPS.items():
        click.echo(f"\n{group}")
        for check in found:
            click.echo(f"  {check.id:<24} {check.title}")
