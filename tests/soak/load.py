"""A steady load of submissions: three users, who go on asking until deliv has accepted."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from deliv.client import Client
from deliv.client.errors import ClientError
from soak.site import Accepted, Site

USERS = ("alice", "bob", "operator")
CALLERS = 16  # at once; a call lasts long while deliv is away
TREES = (2, 3, 5, 8, 13, 21, 34, 300)  # how many files the products of many have, in turn
FIRST_SIZE = 1_000  # bytes; each job has a size, and so a file, of its own
PATIENCE = 3.0  # seconds with one instance before the other one is asked
LAST_HOPE = 300.0  # seconds after which a submission has failed
# How the stager behaves (prefixes of the product's name), how often, and how such jobs must end.
MANNERS = {
    "": (70, "SUCCESS"),
    "early-": (8, "SUCCESS"),
    "twice-": (8, "SUCCESS"),
    "slow-2-": (6, "SUCCESS"),
    "badcode-": (4, "SUCCESS"),
    "tree-": (2, "SUCCESS"),  # a product of many files
    "kept-": (10, "SUCCESS"),  # its staged copy can't be given back while faults.keep lasts
    "slow-9000-": (1, "ERROR"),  # after the end of the soak
    "silent-": (2, "ERROR"),
    "fail-": (1, "ERROR"),
}
ALL_WELL = {manner: how for manner, how in MANNERS.items() if how[1] == "SUCCESS"}


class Load:
    """`rate` is in jobs per second, `manners` is how the stager behaves.

    What is accepted is added to the site's.

    `hindered`: the answers other than 202 and the lacking ones, each followed by another try.
    """

    def __init__(
        self,
        site: Site,
        rate: float,
        seed: int,
        manners: Mapping[str, tuple[int, str]] = MANNERS,
    ) -> None:
        self._site = site
        self._rate = rate
        self._manners = manners
        self._over = threading.Event()
        self._random = random.Random(seed)
        self._trees = itertools.cycle(TREES)
        self._targets = {user: site.stack.target() for user in USERS}
        self._credentials = {user: site.stack.user(user).proxy for user in USERS}
        self._ca = site.stack.ca
        self.hindered: list[str] = []
        self.refused: list[str] = []

    def run(self, seconds: float) -> None:
        """Returns when the last submission was accepted, or given up.

        `stop` ends it earlier: what a busy machine has not begun by then is not submitted.
        """
        started = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as callers:
            for number in range(round(seconds * self._rate)):
                if self._over.wait(max(0.0, started + number / self._rate - time.monotonic())):
                    break
                callers.submit(self._submit, number, self._manner())

    def stop(self) -> None:
        self._over.set()

    def _manner(self) -> str:
        weights = [weight for weight, _ in self._manners.values()]
        return self._random.choices(list(self._manners), weights)[0]

    def _submit(self, number: int, manner: str) -> None:
        if self._over.is_set():
            return
        user, size = USERS[number % len(USERS)], FIRST_SIZE + number
        target, name = self._targets[user], f"synthetic-{size}"
        product = manner + name
        if manner == "tree-":
            product = name = f"tree-{next(self._trees)}-{size}"
        try:
            job_id = self._until_accepted(user, product, target.url)
        except ClientError as error:
            self.refused.append(f"{product} of {user}: {error}")
            return
        self._site.accepted.append(
            Accepted(
                job_id=job_id,
                user=user,
                product=product,
                size=size,
                file=target.directory / name,
                status=self._manners[manner][1],
            )
        )

    def _until_accepted(self, user: str, product: str, destination: str) -> str:
        key, deadline = uuid.uuid4().hex, time.monotonic() + LAST_HOPE
        proxy = self._credentials[user]
        while True:
            url = random.choice(self._site.urls)
            try:
                with Client(
                    url, proxy, proxy, self._ca, patience=PATIENCE, notice=self.hindered.append
                ) as client:
                    return client.submit(product, destination, idempotency_key=key)
            except ClientError as error:
                self.hindered.append(str(error))
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
