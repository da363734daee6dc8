"""`customhouse work`: the process that works the lanes off. One a state directory."""

import fcntl
import logging
import os
import threading
from functools import partial

from appliance import access, heartbeat, notify, signals, structs
from appliance.billing import reconcile
from appliance.billing.sync import SOON_S
from appliance.errors import Misconfigured
from appliance.house import House
from appliance.inference import manifest
from appliance.inference.client import Models
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.settings import Settings, check_socket
from appliance.tasks import LANES, Lanes
from appliance.text import language
from appliance.text.engine import Engine
from appliance.webhooks import deliver, deliveries
from appliance.work import backups, retention
from appliance.work.hands import Hands
from appliance.work.payments import EVERY_S, Payments
from appliance.work.runner import Runner
from appliance.work.sweep import Sweep, every

log = logging.getLogger(__name__)

_MEDIA_SWEEP_S = 600.0
_BEAT_S = 5.0
_LONG = 4  # times as long a step of a video may take
_VITAL = ("sweep", "leases")
_FINISH_S = 25.0  # what is in hand may end; systemd kills after 30


def main(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT, then finish what is in hand. Raises Misconfigured when another one runs."""
    check_socket(settings.run_dir / f"{max(LANES, key=len)}.sock")
    structs.prepare()
    house = House(settings, access.SERVICE)
    refuse_incapable_judge(settings)
    with open(settings.run_dir / "worker.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(f"a worker is already running for {settings.home}; stop it first") from error
        hands = Hands(
            house,
            Models(settings.inference_socket, settings.inference.deadline_s),
            Decoders(settings),
            Outbound(settings.media.allowed_private_cidrs),
            Engine(house),
        )
        stop = threading.Event()
        signals.set_when_told(stop)
        _run(hands, settings, stop)
        hands.decoders.close()
        hands.models.close()
        house.close()
    return 0


def _say_alive(lanes: Lanes, heart: heartbeat.Heart, stuck_s: float, stop: threading.Event) -> None:
    """Until `stop` is set: as long as every lane moves, and the rounds without which nothing would."""
    awaited_s = notify.watchdog_s()
    if awaited_s is None:
        stop.wait()
        return
    limits_s = {lane: stuck_s * (_LONG if lane == "media" else 1) for lane in LANES}
    was: list[str] = []
    while True:
        stuck = lanes.stuck(limits_s) + [name for name in _VITAL if heart.late(name, stuck_s)]
        if not stuck:
            notify.alive()
        elif stuck != was:
            log.error("worker stuck; systemd is told no more that it lives", extra={"lanes": ",".join(stuck)})
        was = stuck
        if stop.wait(min(_BEAT_S, awaited_s / 4)):
            return


def refuse_incapable_judge(settings: Settings) -> None:
    """A text judge decides only when its manifest says that it was measured well enough. Raises Misconfigured."""
    name = settings.inference.text_judge
    if not name:
        return
    judge = manifest.read(settings.models_dir / name).judge
    if judge is None or not judge.capable:
        raise Misconfigured(
            f"inference.text_judge names {name}, whose manifest does not call it capable: its verdicts would "
            "be near chance. Name another, or leave it empty"
        )


def _run(hands: Hands, settings: Settings, stop: threading.Event) -> None:
    """Lanes, sweep and heartbeat until `stop` is set."""
    house = hands.house

    def send(delivery_id: str) -> None:
        deliver.deliver(house.db, hands.outbound, settings, delivery_id)

    runner = Runner(hands, lambda follow, kind: lanes.follow(follow, kind))
    lanes = Lanes(settings, on_job=runner.work, on_delivery=send)
    # both read files once: eight threads that did so for their first prompts together took seven seconds
    language.detect("read the language model before the first prompt")
    hands.engine.lexicons.match("", "and build the blocklist")
    sweep = Sweep(runner, lanes)
    sweep.begin()
    prompts = max(2, settings.worker.threads // 2)
    lanes.start(
        {"prompts": prompts, "media": max(2, settings.worker.threads - prompts), "webhooks": deliveries.THREADS},
        begin=house.db.reader,  # opened by whoever gets its first job an hour later, it looks like a leak
    )
    payments = Payments(house)
    rounds = (
        ("sweep", settings.worker.sweep_s, sweep.once),
        ("leases", settings.worker.lease_s / 3, runner.beat),
        ("media", _MEDIA_SWEEP_S, sweep.media),
        ("stripe", SOON_S, payments.sync),
        ("cards", EVERY_S, payments.charge),
        ("ledger", reconcile.LOOK_S, reconcile.Nightly(house).once),
        ("retention", settings.retention.every_s, partial(retention.run, house, stop.wait)),
        ("backup", backups.LOOK_S, backups.Due(settings).once),
    )
    heart = heartbeat.Heart(settings.run_dir, settings.worker.threads)
    for name, seconds, act in rounds:
        timed = heart.timed(name, seconds, act)
        threading.Thread(target=every, args=(seconds, timed, stop.wait), daemon=True).start()
    following = threading.Thread(target=backups.follow, args=(settings, stop), daemon=True)
    following.start()
    heart.beat()
    threading.Thread(target=every, args=(heartbeat.EVERY_S, heart.beat, stop.wait), daemon=True).start()
    log.info("worker ready", extra={"threads": settings.worker.threads, "pid": os.getpid()})
    notify.ready(f"{settings.worker.threads} threads work")
    _say_alive(lanes, heart, settings.worker.stuck_s, stop)
    notify.stopping("finishes what is in hand")
    log.info("worker stops; it finishes what is in hand")
    lanes.stop(_FINISH_S)
    following.join(10)  # what was committed last is copied too
    heart.stop()
