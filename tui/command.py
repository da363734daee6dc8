"""`customhouse tui`."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import places

if TYPE_CHECKING:
    from tui.backend.desk import Desk

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option(
    "--screen",
    type=click.Choice([one.name for one in places.ALL]),
    default="overview",
    show_default=True,
    metavar="NAME",
    help=f"Where to begin: {', '.join(one.name for one in places.ALL)}.",
)
@click.option("--read-only", is_flag=True, help="Change nothing, whoever you are.")
@click.option("--theme", type=click.Choice(["dark", "light", "ansi", "none"]), help="This time; : remembers one.")
@click.option("--keys", "lists_keys", is_flag=True, help="List every binding that can be remapped, and end.")
@click.option("--serve", is_flag=True, help="In a browser instead, behind a password.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: where to listen.")
@click.option("--port", type=click.IntRange(1, 65535), default=8800, show_default=True, help="With --serve.")
@click.option("--password-file", type=click.Path(path_type=Path), help="With --serve: else one is made and shown once.")
@click.option("--public-url", help="With --serve behind a proxy: the https:// address that the browser is given.")
@click.option("--beyond-loopback", is_flag=True, help="With --serve: other machines reach it; put TLS in front.")
def tui(
    screen: str,
    read_only: bool,
    theme: str | None,
    lists_keys: bool,
    serve: bool,
    host: str,
    port: int,
    password_file: Path | None,
    public_url: str | None,
    beyond_loopback: bool,
) -> None:
    """Administer this box from the terminal. Works while the other processes are down.

    Who may not change anything (admin.group) may look. Theme, motion and keys are yours: they stand in
    $XDG_CONFIG_HOME/customhouse/tui.toml; NO_COLOR is honoured.
    """
    if lists_keys:
        from tui import keymap

        for one in keymap.known():
            click.echo(f"{one.id:<28} {one.keys:<22} {one.label}{f'. {one.tells}' if one.tells else ''}")
        return
    if serve:
        _serve(screen, read_only, host, port, password_file, public_url, beyond_loopback)
        return
    is_web = os.environ.get("TEXTUAL_DRIVER", "").endswith("WebDriver")
    if not is_web and not (sys.stdin.isatty() and sys.stderr.isatty()):
        # it is drawn on standard error, so that standard output may go elsewhere
        raise click.UsageError("this needs a terminal; in a browser: customhouse tui --serve")
    _run(screen, read_only, theme)


def _run(screen: str, read_only: bool, theme: str | None) -> None:
    from dataclasses import replace

    from appliance import access, settings
    from tui import preferences
    from tui.backend.desk import Desk

    loaded = settings.load()
    who = access.of_caller(loaded)
    if read_only:
        who = access.Access(who.actor, False, who.why_not or "This was opened to look only (--read-only)")
    desk = Desk(loaded, who)
    try:
        from tui.app import CustomhouseApp

        path = preferences.where()
        liked = preferences.load(path)
        if theme is not None:
            liked = replace(liked, theme=theme)
        CustomhouseApp(desk, screen, liked=liked, remembered=path, alarms=_alarms).run()
    finally:
        desk.close()


def _alarms(desk: "Desk") -> Sequence[str]:
    """Imported when it is first asked, in its thread: the first paint does not wait for it."""
    health: Any = importlib.import_module("tui.backend.health")
    return health.alarms(desk)


def _serve(
    screen: str,
    read_only: bool,
    host: str,
    port: int,
    password_file: Path | None,
    public_url: str | None,
    beyond_loopback: bool,
) -> None:
    if host not in _LOOPBACK and not beyond_loopback:
        raise click.UsageError(
            f"{host} is not this machine alone: the password and all that you see would cross the network in the "
            "clear. Put a proxy with TLS in front of 127.0.0.1 and give --public-url https://…, or, behind TLS of your "
            "own, say --beyond-loopback"
        )
    from tui import serve

    try:
        password, is_new = serve.password(password_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    command = [sys.executable, "-m", "appliance", "tui", "--screen", screen]
    if read_only:
        command.append("--read-only")
    serve.run(command, host, port, password, public_url=public_url, shows=is_new)
