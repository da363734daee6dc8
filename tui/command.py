"""`customhouse tui`."""

import click

from tui import places


@click.command()
@click.option("--screen", type=click.Choice([one.name for one in places.PLACES]), default="overview", show_default=True)
def tui(screen: str) -> None:
    """Administer this box from the terminal. Works while the other processes are down."""
    from appliance import settings
    from tui.app import CustomhouseApp
    from tui.backend.desk import Desk

    desk = Desk(settings.load())
    try:
        CustomhouseApp(desk, screen).run()
    finally:
        desk.close()
