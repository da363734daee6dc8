"""What the handlers reach: made once as the application starts, and found through it."""

import asyncio
import queue
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from litestar.connection import ASGIConnection

from appliance.accounts.limits import Limits
from appliance.api.condition import Condition
from appliance.api.form import Budget
from appliance.api.trial import Trials
from appliance.api.watcher import Watcher
from appliance.billing import stripe
from appliance.house import House
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import JobKind
from appliance.moderations.moderator import Moderator
from appliance.outbound import Outbound
from appliance.tasks import Lanes
from appliance.text import named_lists

_RESOLVERS = 32  # a slow name server holds one each for seconds
_EXPORTS = 2  # however many clients export, a list is read beside them
_PAYMENTS = 8  # so does Stripe


class Door:
    def __init__(self, house: House, lanes: Lanes, outbound: Outbound, condition: Condition) -> None:
        self.house = house
        self.lanes = lanes
        self.outbound = outbound
        self.condition = condition
        self.watcher = Watcher(house.settings.database)
        self.hasty = Watcher(house.settings.database, every_s=0.015)
        """For who waits for a picture with the answer open: 15 µs a look, and none while nobody waits."""
        self.wakers = Wakers(lanes)
        self.resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")
        self.exports = ThreadPoolExecutor(_EXPORTS, thread_name_prefix="export")
        self.stripe = stripe.Live(house.settings.billing)
        self.payments = ThreadPoolExecutor(_PAYMENTS, thread_name_prefix="payments")
        self.bodies = Budget()
        self.trials = Trials(house.settings, outbound)
        self.moderator = Moderator(house)
        self.named_lists = named_lists.Matcher()
        self.disk = Disk(house.settings.home)
        self.limits = Limits(house.settings.limits_file)
        self.limits.open()
        self.touched: dict[str, int] = {}
        """Key id → when its use was last noted by this process."""
        self.asked: dict[tuple[str, str, str], bytes] = {}
        """Organisation, route and Idempotency-Key of what this process is at → its fingerprint."""

    async def close(self) -> None:
        await self.watcher.close()
        await self.hasty.close()
        self.wakers.close()
        self.condition.close()
        self.lanes.close()
        self.limits.close()
        self.trials.close()
        self.moderator.close()
        self.resolvers.shutdown(wait=False, cancel_futures=True)
        self.exports.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.payments.shutdown, cancel_futures=True)  # they write to the database
        self.stripe.close()


class Disk:
    """The room that is left where the state directory is, looked at four times a second at most."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._free_mb = 0
        self._until = 0.0

    def free_mb(self) -> int:
        now = time.monotonic()
        if now >= self._until:
            self._free_mb, self._until = shutil.disk_usage(self._home).free // 1_000_000, now + 0.25
        return self._free_mb


class Wakers:
    """Puts messages in the lanes from a thread: the queue file may be locked, and the event loop must not wait."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._waiting: queue.SimpleQueue[tuple[FollowUp, JobKind] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._put_all, name="wakers", daemon=True)
        self._thread.start()

    def follow(self, follow_up: FollowUp, kind: JobKind) -> None:
        self._waiting.put((follow_up, kind))

    def close(self) -> None:
        """Say what waits to be said, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _put_all(self) -> None:
        """What waits is put in together: one write for a commit's thirty, not thirty."""
        is_open = True
        while is_open:
            together = [self._waiting.get()]
            while not self._waiting.empty():
                together.append(self._waiting.get())
            is_open = None not in together
            self._lanes.follow_all(item for item in together if item is not None)


def door(connection: ASGIConnection[Any, Any, Any, Any]) -> Door:
    return cast("Door", connection.app.state["door"])
