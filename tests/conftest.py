"""The cast and the stage that all tests share. Add to it; what is here is relied upon.

Alice owns an organisation, Bob shares it, Charlie is of another one and must see nothing. Every test has a state
directory of its own, real files and a real database. No socket leaves this machine.
"""

import ipaddress
import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from litestar.testing import TestClient

from appliance import database
from appliance.house import House
from appliance.settings import Log, Settings
from tests.cast import UNHURRIED, Person, enrol

if TYPE_CHECKING:
    from tests.surfaces import WithModels


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket to anywhere else raises, and names do not resolve: as on a machine without any route."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_outside(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_outside(self, address)
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is None or host in ("localhost", b"localhost", "") or _is_address(host):
            return look_up(host, *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


def _refuse_outside(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
        raise AssertionError(f"a test tried to reach {address[0]}")


def _is_address(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address((host.decode() if isinstance(host, bytes) else host).partition("%")[0])
    except ValueError:
        return False
    return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test sets up of logging ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, made once and copied: migrating costs each test 100 ms of fsync otherwise."""
    path = tmp_path_factory.mktemp("migrated") / "customhouse.db"
    database.migrate(path)
    conn = database.connect(path)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    conn.close()
    return path


@pytest.fixture(scope="session")
def models_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator["WithModels"]:
    """A running server with the starter weights, for the surfaces' own clients; loopback is no private network to it.
    Everybody enrols an organisation of their own."""
    from tests.surfaces import WithModels

    served = WithModels(tmp_path_factory.mktemp("models"), CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS="127.0.0.0/8")
    yield served
    served.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, in a state directory of this test's own, but asked more often than 60 times a minute. Vary with
    `msgspec.structs.replace`."""
    return Settings(home=tmp_path / "home", log=Log(level="warning"), limits=UNHURRIED)


@pytest.fixture
def house(settings: Settings, _migrated: Path) -> Iterator[House]:
    settings.home.mkdir(mode=0o750)
    shutil.copyfile(_migrated, settings.database)
    house = House(settings)
    yield house
    house.close()


@pytest.fixture
def alice(house: House) -> Person:
    return enrol(house, "A", "alice")


@pytest.fixture
def bob(house: House) -> Person:
    return enrol(house, "A", "bob")


@pytest.fixture
def charlie(house: House) -> Person:
    return enrol(house, "C", "charlie")


@pytest.fixture
def client(house: House) -> Iterator[TestClient[Any]]:
    """The application over `house`, in this process."""
    from appliance.api.app import create_app

    with TestClient(create_app(house), raise_server_exceptions=True) as client:
        yield client


@pytest.fixture
def client_with(tmp_path: Path) -> Iterator[Callable[[Settings], tuple[TestClient[Any], House]]]:
    """The application with other settings: `client, house = client_with(replace(settings, …))`."""
    from appliance.api.app import create_app

    opened: list[TestClient[Any]] = []

    def make(settings: Settings) -> tuple[TestClient[Any], House]:
        house = House(settings)
        client = TestClient(create_app(house), raise_server_exceptions=True)
        client.__enter__()
        opened.append(client)
        return client, house

    yield make
    for client in opened:
        client.__exit__(None, None, None)
