"""`customhouse support-bundle`: one file for whoever helps, listed before it is written."""

import json
from pathlib import Path

import click

from appliance import clock
from appliance.doctor import bundle, context
from appliance.errors import Misconfigured


@click.command("support-bundle")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The file; else one named by the time.")
@click.option("--yes", is_flag=True, help="Write it without asking.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; needs --yes.")
def support_bundle(output: Path | None, yes: bool, as_json: bool) -> None:
    """Gather what somebody who helps has to know, in one archive: no content, no name, no key.

    What is in it: the doctor's findings, versions, settings with their origins, counts, the state of processes, units
    and models, metrics and the last log lines. A text goes in only when it stands in Customhouse's own source; of all
    else only the length stays. You are shown the list first; look into it: it is plain JSON. Nothing is sent anywhere.
    """
    if as_json and not yes:
        raise click.UsageError("--json needs --yes: there is nobody to ask.")
    inside = bundle.parts(context.make())
    path = output or Path(bundle.file_name(clock.now()))
    if not as_json:
        for part in inside:
            click.echo(f"{len(part.data):>9,}  {part.name:<36} {part.why}", err=True)
    if not yes:
        click.confirm(f"Write {path}?", abort=True, err=True)
    try:
        bundle.write(path, inside)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be written ({error.strerror}); name another by --output") from error
    if as_json:
        listed = [{"file": part.name, "bytes": len(part.data), "why": part.why} for part in inside]
        click.echo(json.dumps({"path": str(path), "files": listed}, indent=2))
    else:
        click.echo(str(path))
