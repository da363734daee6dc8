"""`customhouse config`: are the settings, categories and manifests usable?"""

import os

import click
import msgspec

from appliance import categories, settings
from appliance.errors import Misconfigured
from appliance.inference import manifest


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(as_json: bool) -> None:
    """Check settings, categories and manifests; exit 1 with the file and the field that is wrong."""
    loaded = settings.load()
    known = manifest.read_all(loaded.models_dir)
    answered = categories.load(loaded.categories_file)
    for slug, category in answered.items():
        for source in category.sources:
            if source.model not in known:
                raise Misconfigured(
                    f"{loaded.categories_file}: {slug} is to be answered by {source.model!r}, "
                    f"but {loaded.models_dir} has no such model"
                )
    for name in [loaded.inference.text_judge, loaded.inference.vision_judge, *loaded.inference.models]:
        if name and name not in known:
            raise Misconfigured(f"inference names the model {name!r}, but {loaded.models_dir} has no such model")
    for name in settings.ignored(os.environ):
        click.echo(f"{name} names no setting and is ignored; see: customhouse config show", err=True)
    if as_json:
        click.echo(msgspec.json.encode({"ok": True, "settings": loaded}, enc_hook=str))
    else:
        click.echo(
            f"settings, {len(answered)} categories and {len(known)} manifests are in order; state in {loaded.home}"
        )


@config.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, which it is anyway.")
def show(as_json: bool) -> None:
    """Print every setting as JSON, as it stands after the file and the environment."""
    click.echo(msgspec.json.format(msgspec.json.encode(settings.load(), enc_hook=str), indent=2))
