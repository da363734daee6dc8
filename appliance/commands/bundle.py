"""`customhouse bundle` and `customhouse sbom`: everything in one file for a machine that reaches nothing."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance import access, audit, clock, settings
from appliance.bundle import contents, create, sbom, source, verify
from appliance.errors import BundleError
from appliance.house import House
from appliance.inference import manifest, weights
from appliance.inference.manifest import Manifest
from appliance.models import stock
from appliance.settings import Settings

JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
PYTHONS = ("3.11", "3.12", "3.13")


@click.group()
def bundle() -> None:
    """Bundles: everything in one file, for machines without a network. Create, verify, show."""


# --- making -----------------------------------------------------------------------------------------------------------


@bundle.command("create")
@click.option("--models", "named", metavar="NAME,…", help="Whose weights go in; else every model that is installed.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", help="With the CUDA libraries or without.")
@click.option(
    "--python",
    "pythons",
    metavar="VERSION,…",
    help=f"Wheels for these, of {', '.join(PYTHONS)}; else for the one that this runs on.",
)
@click.option("--sign", "key", type=click.Path(path_type=Path), help="Sign with this SSH key, or its public half.")
@click.option(
    "--wheels",
    "lent",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the wheels from this folder, and reach no index.",
)
@click.option(
    "--llama",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The wheel of llama-cpp-python; else the one that is installed here.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file; else named by version."
)
@JSON
def create_(
    named: str | None,
    device: str,
    pythons: str | None,
    key: Path | None,
    lent: Path | None,
    llama: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Put this version, its wheels and the weights of models into one file.

    On the other machine: `tar -xf FILE install.sh systemd`, then `./install.sh --bundle FILE try`, or, as services,
    `sudo ./install.sh --bundle FILE`. Nothing is reached there.

    llama.cpp is compiled for the very processor it was built on, and the bundle says which features that one has: the
    installer refuses a machine that lacks one. A wheel for any processor with AVX2 (since about 2013) is built by
    `CMAKE_ARGS="-DGGML_NATIVE=OFF" pip wheel --no-deps llama-cpp-python==VERSION`, and taken by --llama.

    A key to sign with is made by `ssh-keygen -t ed25519`; who installs needs its public half in a file of signers: a
    line `NAME namespaces="customhouse-bundle" ssh-ed25519 AAAA…`.
    """
    loaded = settings.load()
    access.check(loaded)
    versions = _pythons(pythons)
    wanted = create.Wanted(
        models=_chosen(loaded, named),
        pythons=versions,
        device=device,
        key=key,
        wheels=lent,
        llama=llama,
    )
    made = create.create(loaded, wanted, output or Path(create.file_name(device)), _say(as_json))
    _note(loaded, made)
    if as_json:
        click.echo(json.dumps(_told(made), indent=2))
        return
    click.echo(f"{made.path}: {_mb(made.size_bytes)}, sha256 {made.sha256}")
    _describe(made.manifest)
    click.echo("signed" if made.signed else "not signed: --sign KEYFILE shows who made it")


def _chosen(loaded: Settings, named: str | None) -> list[Manifest]:
    """Every one with files of its own that is installed, or those that were named."""
    if named:
        return [one for one in stock.named(loaded, [name.strip() for name in named.split(",")]) if one.files]
    known = manifest.read_all(loaded.models_dir).values()
    found = [one for one in known if one.files and weights.installed(loaded, one)]
    if not found:
        raise BundleError(
            "no weights are installed here, and without any nothing is screened: customhouse models fetch"
        )
    return found


def _pythons(said: str | None) -> list[str]:
    if said is None:
        return [".".join(map(str, sys.version_info[:2]))]
    found = [each.strip() for each in said.split(",")]
    for each in found:
        if each not in PYTHONS:
            raise click.UsageError(f"--python {each}: this version runs on {', '.join(PYTHONS)}.")
    return sorted(set(found))


def _note(loaded: Settings, made: create.Made) -> None:
    """In the audit log, where there is one."""
    if not loaded.database.exists():
        return
    house = House(loaded)
    models = [one.name for one in made.manifest.models]
    try:
        house.db.write(
            lambda conn: audit.record(
                conn,
                audit.operator(),
                "bundle.created",
                made.path,
                sha256=made.sha256,
                models=models,
                signed=made.signed,
            )
        )
    finally:
        house.close()


def _say(as_json: bool) -> create.Said:
    return lambda what: None if as_json else click.echo(f"bundle: {what}", err=True)


def _told(made: create.Made) -> dict[str, Any]:
    return {
        "path": made.path,
        "size_bytes": made.size_bytes,
        "sha256": made.sha256,
        "signed": made.signed,
        **_summary(made.manifest),
    }


# --- looking ----------------------------------------------------------------------------------------------------------


@bundle.command("verify")
@FILE
@click.option(
    "--signers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Demand a signature by one of this file (ssh-keygen's allowed_signers).",
)
@JSON
def verify_(file: Path, signers: Path | None, as_json: bool) -> None:
    """Read every byte of the bundle FILE and compare it with what the bundle says of itself. Exit code 1 if it differs.

    Without --signers this shows that it is undamaged, and by which key it was signed, but not whose key that is.
    """
    report = verify.verify(file, signers)
    if as_json:
        said = {"path": report.path, "ok": True, "signed_by": report.signed_by, "key": report.key}
        click.echo(json.dumps({**said, "misfits": report.misfits, **_summary(report.manifest)}, indent=2))
        return
    _describe(report.manifest)
    click.echo(f"{file}: all {len(report.manifest.members)} members are as the manifest says")
    if report.signed_by:
        click.echo(f"signed by {report.signed_by} ({report.key})")
    elif report.key:
        click.echo(f"signed by the key {report.key}, which was compared with no list (--signers)")
    else:
        click.echo("not signed: its digests do not show who made it")
    for misfit in report.misfits:
        click.echo(f"not for this machine: {misfit}", err=True)


@bundle.command()
@FILE
@JSON
def show(file: Path, as_json: bool) -> None:
    """Say what the bundle FILE says of itself, without reading all of it: nothing is verified."""
    first = verify.head(file)
    if as_json:
        members = [msgspec.to_builtins(each) for each in first.manifest.members]
        said = {"path": str(file), "signed": first.signature is not None, **_summary(first.manifest)}
        click.echo(json.dumps({**said, "members": members}, indent=2))
        return
    _describe(first.manifest)
    for member in sorted(first.manifest.members, key=lambda each: -each.size_bytes)[:10]:
        click.echo(f"  {_mb(member.size_bytes):>12}  {member.path}")
    if (rest := len(first.manifest.members) - 10) > 0:
        click.echo(f"  and {rest} smaller ones (--json lists all)")
    click.echo("signed" if first.signature else "not signed")
    click.echo(f"nothing of this was verified: customhouse bundle verify {file}", err=True)


def _summary(one: contents.Manifest) -> dict[str, Any]:
    """The manifest without its members."""
    said: dict[str, Any] = msgspec.to_builtins(one)
    return {**{name: value for name, value in said.items() if name != "members"}, "bytes_inside": one.size_bytes}


def _describe(one: contents.Manifest) -> None:
    click.echo(f"Customhouse {one.version} for {one.platform}, {one.device}, Python {', '.join(one.pythons)}")
    click.echo(f"made at {one.made_at}{f' of commit {one.commit}' if one.commit else ''}; glibc {one.glibc} or later")
    click.echo(f"llama.cpp needs: {' '.join(one.cpu_flags) or 'any processor'}")
    for model in one.models:
        click.echo(f"  {model.name}: {_mb(model.size_bytes)}, licence {model.licence}")


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


# --- the bill of materials --------------------------------------------------------------------------------------------


@click.command("sbom")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Into this file.")
@JSON
def sbom_(output: Path | None, as_json: bool) -> None:
    """Write the bill of materials of what is installed here: CycloneDX 1.6, as JSON.

    Python packages, models with their weights, and llama.cpp, each with version, licence and digests. A bundle has one
    of its own (sbom.cdx.json), in which each package has the digest of its very wheel.
    """
    loaded = settings.load()
    components = sbom.installed(source.ROOT / "config")
    for one in manifest.read_all(loaded.models_dir).values():
        if one.files and weights.installed(loaded, one):
            components.append(sbom.of_model(one, weights.states(loaded, one)))
    bill = sbom.document(components, made_at=clock.rfc3339(clock.now_ms()), phase="operations")
    if output is None:
        click.echo(sbom.write(bill).decode(), nl=False)
        return
    try:
        output.write_bytes(sbom.write(bill))
    except OSError as error:
        raise BundleError(f"{output}: cannot be written ({error.strerror}); name another by -o") from error
    if as_json:
        click.echo(json.dumps({"path": str(output), "components": len(components)}, indent=2))
    else:
        click.echo(f"{output}: {len(components)} components")
