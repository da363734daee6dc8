"""Bills of materials: of what is installed and of a bundle, held to the published schema of CycloneDX 1.6."""

import json
import tarfile
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from appliance.__main__ import root
from appliance.bundle import sbom
from appliance.inference import manifest
from appliance.inference.weights import FileState, Standing
from tests import lock
from tests.bundles import ROOT, Maker

SCHEMAS = ROOT / "tests/golden/cyclonedx"


@pytest.fixture(scope="session")
def schema() -> jsonschema_rs.Draft7Validator:
    texts = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    others = [(one["$id"].rpartition("/")[0] + "/" + name, one) for name, one in texts.items()]
    registry = jsonschema_rs.Registry(others)
    return jsonschema_rs.Draft7Validator(texts["bom-1.6.schema.json"], registry=registry, validate_formats=True)


def wrong(schema: jsonschema_rs.Draft7Validator, bill: Any) -> list[str]:
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message[:200]}" for error in schema.iter_errors(bill)]


def installed(tmp_path: Path) -> dict[str, Any]:
    done = CliRunner(env={"CUSTOMHOUSE_HOME": str(tmp_path)}).invoke(root, ["sbom"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_bill_of_what_is_installed_is_as_the_schema_says(
    schema: jsonschema_rs.Draft7Validator, tmp_path: Path
) -> None:
    bill = installed(tmp_path)
    assert wrong(schema, bill) == []
    assert bill["specVersion"] == "1.6"


def test_the_schema_refuses_what_is_not_one(schema: jsonschema_rs.Draft7Validator, tmp_path: Path) -> None:
    bill = installed(tmp_path)
    bill["components"][0]["licenses"] = [{"license": {"id": "Anything goes"}}]
    bill["components"][1]["hashes"] = [{"alg": "SHA-256", "content": "no digest"}]
    assert len(wrong(schema, bill)) >= 2


def test_every_pinned_package_of_this_machine_is_in_it_with_version_and_licence(tmp_path: Path) -> None:
    bill = installed(tmp_path)
    by_name = {one["name"]: one for one in bill["components"]}
    pinned = set(lock.names(ROOT / "config/requirements.txt")) - {"onnxruntime"}  # of other processors
    assert pinned - set(by_name) == set()
    assert by_name["msgspec"]["purl"] == f"pkg:pypi/msgspec@{by_name['msgspec']['version']}"
    assert by_name["click"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    digests = [one["value"] for one in by_name["msgspec"]["properties"]]
    assert all(len(digest) == 64 for digest in digests)
    assert by_name["llama.cpp"]["licenses"] == [{"expression": "MIT"}]
    for one in bill["components"]:  # an expression, or words with the licence's text
        licence = one["licenses"][0]
        assert "expression" in licence or licence["license"]["name"] != "as its text says" or licence["license"]["text"]


def test_a_bundle_names_each_wheel_and_model_by_its_digest(
    schema: jsonschema_rs.Draft7Validator, tmp_path: Path
) -> None:
    made = Maker(tmp_path / "maker").make(tmp_path / "x.tar")
    with tarfile.open(made.path) as archive:
        content = archive.extractfile("sbom.cdx.json")
        assert content is not None
        bill = json.loads(content.read())
    assert wrong(schema, bill) == []
    by_name = {one["name"]: one for one in bill["components"]}
    digests = {member.path: member.sha256 for member in made.manifest.members}
    assert by_name["thing"]["hashes"] == [
        {"alg": "SHA-256", "content": digests["wheels/thing-1.0-py3-none-any.whl"]},
    ]
    toy = by_name["toy"]
    assert toy["type"] == "machine-learning-model"
    assert toy["licenses"] == [{"expression": "MIT"}]
    assert toy["components"][0]["hashes"][0]["content"] == digests["weights/toy/toy.onnx"]


def test_every_model_that_is_shipped_makes_a_component(schema: jsonschema_rs.Draft7Validator) -> None:
    components: list[dict[str, Any]] = []
    for one in manifest.read_all(ROOT / "models").values():
        states = [FileState(file.name, Standing.INSTALLED, "", 1, "0" * 64) for file in one.files]
        components.append(sbom.of_model(one, states))
    assert len(components) > 10
    bill = sbom.document(components, made_at="2026-11-21T12:00:00.000Z", phase="build")
    assert wrong(schema, bill) == []


def test_it_goes_into_a_file_and_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    runner = CliRunner(env={"CUSTOMHOUSE_HOME": str(tmp_path)})
    target = tmp_path / "bill.json"
    done = runner.invoke(root, ["sbom", "-o", str(target), "--json"])
    assert json.loads(done.stdout)["components"] == len(json.loads(target.read_text())["components"])
    done = runner.invoke(root, ["sbom", "-o", str(tmp_path / "nowhere/bill.json")])
    assert done.exit_code == 1
    assert "cannot be written" in str(done.exception)
