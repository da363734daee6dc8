"""Bundles: made whole or not at all, and whatever was done to one is refused, by Python and by bash alike."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from appliance.__main__ import root
from appliance.bundle import contents, signature, source, verify, wheels
from appliance.errors import BundleError
from tests import bundles
from tests.bundles import ROOT, Entries, Maker, forged, named, spoiled

HARNESS = """
set -euo pipefail
state=$1 device=auto dry_run=no
die() { printf 'install.sh: %s\\n' "$*" >&2; exit 1; }
say() { printf '%s\\n' "$*"; }
step() { printf '== %s\\n' "$*"; }
source systemd/install/bundle.sh
bundle_signers=${3-}
use_bundle "$2"
printf '%s\\n' "$bundle_source" "$bundle_wheels" "$bundle_weights" "$bundle_version" "${bundle_pythons[*]}" "$device"
printf '%s\\n' "${PIP_NO_INDEX-}" "${PIP_FIND_LINKS-}" "${PIP_INDEX_URL-unset}"
"""


@pytest.fixture(scope="session")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def alice(maker: Maker) -> Path:
    return bundles.key(maker.folder, "alice")


@pytest.fixture(scope="session")
def charlie(maker: Maker) -> Path:
    return bundles.key(maker.folder, "charlie")


@pytest.fixture(scope="session")
def plain(maker: Maker) -> Path:
    """A bundle that nobody signed."""
    maker.make(maker.folder / "plain.tar")
    return maker.folder / "plain.tar"


@pytest.fixture(scope="session")
def signed(maker: Maker, alice: Path) -> Path:
    maker.make(maker.folder / "signed.tar", key=alice)
    return maker.folder / "signed.tar"


def take(bundle: Path, state: Path, signers: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """bundle.sh, as install.sh sources it."""
    return bash(HARNESS, state, str(state), str(bundle), *([str(signers)] if signers else []))


def bash(script: str, state: Path, *arguments: str, inside: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """Where python3 is ours, and pip is told of an index."""
    programs = state.parent / "programs"
    programs.mkdir(exist_ok=True)
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return subprocess.run(
        [*inside, "bash", "-c", script, "bash", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PIP_INDEX_URL": "a://place"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def refused(bundle: Path, tmp_path: Path, why: str, *, signers: Path | None = None) -> None:
    """By both, in words, with nothing left behind."""
    with pytest.raises(BundleError) as refusal:
        verify.verify(bundle, signers)
    assert why in refusal.value.message
    done = take(bundle, tmp_path / "state", signers)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("install.sh: "), done.stderr
    assert list((tmp_path / "state").glob("*")) == []


# --- whole ------------------------------------------------------------------------------------------------------------


def test_a_bundle_is_read_again_as_it_was_made(plain: Path) -> None:
    report = verify.verify(plain)
    assert report.misfits == []
    assert (report.key, report.signed_by) == ("", "")
    assert [model.name for model in report.manifest.models] == ["toy"]
    assert report.manifest.cpu_flags == ["pni"]
    paths = [member.path for member in report.manifest.members]
    assert {"install.sh", "systemd/install/bundle.sh", "weights/toy/toy.onnx", "models/toy/LICENSE"} < set(paths)


def test_what_is_read_first_stands_first(signed: Path) -> None:
    with tarfile.open(signed, "r:") as archive:
        names = archive.getnames()
    assert names[:5] == [
        "manifest.json",
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "install.sh",
        "systemd/install/bundle.sh",
    ]
    assert names.index("source.tar.gz") < names.index("wheels/thing-1.0-py3-none-any.whl")
    assert names[-1] == "models/toy/LICENSE"


def test_bash_unpacks_it_and_asks_pip_for_nothing_else(plain: Path, tmp_path: Path) -> None:
    done = take(plain, tmp_path / "state")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "state/bundle"
    said = done.stdout.splitlines()[-9:]
    assert said[:3] == [str(folder / name) for name in ("source", "wheels", "weights")]
    assert said[4:] == [bundles.PYTHON, "cpu", "1", str(folder / "wheels"), "unset"]
    assert (folder / "source/pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()
    assert (folder / "source/models/toy/LICENSE").is_file(), "an operator's own model is known where it is installed"
    assert (folder / "weights/toy/toy.onnx").read_bytes() == bundles.WEIGHTS
    assert "not signed" in done.stdout


def test_who_signed_is_said_and_can_be_demanded(signed: Path, alice: Path, tmp_path: Path) -> None:
    signers = alice.with_suffix(".signers")
    report = verify.verify(signed, signers)
    assert report.signed_by == "alice@example.test"
    assert report.key.startswith("SHA256:")
    assert verify.verify(signed).signed_by == ""
    assert "signed by alice@example.test" in take(signed, tmp_path / "state", signers).stdout
    assert report.key in take(signed, tmp_path / "state").stdout


def test_unpacked_again_it_is_as_the_first_time(plain: Path, tmp_path: Path) -> None:
    assert take(plain, tmp_path / "state").returncode == 0
    (tmp_path / "state/bundle/weights/toy/toy.onnx").write_bytes(b"spoiled")
    (tmp_path / "state/bundle.half").mkdir()
    (tmp_path / "state/bundle.half/left").touch()
    assert take(plain, tmp_path / "state").returncode == 0
    assert (tmp_path / "state/bundle/weights/toy/toy.onnx").read_bytes() == bundles.WEIGHTS
    assert not (tmp_path / "state/bundle.half").exists()


def test_a_bundle_that_is_refused_leaves_the_one_before_in_its_place(plain: Path, tmp_path: Path) -> None:
    assert take(plain, tmp_path / "state").returncode == 0
    torn = tmp_path / "torn.tar"
    torn.write_bytes(plain.read_bytes()[:-20_000])
    assert take(torn, tmp_path / "state").returncode == 1
    assert (tmp_path / "state/bundle/weights/toy/toy.onnx").read_bytes() == bundles.WEIGHTS


# --- spoiled by chance ------------------------------------------------------------------------------------------------


def test_a_damaged_byte_is_found_wherever_it_is(plain: Path, tmp_path: Path) -> None:
    whole = plain.read_bytes()
    with tarfile.open(plain, "r:") as archive:
        entries = [entry for entry in archive if entry.size > 20]
    for entry in entries:
        at = entry.offset_data + entry.size // 2
        damaged = tmp_path / "damaged.tar"
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BundleError):
            verify.verify(damaged)
        assert take(damaged, tmp_path / "state").returncode == 1, entry.name
        assert list((tmp_path / "state").iterdir()) == [], entry.name


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.97])
def test_a_truncated_bundle_is_refused(plain: Path, tmp_path: Path, part: float) -> None:
    whole = plain.read_bytes()
    torn = tmp_path / "torn.tar"
    torn.write_bytes(whole[: int(len(whole.rstrip(b"\0")) * part)])
    refused(torn, tmp_path, "torn.tar")


@pytest.mark.parametrize("data", [b"", b"\0" * 10240, b"what is this?\n" * 2000])
def test_what_is_no_bundle_is_refused(tmp_path: Path, data: bytes) -> None:
    other = tmp_path / "other.tar"
    other.write_bytes(data)
    refused(other, tmp_path, "is no bundle")


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file"):
        verify.verify(tmp_path / "nowhere.tar")
    assert "there is no such file" in take(tmp_path / "nowhere.tar", tmp_path / "state").stderr


# --- spoiled by somebody ----------------------------------------------------------------------------------------------


def test_members_that_changed_places_are_refused(plain: Path, tmp_path: Path) -> None:
    def swap(entries: Entries) -> Entries:
        a, b = named(entries, "/thing-1.0-py3-none-any.whl"), named(entries, "toy.onnx")
        (one, first), (two, second) = entries[a], entries[b]
        entries[a], entries[b] = (one, second), (two, first)
        return entries

    refused(spoiled(plain, tmp_path / "swapped.tar", swap), tmp_path, "swapped.tar")


def test_a_member_too_many_or_too_few_or_twice_is_refused(plain: Path, tmp_path: Path) -> None:
    extra = (tarfile.TarInfo("wheels/evil-1.0-py3-none-any.whl"), b"evil")
    changes: list[tuple[Callable[[Entries], Entries], str]] = [
        (lambda entries: [*entries, extra], "does not name"),
        (lambda entries: entries[:-1], "has no models/toy/LICENSE"),
        (lambda entries: [*entries, entries[-1]], "twice"),
        (lambda entries: [*entries, entries[0]], "twice"),
    ]
    for change, why in changes:
        refused(spoiled(plain, tmp_path / "other.tar", change), tmp_path, why)


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "wheels/../../evil", "./evil", "a b", "-x", ".hidden", "wheels//x"]
)
def test_nothing_lands_outside_even_when_all_digests_are_right(plain: Path, tmp_path: Path, name: str) -> None:
    evil = (tarfile.TarInfo(name), b"evil")
    refused(forged(plain, tmp_path / "evil.tar", lambda entries: [*entries, evil]), tmp_path, "evil")
    assert not (tmp_path / "evil").exists()
    refused(spoiled(plain, tmp_path / "late.tar", lambda entries: [*entries, evil]), tmp_path, "a member")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_plain_files_are_members(plain: Path, tmp_path: Path, kind: bytes) -> None:
    other = tarfile.TarInfo("weights/toy/toy.onnx")
    other.type, other.linkname = kind, "/etc/passwd"

    def change(entries: Entries) -> Entries:
        entries[named(entries, "toy.onnx")] = (other, b"")
        return entries

    refused(spoiled(plain, tmp_path / "other.tar", change), tmp_path, "no plain file")


def test_a_source_that_points_outside_is_refused_by_bash(plain: Path, maker: Maker, tmp_path: Path) -> None:
    packed = tmp_path / "evil.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(ROOT / "pyproject.toml", "pyproject.toml")
        link = tarfile.TarInfo("appliance")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)

    def change(entries: Entries) -> Entries:
        at = named(entries, "source.tar.gz")
        entries[at] = (entries[at][0], packed.read_bytes())
        return entries

    done = take(forged(plain, tmp_path / "evil.tar", change), tmp_path / "state")
    assert done.returncode == 1
    assert "no plain file inside it" in done.stderr
    assert list((tmp_path / "state").iterdir()) == []


# --- signatures -------------------------------------------------------------------------------------------------------


def test_unsigned_or_signed_by_somebody_else_is_refused_where_a_signer_is_demanded(
    plain: Path, maker: Maker, alice: Path, charlie: Path, tmp_path: Path
) -> None:
    signers = alice.with_suffix(".signers")
    refused(plain, tmp_path, "is not signed", signers=signers)
    by_charlie = tmp_path / "charlie.tar"
    maker.make(by_charlie, key=charlie)
    refused(by_charlie, tmp_path, "signed by nobody", signers=signers)


def test_a_signature_is_of_this_bundle_only(signed: Path, maker: Maker, alice: Path, tmp_path: Path) -> None:
    """The digests are right again, and the signature is Alice's: of another bundle."""
    other = forged(signed, tmp_path / "other.tar", lambda entries: entries, made_at="2031-01-01T00:00:00.000Z")
    refused(other, tmp_path, "signature")
    refused(other, tmp_path, "signature", signers=alice.with_suffix(".signers"))


def test_a_signature_for_another_purpose_is_not_one(signed: Path, alice: Path, tmp_path: Path) -> None:
    sums = verify.head(signed).signed
    (tmp_path / "sums").write_bytes(sums)
    command = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(alice), "-n", "git", str(tmp_path / "sums")]
    subprocess.run(command, check=True, capture_output=True)

    def change(entries: Entries) -> Entries:
        at = named(entries, contents.SIGNATURE)
        entries[at] = (entries[at][0], (tmp_path / "sums.sig").read_bytes())
        return entries

    refused(spoiled(signed, tmp_path / "other.tar", change), tmp_path, "signature")


def test_a_key_that_is_not_there_makes_no_bundle(maker: Maker, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such key"):
        maker.make(tmp_path / "out/x.tar", key=tmp_path / "nokey")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "nokey").write_text("no key at all\n")
    with pytest.raises(BundleError, match="could not sign"):
        signature.sign(b"sums", tmp_path / "nokey")


# --- another machine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"platform": "linux_s390x"}, "s390x"),
        ({"pythons": ["3.8"]}, "Python 3.8"),
        ({"glibc": "2.99"}, "glibc 2.99"),
        ({"cpu_flags": ["pni", "avx9000"]}, "avx9000"),
    ],
)
def test_a_bundle_for_another_machine_says_what_is_amiss(
    plain: Path, tmp_path: Path, said: dict[str, Any], why: str
) -> None:
    other = forged(plain, tmp_path / "other.tar", lambda entries: entries, **said)
    assert why in " ".join(verify.verify(other).misfits)
    done = take(other, tmp_path / "state")
    assert done.returncode == 1
    assert why in done.stderr
    assert list((tmp_path / "state").iterdir()) == []


def test_a_later_format_is_left_to_its_own_installer(plain: Path, tmp_path: Path) -> None:
    other = forged(plain, tmp_path / "other.tar", lambda entries: entries, format=2)
    refused(other, tmp_path, "use the install.sh inside it")


def test_a_bundle_without_cuda_is_for_the_cpu(plain: Path, tmp_path: Path) -> None:
    script = HARNESS.replace("device=auto", "device=cuda")
    done = bash(script, tmp_path / "state", str(tmp_path / "state"), str(plain))
    assert done.returncode == 1
    assert "without the CUDA libraries" in done.stderr
    assert list((tmp_path / "state").iterdir()) == []


# --- a full disk ------------------------------------------------------------------------------------------------------


def on_a_full_disk(folder: Path, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs bash with a disk of 200 KB mounted on `folder`. Skips, loudly, where namespaces cannot be had."""
    folder.mkdir()
    script = f"mount -t tmpfs -o size=200k none {folder} || exit 77; {script}"
    for flags in ("-rm", "-m"):  # as anybody, or as root where users have no namespaces of their own
        done = bash(script, folder, *arguments, inside=["unshare", flags])
        if done.returncode != 77 and "unshare failed" not in done.stderr:
            return done
    pytest.skip(f"NOT TESTED: a full disk, because there are no namespaces here ({done.stderr.strip()})")


def test_a_full_disk_is_said_before_anything_is_unpacked(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    script = f"( {HARNESS} ); code=$?; ls -A {folder} | sed 's/^/left: /'; exit $code"
    done = on_a_full_disk(folder, script, str(folder), str(plain))
    assert done.returncode == 1, done.stdout
    assert "disk is full" in done.stderr
    assert "left: " not in done.stdout


MAKE = """
import sys
from pathlib import Path
from appliance.errors import BundleError
from tests.bundles import Maker
maker = Maker(Path(sys.argv[1]))
try:
    maker.make(Path(sys.argv[2]))
except BundleError as error:
    print(error.message)
"""


def test_a_full_disk_makes_no_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    script = f"{sys.executable} -c \"$1\" {tmp_path / 'm'} {folder / 'x.tar'}; ls -A {folder} | sed 's/^/left: /'"
    done = on_a_full_disk(folder, script, MAKE)
    assert "the disk is full" in done.stdout, done.stdout + done.stderr
    assert "left: " not in done.stdout


# --- making -----------------------------------------------------------------------------------------------------------


def test_what_is_missing_or_spoiled_makes_no_bundle(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "maker")
    target = tmp_path / "out/x.tar"

    def refuses(why: str, **changed: Any) -> None:
        with pytest.raises(BundleError, match=why):
            maker.make(target, **changed)
        assert list(target.parent.iterdir()) == []

    refuses("wheel of llama-cpp-python 9.9.9", llama=maker.index / "thing-1.0-py3-none-any.whl")
    broken = bundles.wheel(
        tmp_path / "l", "llama_cpp_python", bundles.LLAMA, {"llama_cpp/__init__.py": "raise OSError"}
    )
    refuses("does not load on this machine", llama=broken)
    (maker.index / "thing-1.0-py3-none-any.whl").write_bytes(b"another")
    refuses("wheels for Python")
    (maker.settings.weights_dir / "toy/toy.onnx").write_bytes(b"torn")
    refuses("toy.onnx is differs; run: customhouse models fetch toy")
    (maker.root / "pyproject.toml").unlink()
    shutil.copytree(bundles.ROOT / "systemd", maker.root / "systemd", dirs_exist_ok=True)
    with pytest.raises(BundleError, match="is not the source of Customhouse"):
        source.files(maker.root)


def test_what_pip_says_passes_without_addresses(maker: Maker, tmp_path: Path) -> None:
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\necho 'ERROR: no route to https://someone:secret@index.example/simple'\nexit 1\n")
    pip.chmod(0o755)
    (tmp_path / "w").mkdir()
    with pytest.raises(BundleError) as refusal:
        wheels.download(maker.root, tmp_path / "w", ["3.12"], cuda=False, pip=[str(pip)])
    assert "no route to (address)" in refusal.value.message
    assert "secret" not in refusal.value.message


def test_an_installed_package_becomes_its_wheel_again(tmp_path: Path) -> None:
    """h11 stands for llama-cpp-python: pure, and small."""
    import importlib.metadata

    again = wheels.repack(importlib.metadata.distribution("h11"), tmp_path)
    assert again.name.startswith("h11-")
    assert again.name.endswith("-none-any.whl")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "t")]
    subprocess.run([*command, str(again)], check=True, capture_output=True)
    assert (tmp_path / "t/h11/_connection.py").is_file()


@pytest.mark.parametrize(
    ("name", "need"),
    [
        ("a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl", "2.17"),
        ("b-1-cp311-abi3-manylinux_2_28_x86_64.whl", "2.28"),
        ("c-1-py3-none-any.whl", "2.5"),
    ],
)
def test_the_oldest_glibc_is_told_by_the_names(name: str, need: str) -> None:
    assert wheels.glibc([Path(name)]) == need


def test_the_tree_without_git_is_what_git_tracks(tmp_path: Path) -> None:
    """An installed version has no .git: the same files go in, but for those whose names begin with a dot."""
    if not (ROOT / ".git").exists():
        pytest.skip("NOT TESTED here: this is no checkout, so there is nothing to compare with")
    tracked = source.files(ROOT)
    for path in tracked:
        target = tmp_path / "copy" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(ROOT / path) if path.endswith(".jpg") else shutil.copy(ROOT / path, target)
    (tmp_path / "copy/.customhouse/weights").mkdir(parents=True)
    (tmp_path / "copy/.customhouse/weights/x").touch()
    (tmp_path / "copy/appliance/__pycache__").mkdir()
    (tmp_path / "copy/appliance/__pycache__/x.pyc").touch()
    (tmp_path / "copy/customhouse-0.1.0-linux_x86_64-cpu.tar").touch()
    walked = source.files(tmp_path / "copy")
    expected = [
        path for path in tracked if not path.endswith(".jpg") and not any(p.startswith(".") for p in path.split("/"))
    ]
    assert walked == expected
    assert source.commit(tmp_path / "copy") == ""


# --- the commands -----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(root, list(arguments))


def test_verify_and_show_answer_as_json(signed: Path, alice: Path) -> None:
    done = run("bundle", "verify", str(signed), "--signers", str(alice.with_suffix(".signers")), "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["ok"]
    assert said["signed_by"] == "alice@example.test"
    shown = json.loads(run("bundle", "show", str(signed), "--json").stdout)
    assert shown["signed"]
    assert {member["path"] for member in shown["members"]} > {"install.sh", "sbom.cdx.json"}
    count = len(shown["members"])
    assert f"all {count} members are as the manifest says" in run("bundle", "verify", str(signed)).stdout
    assert "nothing of this was verified" in run("bundle", "show", str(signed)).stderr


def test_a_refusal_is_one_sentence(tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    other.write_bytes(b"no bundle")
    done = run("bundle", "verify", str(other))
    assert done.exit_code == 1
    assert isinstance(done.exception, BundleError)


def test_a_python_that_it_does_not_run_on_is_refused() -> None:
    done = run("bundle", "create", "--python", "3.8")
    assert done.exit_code == 2
    assert "3.11, 3.12, 3.13" in done.output


def test_the_manifest_is_written_as_bash_reads_it(plain: Path) -> None:
    lines = contents.write(verify.head(plain).manifest).decode().splitlines()
    fields = [field.name for field in msgspec.structs.fields(contents.Manifest)]
    assert [line.split('"')[1] for line in lines if line.startswith(' "')] == fields
