"""One frozen Settings: the TOML file first, then the environment. The only file that reads either.

`CUSTOMHOUSE_CONFIG` names the file (else `<home>/customhouse.toml` when it is there); `CUSTOMHOUSE_HOME` the state
directory. Every other setting is `CUSTOMHOUSE_<SECTION>_<KEY>`, e.g. `CUSTOMHOUSE_SERVER_PORT=9000`; a list is written
with commas. config/customhouse.toml shows every one with its default and reason; a test holds the two equal.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_origin
from urllib.parse import urlsplit

import msgspec

from appliance.errors import Misconfigured

FOR_EVER_DAYS = 36_500
"""The longest that anything is kept: a hundred years."""

_LONGEST_SOCKET = 107  # bytes: so much room has Linux for a socket's path

SHIPPED = Path(__file__).resolve().parent.parent


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    """Address to listen on. Only this machine by default; 0.0.0.0 behind a firewall or a proxy."""
    port: int = 8000
    workers: int = 1
    """API processes. One commits what all its callers submit together; more help only past thousands a second."""
    max_body_mb: int = 320
    """The largest request body read at all; must be a little over the largest upload."""
    max_pending_jobs: int = 100_000
    """Jobs waiting before a submission is answered 503 with Retry-After."""
    max_queue_age_s: float = 3_600.0
    """How long the oldest job of a kind may have waited before more of its kind is answered 503; 0 = however long."""
    max_requests_at_once: int = 128
    """Whole requests that each API process is at before one more is answered 503 with Retry-After."""
    min_free_disk_mb: int = 256
    """Below this much free space nothing new is accepted (503), so that what was accepted can still be finished."""
    max_connections: int = 10_000
    """Open connections of each API process; further ones wait to be taken. Each costs a file descriptor, and 2 KB."""
    header_timeout_s: float = 15.0
    """A connection may be silent for so long before its next request's headers are complete, then it is closed."""
    body_timeout_s: float = 20.0
    """A body may pause for so long; over all it may be so much late at 4 KB a second, then it is refused."""
    unread_timeout_s: float = 60.0
    """A streamed answer of which nothing is read for so long is given up."""
    tls_certificate: str = ""
    """A PEM file with the certificate and what it was signed with; empty = the systemd credential `tls-certificate`
    when there is one, else no TLS: put a proxy in front. Read at the start: restart the API after it was renewed."""
    tls_key: str = ""
    """Its key, a PEM file readable by us only; empty = the systemd credential `tls-key`."""
    admin_on_network: bool = False
    """Answer /api/v1/admin on the port too, to keys with the scope admin:config. Off: at the operators' socket only."""


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threads: int = 16
    """Jobs worked on at once. They mostly wait for the model process, which answers them in batches."""
    lease_s: float = 60.0
    """A job whose worker says nothing for this long is given to another."""
    max_attempts: int = 5
    """Tries of one child job before a passing error becomes final."""
    outage_attempts: int = 40
    """Tries while the model process is down, busy or still loading: that is not the job's fault. About ten minutes."""
    retry_base_s: float = 1.0
    """First wait before a retry; it doubles each time, with jitter."""
    sweep_s: float = 2.0
    """How often lost, due and stale rows are looked for."""
    stuck_s: float = 1800.0
    """A lane none of whose threads ended a step in so long is stuck (the media lane, whose videos are long: four times
    as long), or a sweep that has not ended: the process then stops telling systemd that it lives."""


class Inference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: str = "auto"
    """auto | cpu | cuda. With cuda, a model that runs on the CPU after all is degraded health, said everywhere."""
    threads: int = 0
    """CPU threads of each model; 0 = the machine's cores."""
    models: list[str] = []
    """Models to load; empty = every fetched model that config/categories.toml names."""
    text_judge: str = ""
    """A model of task text-judge whose verdict counts for prompts; empty = none. See README on which are capable."""
    vision_judge: str = ""
    """A model of task vision-judge that answers the categories' questions; empty = the starter classifiers answer."""
    max_batch: int = 32
    batch_wait_ms: float = 2.0
    """How long a batch waits for company when the model is idle. Small: a busy model gathers its next batch anyway."""
    queue_limit: int = 1024
    """Items waiting for one model before the answer is busy (503, passing)."""
    deadline_s: float = 60.0
    """How long a caller waits for an answer."""
    context_tokens: int = 4096
    """Context of each judge, all its sequences together."""
    stuck_s: float = 300.0
    """A model that has had one batch in hand for so long is stuck: systemd is not told any more that we live."""


class Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_image_mb: int = 10
    max_video_mb: int = 300
    max_pixels: int = 100_000_000
    """Width × height an image's header may declare; a 389 KB PNG can declare 400 million and cost 2.3 GB."""
    max_side: int = 1024
    """Pictures are decoded reduced so that the longer side is about this."""
    allowed_private_cidrs: list[str] = []
    """Private networks that media and webhooks may be on, e.g. 10.0.0.0/8 for an on-premises store."""
    fetch_timeout_s: float = 60.0
    """One download, from connecting to the last byte."""
    decoder_memory_mb: int = 512
    decoder_timeout_s: float = 30.0
    """One image, or one video's frames for each minute of its length."""
    decoders: int = 2
    """Decoder processes kept ready."""
    frame_every_s: float = 5.0
    scene_threshold: float = 0.35
    """Change between neighbouring key frames (0 to 1) that counts as a new scene; 1 turns scene frames off."""
    max_frames: int = 120
    animation_frames: int = 8
    """Frames sampled from an animated image."""


class Uploads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    image: bool = True
    video: bool = True
    data_urls: bool = True


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_attempts: int = 12
    """1 = the seeds' behaviour (logged, not retried)."""
    timeout_s: float = 10.0
    sign: bool = True
    include_type: bool = True
    send_failed: bool = False
    """Also deliver jobs that failed (is_prohibited null). Off: a naive receiver would read null as allowed."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    requests_per_minute: int = 60
    """Of one organisation, all its keys together, unless its plan or it itself says otherwise."""
    burst_per_second: int = 0
    """Of those, the most in one second; 0 = no such limit."""
    failed_auth_per_minute: int = 30
    """Wrong keys from one address before it hears 429 instead of 401. A right key is never held back by it."""
    idempotency_hours: int = 24
    """How long the answer to an Idempotency-Key is kept."""


class Billing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stripe_key_file: str = ""
    """A file with the operator's own restricted key, readable by us only; empty = the systemd credential `stripe-key`
    when there is one, else no Stripe: credit is given by hand."""
    stripe_address: str = ""
    """Where Stripe's API is; empty = Stripe's own. For a relay in your network, or a test server."""
    stripe_proxy: str = ""
    """An HTTP proxy on the way there, e.g. http://proxy.example:3128; the environment's are not used."""
    stripe_timeout_s: float = 10.0
    """One request to Stripe; it is sent three times at most."""
    stripe_tax: bool = True
    """Have Stripe Tax add the tax to what is paid. It has to be set up in Stripe's dashboard."""
    public_url: str = "http://127.0.0.1:8000"
    """Where customers reach this service: they come back from Stripe to /billing there."""
    auto_topups_a_day: int = 10
    """Automatic top-ups of one organisation in 24 hours, at most: a runaway client must not empty a card."""
    sync_s: float = 60.0
    """How often Stripe is asked what happened; every 5 s while a payment is awaited."""
    offline_grace_hours: float = 72.0
    """While Stripe cannot be reached, so long after the last good sync a balance at or below zero is not refused:
    money may have come in that we cannot see. 0 = no grace."""
    count_cpu_seconds: bool = False
    """Under gpu_time also count the models' time on the CPU: for a box without a GPU."""


class Jobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    expose_reasons: bool = False
    """Also give a reason for images and videos; the seeds give one for prompts only."""


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days from the close of a job, or from the end of a delivery. 0 = gone within `every_s`; 36500 = for ever."""

    prompts_days: int = 30
    """What was submitted, texts and addresses; an organisation's own retain_prompts_days goes before it."""
    traces_days: int = 90
    """What each check of a job found: scores, models, frames. The verdict stays with the job."""
    deliveries_days: int = 90
    """Webhook deliveries that have ended, with their attempts."""
    jobs_days: int = 400
    """Jobs, with all that is left of them: over the 366 days that an export may span. At least 1: a verdict is read."""
    moderation_events_days: int = 90
    """Events of the synchronous surfaces: scores, hashes, list entries. What a version is previewed over, too."""
    every_s: float = 60.0
    """How often it is looked for what is due."""


class Backups(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    folder: str = ""
    """Where backups are kept; empty = <home>/backups. Better another disk, or a mount of another machine's."""
    every_hours: float = 24.0
    """How old the newest may become before the worker, or the timer, makes another; 0 = only by hand."""
    keep_daily: int = 7
    """The newest of each day is kept for so many days that have one, and all of the last 24 hours; also …"""
    keep_weekly: int = 4
    """… the newest of each week, for so many weeks, and …"""
    keep_monthly: int = 6
    """… of each month. So long an erased text may stand in an old backup; a restore erases it again."""
    recipients: list[str] = []
    """age public keys (age1…) or ssh ones: backups are encrypted for them, and only their identities open one."""
    follow: str = "off"
    """on: what is committed is also copied to follow_folder at once, so that 1 s is lost with the disk, not a day."""
    follow_folder: str = ""
    """Where to: a folder of another disk, or of another machine's. Needed with follow = "on"."""
    follow_hours: float = 24.0
    """How far back any second can be restored from there; a whole copy is made as often."""


class Admin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    group: str = ""
    """The Unix group whose members may change things, by command or in the TUI; empty = whoever may write the
    database. Root and the owner of the state directory always may, and who else can read it may look."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: str = "info"
    format: str = "auto"
    """auto (text on a terminal, else JSON) | text | json"""
    files: str = "auto"
    """on: each process also writes JSON lines to <home>/log. auto: under `customhouse up` only. off: never."""
    file_mb: int = 10
    """A log file that has grown to this is put aside and another begun."""
    file_count: int = 5
    """Files of each process that are kept, the one that is written included."""


class Tracing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    otlp_endpoint: str = ""
    """Where spans of requests go: an OpenTelemetry collector over HTTP, e.g. http://127.0.0.1:4318; empty = where
    OTEL_EXPORTER_OTLP_ENDPOINT says, else nowhere."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    home: Path = Path("/var/lib/customhouse")
    """The state directory: databases, weights, media in work. Tight modes; back it up."""
    models_dir: Path = SHIPPED / "models"
    """Manifests of the models that can be installed."""
    categories_file: Path = SHIPPED / "config" / "categories.toml"
    lexicons_dir: Path = SHIPPED / "config" / "lexicons"
    """Terms that every organisation's prompts are checked for, one TOML file a language; an empty folder for none."""
    policies_dir: Path = SHIPPED / "config" / "policies"
    """Policies that organisations begin with, one TOML file each; community-default.toml must be there."""
    runtime_dir: Path | None = None
    """Sockets, locks and the heartbeat; none = <home>/run. The units say /run/customhouse."""
    server: Server = Server()
    worker: Worker = Worker()
    inference: Inference = Inference()
    media: Media = Media()
    uploads: Uploads = Uploads()
    webhooks: Webhooks = Webhooks()
    limits: Limits = Limits()
    billing: Billing = Billing()
    jobs: Jobs = Jobs()
    retention: Retention = Retention()
    backup: Backups = Backups()
    admin: Admin = Admin()
    log: Log = Log()
    tracing: Tracing = Tracing()

    @property
    def database(self) -> Path:
        return self.home / "customhouse.db"

    @property
    def limits_file(self) -> Path:
        """Who asked how often in the last minute. May be deleted at any time."""
        return self.home / "limits.db"

    @property
    def queue(self) -> Path:
        """Huey's file. May be deleted at any time: sweep refills it."""
        return self.home / "queue.db"

    @property
    def backup_folder(self) -> Path:
        return Path(self.backup.folder) if self.backup.folder else self.home / "backups"

    @property
    def weights_dir(self) -> Path:
        return self.home / "weights"

    @property
    def media_dir(self) -> Path:
        """Uploads and downloads of jobs in work; emptied as jobs close."""
        return self.home / "media"

    @property
    def run_dir(self) -> Path:
        return self.runtime_dir or self.home / "run"

    @property
    def inference_socket(self) -> Path:
        return self.run_dir / "inference.sock"

    @property
    def admin_socket(self) -> Path:
        """Where operators are answered: whoever may open it administers."""
        return self.run_dir / "admin.sock"

    @property
    def doorbell(self) -> Path:
        """A datagram here wakes an idle worker thread at once."""
        return self.run_dir / "work.sock"

    @property
    def log_dir(self) -> Path:
        return self.home / "log"

    def log_file(self, process: str) -> Path | None:
        """Where this process's lines are written besides standard error; None = nowhere."""
        return self.log_dir / f"{process}.log" if self.log.files == "on" else None

    @property
    def pepper_file(self) -> Path:
        """The server's secret under which keys are hashed. Losing it makes every key invalid."""
        return self.home / "pepper"


def load(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file and the environment. Raises Misconfigured with the file, the key and what is wrong."""
    environ = os.environ if environ is None else environ
    path = config or _there(environ)
    return merged({} if path is None else read(path), path, environ)


def without_file(environ: Mapping[str, str] | None = None) -> Settings:
    """As the environment alone says: to mend a file with. Raises Misconfigured."""
    environ = os.environ if environ is None else environ
    return merged({}, None, environ)


def file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file that `load` reads when it is there. None when neither CUSTOMHOUSE_CONFIG nor CUSTOMHOUSE_HOME is set:
    then none is read."""
    environ = os.environ if environ is None else environ
    if "CUSTOMHOUSE_CONFIG" in environ:
        return Path(environ["CUSTOMHOUSE_CONFIG"])
    return Path(environ["CUSTOMHOUSE_HOME"]) / "customhouse.toml" if "CUSTOMHOUSE_HOME" in environ else None


def _there(environ: Mapping[str, str]) -> Path | None:
    """The file to read: one that is named has to be there, the one in the state directory need not."""
    path = file(environ)
    try:
        return path if path is not None and ("CUSTOMHOUSE_CONFIG" in environ or path.exists()) else None
    except PermissionError as error:
        raise Misconfigured(
            f"{error.filename}: you may not enter its folder; ask the owner, or join the Unix group that it belongs to"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """A file as it is. Raises Misconfigured."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise Misconfigured(f"{path}: cannot be read ({why}); check CUSTOMHOUSE_CONFIG") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured(f"{path}: not valid TOML: {error}") from error


def merged(raw: dict[str, Any], path: Path | None, environ: Mapping[str, str]) -> Settings:
    """What the file says, the environment over it. Raises Misconfigured."""
    if "CUSTOMHOUSE_HOME" in environ:
        raw["home"] = environ["CUSTOMHOUSE_HOME"]
    for name, value in environ.items():
        _override(raw, name, value)
    _lend_credential(raw, environ)
    _follow_standard(raw, environ)
    try:
        settings = msgspec.convert(raw, Settings, strict=False, dec_hook=as_path)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"{path or 'environment'}: {error}") from error
    _check(settings)
    return settings


def _follow_standard(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    """The variable that every OpenTelemetry program knows, where we are told nothing of our own."""
    section: object = raw.setdefault("tracing", {})
    if isinstance(section, dict) and not cast("dict[str, Any]", section).get("otlp_endpoint"):
        section["otlp_endpoint"] = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


_TOP = {
    "CUSTOMHOUSE_MODELS_DIR": "models_dir",
    "CUSTOMHOUSE_CATEGORIES_FILE": "categories_file",
    "CUSTOMHOUSE_LEXICONS_DIR": "lexicons_dir",
    "CUSTOMHOUSE_POLICIES_DIR": "policies_dir",
    "CUSTOMHOUSE_RUNTIME_DIR": "runtime_dir",
}


def as_path(kind: type, value: object) -> object:
    """The one type of ours that TOML does not have."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def ignored(environ: Mapping[str, str] | None = None) -> list[str]:
    """The variables that begin as one of a section does, and name no setting: a slip of the pen, as a rule."""
    environ = os.environ if environ is None else environ
    sections = {f.name: f.default for f in msgspec.structs.fields(Settings) if isinstance(f.default, msgspec.Struct)}
    return sorted(
        name
        for name in environ
        for section, default in sections.items()
        if name.startswith(start := f"CUSTOMHOUSE_{section.upper()}_")
        and name.removeprefix(start).lower() not in type(default).__struct_fields__
    )


def _override(raw: dict[str, Any], name: str, value: str) -> None:
    """Put one environment variable where its section and key say; a name that is none of ours is left alone."""
    if name in _TOP:
        raw[_TOP[name]] = value
        return
    for section in msgspec.structs.fields(Settings):
        prefix = f"CUSTOMHOUSE_{section.name.upper()}_"
        if not name.startswith(prefix) or not isinstance(section.default, msgspec.Struct):
            continue
        key = name.removeprefix(prefix).lower()
        for field in msgspec.structs.fields(type(section.default)):
            if field.name == key:
                is_list = get_origin(field.type) is list
                raw.setdefault(section.name, {})[key] = (
                    [v.strip() for v in value.split(",") if v.strip()] if is_list else value
                )


_CREDENTIALS = (
    ("stripe-key", "billing", "stripe_key_file"),
    ("tls-certificate", "server", "tls_certificate"),
    ("tls-key", "server", "tls_key"),
)
"""Name of the credential, and the setting whose file it is."""


def _lend_credential(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Secrets as systemd hands them over (LoadCredential=stripe-key:…), unless a file is named. The units
    put a line's end in the place of one that is not there."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    for name, in_section, key in _CREDENTIALS if folder else ():
        path = Path(folder or "", name)
        if not path.exists() or not path.read_bytes().strip():
            continue
        section = raw.setdefault(in_section, {})
        if isinstance(section, dict) and not cast("dict[str, Any]", section).get(key):
            section[key] = str(path)


def check_socket(path: Path) -> None:
    """Whether a socket may lie there; asked by the processes, of the longest of theirs, before they do anything else.
    Raises Misconfigured."""
    over = len(os.fsencode(path)) - _LONGEST_SOCKET
    if over > 0:
        raise Misconfigured(
            f"runtime_dir is {str(path.parent)!r}, {over} bytes too long for {path.name} to lie in it; set "
            "CUSTOMHOUSE_RUNTIME_DIR to a shorter path, or move home"
        )


def _check(settings: Settings) -> None:
    """What a type cannot say. Raises Misconfigured."""
    if settings.inference.device not in ("auto", "cpu", "cuda"):
        raise Misconfigured(f"inference.device is {settings.inference.device!r}; it must be auto, cpu or cuda")
    if settings.log.format not in ("auto", "text", "json"):
        raise Misconfigured(f"log.format is {settings.log.format!r}; it must be auto, text or json")
    if settings.log.files not in ("auto", "on", "off"):
        raise Misconfigured(f"log.files is {settings.log.files!r}; it must be auto, on or off")
    for cidr in settings.media.allowed_private_cidrs:
        try:
            ipaddress.ip_network(cidr)
        except ValueError as error:
            raise Misconfigured(f"media.allowed_private_cidrs: {cidr!r} is not a network: {error}") from error
    _check_billing(settings.billing)
    if bool(settings.server.tls_certificate) != bool(settings.server.tls_key):
        raise Misconfigured("server.tls_certificate and server.tls_key belong together: name both files, or neither")
    _check_backup(settings.backup)
    if not 1 <= settings.server.port <= 65535:
        raise Misconfigured(f"server.port is {settings.server.port}; it must be 1 to 65535")
    if not settings.billing.offline_grace_hours >= 0:
        raise Misconfigured("billing.offline_grace_hours must be at least 0")
    for section, key, low in (
        ("server", "workers", 1),
        ("server", "max_connections", 16),
        ("server", "max_queue_age_s", 0),
        ("server", "max_requests_at_once", 1),
        ("server", "header_timeout_s", 1),
        ("server", "body_timeout_s", 1),
        ("server", "unread_timeout_s", 1),
        ("worker", "threads", 1),
        ("worker", "max_attempts", 1),
        ("worker", "stuck_s", 1),
        ("inference", "max_batch", 1),
        ("inference", "queue_limit", 1),
        ("inference", "stuck_s", 1),
        ("media", "decoders", 1),
        ("media", "max_frames", 1),
        ("webhooks", "max_attempts", 1),
        ("billing", "auto_topups_a_day", 0),
        ("billing", "sync_s", 5),
        ("billing", "stripe_timeout_s", 1),
        ("limits", "requests_per_minute", 1),
        ("limits", "burst_per_second", 0),
        ("limits", "failed_auth_per_minute", 1),
        ("limits", "idempotency_hours", 1),
        ("retention", "prompts_days", 0),
        ("retention", "traces_days", 0),
        ("retention", "deliveries_days", 0),
        ("retention", "jobs_days", 1),
        ("retention", "moderation_events_days", 0),
        ("retention", "every_s", 1),
        ("backup", "every_hours", 0),
        ("backup", "keep_daily", 1),
        ("backup", "keep_weekly", 0),
        ("backup", "keep_monthly", 0),
        ("backup", "follow_hours", 1),
        ("log", "file_mb", 1),
        ("log", "file_count", 1),
    ):
        if getattr(getattr(settings, section), key) < low:
            raise Misconfigured(f"{section}.{key} must be at least {low}")
    for key in ("prompts_days", "traces_days", "deliveries_days", "jobs_days", "moderation_events_days"):
        if getattr(settings.retention, key) > FOR_EVER_DAYS:
            raise Misconfigured(f"retention.{key} must be at most {FOR_EVER_DAYS}, which is for ever")


def _check_backup(backup: Backups) -> None:
    """Raises Misconfigured."""
    if backup.follow not in ("on", "off"):
        raise Misconfigured(f"backup.follow is {backup.follow!r}; it must be on or off")
    if backup.follow == "on" and not backup.follow_folder:
        raise Misconfigured('backup.follow is "on", so backup.follow_folder must name a folder of another disk')


def _check_billing(billing: Billing) -> None:
    """Where the key and the customers are sent. Raises Misconfigured."""
    for key in ("stripe_address", "stripe_proxy", "public_url"):
        url = cast("str", getattr(billing, key))
        if not url and key != "public_url":
            continue
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Misconfigured(f"billing.{key} is {url!r}; it must be an http or https address")
        if key == "stripe_address" and parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise Misconfigured(f"billing.stripe_address is {url!r}; the key goes there, so it must be https")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
