"""`customhouse categories`: what is screened, what answers it, and organisations' own questions."""

import json

import click
import msgspec

from appliance import audit, settings
from appliance.accounts import custom, organisations
from appliance.categories import Category
from appliance.house import House


@click.group()
def categories() -> None:
    """Categories: what answers each, and custom ones."""


@categories.command("list")
@click.option("--org", help="Also this organisation's custom categories.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(org: str | None, as_json: bool) -> None:
    """List the categories and what answers each: a model's label against its threshold."""
    house = House(settings.load())
    conn = house.db.reader()
    own = custom.every(conn, organisations.named(conn, org).id) if org else []
    models = house.settings.inference
    judge = models.vision_judge
    house.close()
    if as_json:
        known = {slug: msgspec.to_builtins(category) for slug, category in house.categories.items()}
        judges = {"vision_judge": judge, "text_judge": models.text_judge}
        click.echo(json.dumps({"built_in": known, **judges, "custom": msgspec.to_builtins(own)}, indent=2))
        return
    for slug, category in house.categories.items():
        click.echo(f"{slug:<18} {category.label}: {category.description}")
        for line in _answered_by(category, models.text_judge if slug == "text" else judge, slug == "text"):
            click.echo(f"{'':<18}   ← {line}")
    for one in own:
        click.echo(
            f"custom:{one.slug:<11} {one.name}: {one.question}\n{'':<18}   ← {judge or 'nothing: no vision judge'}"
        )


@categories.command()
@click.argument("slug")
@click.option("--org", required=True, help="Whose pictures it is asked about.")
@click.option("--name", required=True, help="What people read.")
@click.option("--question", required=True, help="About the picture, to be answered with yes or no; yes = prohibited.")
def add(slug: str, org: str, name: str, question: str) -> None:
    """Add a custom category, asked about every picture that ORG submits from now on. Needs a vision judge."""
    house = House(settings.load())
    org_id = organisations.named(house.db.reader(), org).id
    house.db.write(lambda conn: custom.add(conn, house.settings, org_id, slug, name, question, actor=audit.operator()))
    house.close()
    click.echo(f"{slug} is asked from now on")


@categories.command()
@click.argument("slug")
@click.option("--org", required=True, help="Whose it is.")
def remove(slug: str, org: str) -> None:
    """Remove a custom category; jobs already submitted keep it."""
    house = House(settings.load())
    org_id = organisations.named(house.db.reader(), org).id
    house.db.write(lambda conn: custom.remove(conn, org_id, slug, actor=audit.operator()))
    house.close()
    click.echo(f"{slug} is not asked any more")


def _answered_by(category: Category, judge: str, is_text: bool) -> list[str]:
    """What decides, in words."""
    lines = [f"{source.model}: {' + '.join(source.labels)} ≥ {source.threshold}" for source in category.beside(judge)]
    before = ["the blocklist, which ends it when a term matches"] if is_text else []
    question = "the policy" if is_text else f"“{category.question}”"
    return [*before, *lines, *([f"{judge}: {question} ≥ {category.judge_threshold}"] if judge else [])]
