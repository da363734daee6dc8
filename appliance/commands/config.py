"""`customhouse config`: what is set and where it comes from; is it usable; edit it."""

import sys
from typing import Any

import click
import msgspec

from appliance import audit, settings, settings_file, settings_told
from appliance.errors import Forbidden, Misconfigured, NotFound
from appliance.house import House
from appliance.settings_file import Draft

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def config() -> None:
    """Look at the settings, check them, edit them."""


@config.command()
@_JSON
def check(as_json: bool) -> None:
    """Check settings, categories and manifests; exit 1 with the file and every key that is wrong."""
    report = settings_file.check()
    for name in report.ignored:
        click.echo(f"{name} names no setting and is ignored; see: customhouse config show", err=True)
    if not report.is_good:
        if as_json:
            _print({"ok": False, **msgspec.to_builtins(report)})
            sys.exit(1)
        where = report.path or "environment"
        raise Misconfigured(
            "\n".join(
                f"{where}: {one.key}: {one.reason}" if one.key else _whole(where, one.reason) for one in report.problems
            )
        )
    loaded = settings.load()
    answered, known = settings_file.check_models(loaded)
    if as_json:
        _print({"ok": True, **msgspec.to_builtins(report), "settings": settings_told.as_shown(loaded)})
    else:
        click.echo(f"settings, {answered} categories and {known} manifests are in order; state in {loaded.home}")


@config.command()
@click.argument("name", required=False)
@click.option("--origin", is_flag=True, help="Of each also where it comes from, its default and what it is for.")
@click.option("--changed", is_flag=True, help="With --origin: only those that differ from the default.")
@_JSON
def show(name: str | None, origin: bool, changed: bool, as_json: bool) -> None:
    """Print every setting as it stands after the file and the environment: as JSON, or with --origin as a table. With a
    NAME, e.g. server.port, all that is known of this one."""
    held = settings.load()
    if name is not None:
        _show_one(held, name, as_json)
        return
    if not (origin or changed):
        click.echo(msgspec.json.format(msgspec.json.encode(settings_told.as_shown(held)), indent=2))
        return
    found = [one for one in settings_told.origins(held) if one.is_changed or not changed]
    if as_json:
        _print([{**msgspec.to_builtins(one), "is_changed": one.is_changed} for one in found])
        return
    for one in found:
        said = one.source if one.origin in ("file", "environment") else ""
        mark = "*" if one.is_changed else " "
        click.echo(f"{mark} {one.name:<34} {written(one.value):<26} {one.origin:<12} {said}".rstrip())


@config.command()
@_JSON
def edit(as_json: bool) -> None:
    """Edit the settings file in $EDITOR: a copy is edited and checked, and only then takes the file's place. What was
    changed stands in the audit log. Processes take it when they are started again."""
    house = House(_loaded())
    try:
        if not house.access.may_change:
            raise Forbidden(house.access.why_not or "You may look, not change")
        draft = settings_file.begin()
        _edited(draft)
        changed = settings_file.accept(house.db, draft, actor=audit.operator())
    finally:
        house.close()
    if as_json:
        _print({"path": str(draft.target), "changed": changed})
        return
    for one in changed:
        click.echo(f"{one.key}: {written(one.before)} → {written(one.after)}")
    if not changed:
        click.echo("nothing was changed")
    elif restart := sorted({name for one in changed for name in one.used_by}):
        click.echo(f"holds once these are started again: {', '.join(restart)}")


def written(value: Any) -> str:
    """A value in one line, as TOML has it; a dash for none."""
    match value:
        case None:
            return "—"
        case bool():
            return "true" if value else "false"
        case list():
            return "[" + ", ".join(written(one) for one in value) + "]"  # pyright: ignore[reportUnknownVariableType]
        case str():
            return f'"{value}"'
        case _:
            return str(value)


def _show_one(held: settings.Settings, name: str, as_json: bool) -> None:
    one = next((one for one in settings_told.origins(held) if one.name == name), None)
    if one is None:
        raise NotFound(f"There is no setting {name!r}; see: customhouse config show")
    if as_json:
        _print({**msgspec.to_builtins(one), "is_changed": one.is_changed})
        return
    click.echo(f"{one.name} = {written(one.value)}")
    click.echo(one.documentation)
    click.echo(f"from: {one.origin} {one.source}".rstrip())
    click.echo(f"default: {written(one.default)}\nvariable: {one.variable}")
    if one.pending is not None:
        click.echo(f"after a restart: {written(one.pending)}")
    click.echo(f"read by: {', '.join(one.used_by) or 'each command as it starts'}")


def _loaded() -> settings.Settings:
    """The settings, even when the file that is to be mended is broken: the database is where the environment says."""
    try:
        return settings.load()
    except Misconfigured:
        return settings.without_file()


def _edited(draft: Draft) -> None:
    """Until the copy is good. Raises Misconfigured when the person gives up; the copy stays."""
    while True:
        settings_file.ask(draft)
        found = settings_file.problems(draft)
        if not found:
            return
        for one in found:
            click.echo(f"{one.key or draft.target.name}: {one.reason}", err=True)
        if not (sys.stdin.isatty() and click.confirm("Edit again?", default=True, err=True)):
            raise Misconfigured(f"{draft.target} is as it was; your copy is kept: {draft.copy}")


def _whole(where: str, reason: str) -> str:
    return reason if reason.startswith(where) else f"{where}: {reason}"


def _print(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
