"""Runs on a client host until its standard input ends: several callers, who repeat their calls.

usage: callers.py '{"url": ..., "home": ..., "product": ..., "destination": ...}'
Every call has a connection of its own. The host has the standard library only.
"""

import http.client
import itertools
import json
import ssl
import sys
import threading
import time
from urllib.parse import urlencode, urlsplit

OPTIONS = json.loads(sys.argv[1])
SUBMITTERS, WATCHERS = 2, 4
EVERY = {"submit": 1.5, "watch": 0.2}  # seconds between two calls of one caller
ENDED = threading.Event()


class Callers:
    def __init__(self):
        self.context = ssl.create_default_context(capath=f"{OPTIONS['home']}/certificates")
        self.context.load_cert_chain(f"{OPTIONS['home']}/cert.pem", f"{OPTIONS['home']}/key.pem")
        self.lock = threading.Lock()
        self.found = {"calls": 0, "retried": 0, "failures": [], "jobs": {}}
        self.recent = []

    def submit(self, caller):
        for number in itertools.count():
            destination = f"{OPTIONS['destination']}/{caller}-{number}"
            form = {"product_id": OPTIONS["product"], "destination_path": destination}
            key = {"Idempotency-Key": f"{destination}-{time.time()}"}
            body = self.call("POST", "/submitTransfer", urlencode(form), key)
            if body:
                with self.lock:
                    self.found["jobs"][body["job_id"]] = destination
                    self.recent = [body["job_id"], *self.recent[:9]]
            if ENDED.wait(EVERY["submit"]):
                return

    def watch(self, caller):
        for number in itertools.count(caller):
            with self.lock:
                jobs = self.recent
            if jobs:
                self.call("GET", f"/transferStatus?job_id={jobs[number % len(jobs)]}")
            if ENDED.wait(EVERY["watch"]):
                return

    def call(self, method, path, body=None, headers=None):
        """The answer's body; None for no answer or a refusal, also after a retry."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        status, answer, after = self.once(method, path, body, headers)
        again = status == 503
        if again:
            time.sleep(float(after or 1))
            status, answer, after = self.once(method, path, body, headers)
        with self.lock:
            self.found["calls"] += 1
            self.found["retried"] += again
            if status not in (200, 202):
                self.found["failures"].append([time.time(), method, path, status, answer])
        return answer if status in (200, 202) else None

    def once(self, method, path, body, headers):
        address = urlsplit(OPTIONS["url"])
        connection = http.client.HTTPSConnection(
            address.hostname, address.port, timeout=60, context=self.context
        )
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers.get("Retry-After")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error), None
        finally:
            connection.close()


def main():
    callers = Callers()
    threads = [threading.Thread(target=callers.submit, args=(n,)) for n in range(SUBMITTERS)]
    threads += [threading.Thread(target=callers.watch, args=(n,)) for n in range(WATCHERS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ENDED.set()
    for thread in threads:
        thread.join()
    print(json.dumps(callers.found))


if __name__ == "__main__":
    main()
