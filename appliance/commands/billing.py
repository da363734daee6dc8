"""`customhouse billing`: balances, the ledger, credit by hand, and the proof that it all adds up."""

import json
import sys

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import organisations, plans
from appliance.billing import credit as credits
from appliance.billing import ledger, money, reconcile
from appliance.billing.ledger import Entry, EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import usage
from appliance.moderations import usage as requests


@click.group()
def billing() -> None:
    """Money: balance, records, credit, prices, reconcile."""


@billing.command()
@click.option("--org", help="Only this organisation's.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def balance(org: str | None, as_json: bool) -> None:
    """What each organisation has left, and how it is charged."""
    house = House(settings.load())
    conn = house.db.reader()
    found = [organisations.named(conn, org)] if org else organisations.every(conn)
    lines = [(one.name, ledger.balance(conn, one.id), plans.terms(conn, one.id)) for one in found]
    house.close()
    if as_json:
        shown = [
            {"org": name, "balance_usd": money.usd(left), "charge_method": held.charge_method, "plan": held.plan}
            for name, left, held in lines
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    for name, left, held in lines:
        click.echo(f"{money.written(left):>16}  {held.charge_method.value:<8}  {held.plan:<12}  {name}")


@billing.command()
@click.option("--org", required=True, help="The organisation.")
@click.option(
    "--type", "types", multiple=True, type=click.Choice([type.value for type in EntryType]), help="Only these."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def records(org: str, types: tuple[str, ...], limit: int, as_json: bool) -> None:
    """The ledger of an organisation, newest first."""
    house = House(settings.load())
    conn = house.db.reader()
    owner = organisations.named(conn, org)
    found = ledger.page(conn, owner.id, limit=limit, types=[EntryType(type) for type in types])
    house.close()
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in found], indent=2))
        return
    for entry in found:
        click.echo(
            f"{clock.rfc3339(entry.created_at)}  {entry.type.value:<13}  {money.written(entry.amount_micros):>14}  "
            f"{money.written(entry.balance_micros):>14}  {entry.description}"
        )


@billing.command("usage")
@click.option("--org", help="Only this organisation's; else of all together.")
@click.option(
    "--period", default="month", show_default=True, type=click.Choice([*usage.PERIODS, usage.YEAR]), help="Up to now."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def usage_(org: str | None, period: str, as_json: bool) -> None:
    """Jobs by kind, verdicts, model seconds, synchronous requests and money, by the bucket: days of a month or week,
    hours of a day, minutes of an hour, months of a year."""
    house = House(settings.load())
    reader = house.db.reader()
    org_id = organisations.named(reader, org).id if org else None
    found = usage.buckets(reader, org_id, period, clock.now_ms())
    asked = requests.by_bucket(reader, org_id, [one.at for one in found]) if period in ("month", "week", "year") else {}
    house.close()
    if as_json:
        shown = [
            {
                "ts": clock.rfc3339(one.at),
                "prompt": one.prompt,
                "image": one.image,
                "video": one.video,
                "passed": one.passed,
                "rejected": one.rejected,
                "model_seconds": one.gpu_ms / 1000,
                "tokens": one.tokens,
                "cost_usd": money.usd(one.micros),
                "requests": asked.get(one.at) if asked else None,
            }
            for one in found
        ]
        click.echo(json.dumps({"period": period, "organisation": org, "data": shown}, indent=2))
        return
    click.echo(f"{'from':<17} {'prompt':>8} {'image':>8} {'video':>8} {'passed':>8} {'rejected':>8} {'cost':>12}")
    for one in found:
        kinds = f"{one.prompt:>8,} {one.image:>8,} {one.video:>8,} {one.passed:>8,} {one.rejected:>8,}"
        click.echo(f"{clock.rfc3339(one.at)[:16]:<17} {kinds} {money.written(one.micros):>12}")


@billing.command(context_settings={"ignore_unknown_options": True})  # -5 is an amount, not an option
@click.argument("amount")
@click.option("--org", required=True, help="The organisation.")
@click.option("--reason", required=True, help="Kept in the audit log, and shown to the organisation with the entry.")
@click.option("--force", is_flag=True, help="Take a negative AMOUNT: a correction. The balance may go below zero.")
@click.option(
    "--once", "reference", help="A reference of yours, e.g. an invoice's number: credited once, however often told."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def credit(amount: str, org: str, reason: str, force: bool, reference: str | None, as_json: bool) -> None:
    """Credit AMOUNT US dollars to an organisation, e.g. for a bank transfer."""
    micros, why = credits.parse(amount, force=force), credits.check_reason(reason)
    house = House(settings.load())

    def change(conn: Connection) -> Entry | None:
        owner = organisations.named(conn, org)
        now, actor = clock.now_ms(), audit.operator()
        return credits.give(conn, owner, micros, now, actor=actor, reason=why, reference=reference or "")

    entry = house.db.write(change)
    left = ledger.balance(house.db.reader(), organisations.named(house.db.reader(), org).id)
    house.close()
    if as_json:
        posted = None if entry is None else _as_json(entry)
        click.echo(json.dumps({"posted": posted, "balance_usd": money.usd(left)}, indent=2))
    elif entry is None:
        click.echo(f"{reference} was credited before; nothing was changed. {org} has {money.written(left)}")
    else:
        click.echo(f"{money.written(micros)} credited; {org} has {money.written(left)}")


@billing.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def prices(as_json: bool) -> None:
    """What each plan charges for a job of each kind and for a GPU second; set with: customhouse plans change."""
    house = House(settings.load())
    found = plans.every(house.db.reader())
    house.close()
    names = ("prompt_micros", "image_micros", "video_micros", "gpu_second_micros")
    if as_json:
        shown = [
            {
                "plan": plan.slug,
                "charge_method": plan.charge_method,
                **{name.replace("_micros", "_usd"): money.usd(getattr(plan, name)) for name in names},
            }
            for plan in found
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(f"{'plan':<16} {'charged':<9} {'prompt':>12} {'image':>12} {'video':>12} {'GPU second':>12}")
    for plan in found:
        priced = " ".join(f"{money.written(getattr(plan, name)):>12}" for name in names)
        click.echo(f"{plan.slug:<16} {plan.charge_method.value:<9} {priced}")


@billing.command("reconcile")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def reconcile_(as_json: bool) -> None:
    """Prove that the ledger is whole: sums, balances, one charge a job, one refund a failed job. Exit code 1 if not."""
    house = House(settings.load())
    report = reconcile.check(house.db.reader())
    house.close()
    if as_json:
        click.echo(
            msgspec.json.format(msgspec.json.encode({"is_whole": report.is_whole, **msgspec.structs.asdict(report)}))
        )
    else:
        total = money.written(report.balance_micros)
        click.echo(f"{report.entries:,} entries of {report.organisations:,} organisations come to {total}")
        click.echo(f"{report.charged_jobs:,} jobs charged, {report.refunded_jobs:,} of them refunded")
        click.echo(f"{report.purged_jobs:,} of them gone since, as jobs go")
        for sort, count in report.faults.items():
            click.echo(f"{sort}: {count:,}", err=True)
        for fault in report.evidence:
            click.echo(f"  {fault.sort}: {fault.subject} of {fault.org_id}: {fault.message}", err=True)
        click.echo("the ledger is whole" if report.is_whole else "THE LEDGER IS NOT WHOLE", err=not report.is_whole)
    sys.exit(0 if report.is_whole else 1)


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "record_id": entry.id,
        "type": entry.type.value,
        "amount_usd": money.usd(entry.amount_micros),
        "balance_after_usd": money.usd(entry.balance_micros),
        "source": f"{entry.source_type}:{entry.source_id}",
        "job_id": entry.job_id,
        "modality": entry.modality,
        "description": entry.description,
        "created_at": clock.rfc3339(entry.created_at),
    }
