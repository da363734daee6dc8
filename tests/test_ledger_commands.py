"""`customhouse billing` and `customhouse plans`, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import root
from appliance.accounts import organisations
from appliance.errors import Conflict, CustomhouseError, InvalidRequest, NotFound
from appliance.house import House
from appliance.settings import Settings


class Cli:
    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(root, list(arguments))

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    def refused(self, *arguments: str) -> CustomhouseError:
        error = self.run(*arguments).exception
        assert isinstance(error, CustomhouseError), error
        return error

    def audit(self) -> list[dict[str, Any]]:
        house = House(Settings(home=self.home))
        found = [dict(row) for row in house.db.reader().execute("SELECT * FROM audit ORDER BY id")]
        house.close()
        return found


@pytest.fixture
def cli(house: House, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    house.db.write(lambda conn: organisations.create(conn, "acme"))
    return Cli(house.settings.home)


def test_credit_is_posted_with_its_reason_and_an_audit_line(cli: Cli) -> None:
    done = cli.run("billing", "credit", "25.50", "--org", "acme", "--reason", "Bank transfer 4711")
    assert done.output == "$25.50 credited; acme has $25.50\n"
    [entry] = cli.json("billing", "records", "--org", "acme")
    assert (entry["type"], entry["amount_usd"], entry["balance_after_usd"]) == ("credit", 25.5, 25.5)
    assert entry["description"] == "Bank transfer 4711"
    line = cli.audit()[-1]
    assert (line["action"], line["subject"], line["reason"]) == ("billing.credited", "acme", "Bank transfer 4711")
    assert line["actor"].startswith("operator:")
    assert json.loads(line["detail"])["amount_micros"] == 25_500_000


def test_a_correction_is_negative_and_has_to_be_meant(cli: Cli) -> None:
    cli.run("billing", "credit", "5", "--org", "acme", "--reason", "Transfer")
    assert "add --force" in cli.refused("billing", "credit", "-7", "--org", "acme", "--reason", "Typo").message
    done = cli.json("billing", "credit", "-7", "--org", "acme", "--reason", "Typo", "--force")
    assert (done["posted"]["amount_usd"], done["balance_usd"]) == (-7.0, -2.0)
    assert cli.audit()[-1]["action"] == "billing.corrected"


def test_a_reference_that_was_credited_with_another_amount_is_refused(cli: Cli) -> None:
    cli.run("billing", "credit", "5", "--org", "acme", "--reason", "Invoice 7", "--once", "invoice-7")
    refused = cli.refused("billing", "credit", "6", "--org", "acme", "--reason", "Invoice 7", "--once", "invoice-7")
    assert isinstance(refused, Conflict)
    assert "invoice-7 was credited with $5.00 before" in refused.message
    assert cli.json("billing", "balance", "--org", "acme")[0]["balance_usd"] == 5.0


def test_a_reference_is_credited_once_however_often_it_is_told(cli: Cli) -> None:
    for _ in range(2):
        done = cli.json("billing", "credit", "5", "--org", "acme", "--reason", "Invoice 7", "--once", "invoice-7")
    assert done == {"posted": None, "balance_usd": 5.0}
    assert len([line for line in cli.audit() if line["action"] == "billing.credited"]) == 1


@pytest.mark.parametrize("amount", ["0", "NaN", "1e3", "0.0000001", "five", ""])
def test_what_is_no_amount_is_refused(cli: Cli, amount: str) -> None:
    assert isinstance(cli.refused("billing", "credit", amount, "--org", "acme", "--reason", "r"), InvalidRequest)
    assert cli.json("billing", "balance")[0]["balance_usd"] == 0


def test_credit_needs_a_reason_and_an_organisation(cli: Cli) -> None:
    assert cli.run("billing", "credit", "5", "--org", "acme").exit_code == 2
    assert isinstance(cli.refused("billing", "credit", "5", "--org", "acme", "--reason", " "), InvalidRequest)
    assert isinstance(cli.refused("billing", "credit", "5", "--org", "nobody", "--reason", "r"), NotFound)


def test_balances_are_listed_with_how_each_is_charged(cli: Cli) -> None:
    cli.run("billing", "credit", "1234.5", "--org", "acme", "--reason", "r")
    assert cli.json("billing", "balance", "--org", "acme") == [
        {"org": "acme", "balance_usd": 1234.5, "charge_method": "none", "plan": "standard"}
    ]
    assert cli.run("billing", "balance").output.split() == ["$1,234.50", "none", "standard", "acme"]


def test_a_whole_ledger_reconciles_and_a_damaged_one_exits_1_with_evidence(cli: Cli, house: House) -> None:
    cli.run("billing", "credit", "5", "--org", "acme", "--reason", "r")
    done = cli.run("billing", "reconcile")
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "the ledger is whole")
    house.db.write(lambda conn: conn.execute("DROP TRIGGER ledger_not_changed") and None)
    house.db.write(lambda conn: conn.execute("UPDATE ledger SET balance_micros = 6000000") and None)
    done = cli.run("billing", "reconcile")
    assert done.exit_code == 1
    assert "broken chain: 1" in done.output
    assert "THE LEDGER IS NOT WHOLE" in done.output
    report = json.loads(cli.run("billing", "reconcile", "--json").output)
    assert (report["is_whole"], report["faults"]) == (False, {"broken chain": 1, "sum is not the balance": 1})


def test_a_plan_is_made_changed_priced_and_removed(cli: Cli) -> None:
    made = cli.json(
        "plans", "create", "volume", "--name", "Growth", "--charge", "per_job", "--prompt", "0.0008",
        "--image", "0.002", "--requests-per-minute", "600", "--monthly-quota", "5000", "--reason", "New customers",
    )  # fmt: skip
    assert (made["prompt_usd"], made["image_usd"], made["video_usd"]) == (0.0008, 0.002, 0.0)
    assert (made["requests_per_minute"], made["burst_per_second"], made["charge_method"]) == (600, None, "per_job")
    assert made["monthly_request_quota"] == 5000
    assert "5,000/month" in cli.run("plans", "list").output
    changed = cli.json(
        "plans", "change", "volume", "--requests-per-minute", "default", "--hidden", "--monthly-quota", "none",
        "--reason", "r",
    )  # fmt: skip
    assert changed["monthly_request_quota"] is None
    assert (changed["requests_per_minute"], changed["is_hidden"], changed["prompt_usd"]) == (None, True, 0.0008)
    assert {"volume", "standard"} <= {plan["plan"] for plan in cli.json("billing", "prices")}
    assert "$0.0008" in cli.run("billing", "prices").output
    assert "hidden" in cli.run("plans", "list").output
    cli.json("plans", "remove", "volume", "--reason", "r")
    assert "volume" not in [plan["slug"] for plan in cli.json("plans", "list")]
    assert [line["action"] for line in cli.audit()] == ["plan.created", "plan.changed", "plan.removed"]


def test_unusable_plans_are_refused(cli: Cli) -> None:
    assert isinstance(cli.refused("plans", "create", "p", "--prompt", "-1", "--reason", "r"), InvalidRequest)
    assert isinstance(cli.refused("plans", "create", "p", "--burst-per-second", "x", "--reason", "r"), InvalidRequest)
    assert isinstance(cli.refused("plans", "change", "p", "--reason", "r"), NotFound)
    assert isinstance(cli.refused("plans", "remove", "standard", "--reason", "r"), Conflict)
    assert cli.run("plans", "create", "p").exit_code == 2
