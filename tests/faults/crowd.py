"""The crowd: clients that book, and change what they booked, until they are answered."""

import contextlib
import http.client
import json
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.faults.account import Account, Entry, State, as_booked, body_of
from tests.servers.ports import LOOPBACK

FIRST_DAY = datetime(2027, 1, 1, 8)
OFFICES, DOCTORS, DAYS, QUARTERS = 300, 200, 120, 48
# Clients ask again for one of the times that were asked for last, among this many.
RECENT = 40
# How long a client waits before it tries the other process: less than most outages take.
ANSWER_SECONDS = 6.0
# All faults end sooner; a client that is not answered by then never will be.
GIVE_UP_SECONDS = 180.0
AGAIN_SECONDS = 0.2


class Answer(NamedTuple):
    """What came back; status None is no answer."""

    status: int | None
    body: Any

    @property
    def unsure(self) -> bool:
        """Whether it may have been done, or may still be."""
        return self.status is None or (
            self.status == 503 and "may have been done" in self.body.get("detail", "")
        )


class Client:
    """A client with a connection to each process, which it asks in turn."""

    def __init__(
        self, ports: Sequence[int], account: Account, rng: random.Random, seconds: float
    ) -> None:
        self._ports = ports
        self._account = account
        self._rng = rng
        self._seconds = seconds
        self._connections: dict[int, http.client.HTTPConnection] = {}

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def book(self, entry: Entry) -> bool:
        """Book until it is confirmed or refused for good; return whether it is confirmed."""
        self._account.open(entry)
        body = body_of(entry.wanted)
        headers = {"Idempotency-Key": entry.key} if entry.key else {}
        for answer in self._answers("POST", "/appointment", body, headers):
            if answer.unsure and entry.wanted not in entry.may_stand:
                entry.may_stand.append(entry.wanted)
            if answer.status == 200 and not entry.may_stand:
                self._account.violated("invented", f"{entry.name} was booked already: {answer}")
            if answer.status in (200, 201):
                entry.id, entry.stands = answer.body.get("id"), entry.wanted
                if answer.body != {"id": entry.id} | body:
                    self._account.violated("altered", f"sent {body}, confirmed {answer.body}")
                # A copy that is late finds it in the book, or its key used, and changes nothing.
                entry.may_stand.clear()
                return True
        return False

    def change(self, entry: Entry, wanted: State, **fields: object) -> None:
        """Change an appointment until that is confirmed or refused; without fields, cancel it.

        Once only: a copy of a change that is late would undo the next one.
        """
        method = "PATCH" if fields else "DELETE"
        for answer in self._answers(method, f"/appointment/{entry.id}", fields or None):
            if answer.unsure and wanted not in entry.may_stand:
                entry.may_stand.append(wanted)
            if answer.status == 200:
                entry.stands = wanted
                entry.may_stand.clear()

    def _answers(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Iterator[Answer]:
        """Send the very same until it is answered for good; yield each answer."""
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while True:
            answer = self._send(method, path, body, headers or {})
            self._account.answered(answer.status)
            if answer.status not in (None, 200, 201, 409, 503):
                kind = "5xx" if answer.status and answer.status >= 500 else "unexpected answers"
                self._account.violated(kind, f"{method} {path} {body}: {answer}")
            yield answer
            if answer.status is not None and answer.status < 500:
                return
            if time.monotonic() > give_up_at:
                self._account.violated("not answered", f"{method} {path} {body}: {answer}")
                return
            time.sleep(AGAIN_SECONDS * self._rng.uniform(0.2, 1))

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        port = self._rng.choice(self._ports)
        connection = self._connections.get(port)
        if connection is None:
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=self._seconds)
            self._connections[port] = connection
        content = None if body is None else json.dumps(body).encode()
        try:
            connection.request(
                method, path, content, {"Content-Type": "application/json", **headers}
            )
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            return Answer(None, None)


@dataclass
class Wishes:
    """Draws what clients want: often what somebody else wants at this very moment."""

    rng: random.Random

    def __post_init__(self) -> None:
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECENT)

    def fields(self, name: str) -> dict[str, Any]:
        """Return the fields of a new appointment."""
        rng = self.rng
        if self._recent and rng.random() < 0.2:
            fields = dict(rng.choice(self._recent))
            moved = datetime.fromisoformat(fields["date_time"])
            fields["date_time"] = (moved + timedelta(minutes=rng.choice((0, 0, 5, 15)))).isoformat()
        else:
            fields = {"office_number": str(rng.randrange(OFFICES)), "date_time": some_time(rng)}
            if rng.random() < 0.3:
                fields["doctor_name"] = f"Dr {rng.randrange(DOCTORS)}"
        fields |= {"patient_name": name, "duration_minutes": rng.choice((15, 15, 30, 45))}
        self._recent.append(fields)
        return fields


def some_time(rng: random.Random) -> str:
    """Return a quarter of an hour on one of the days."""
    day, quarter = rng.randrange(DAYS), rng.randrange(QUARTERS)
    return (FIRST_DAY + timedelta(days=day, minutes=15 * quarter)).isoformat()


class Crowd:
    """Clients that book at all ports, as many as they are allowed to in all."""

    def __init__(self, ports: Sequence[int], account: Account, seed: int, clients: int) -> None:
        self._account = account
        self._rng = random.Random(f"{seed} crowd")
        self._wishes = Wishes(self._rng)
        self._ports = ports
        self._allowed = self._begun = self._ended = 0
        self._pause_seconds = 0.0
        self._over = False
        self._changed = threading.Condition()
        self._clients = clients
        self._threads = [
            threading.Thread(target=self._visit, args=[f"{seed} client {place}"], daemon=True)
            for place in range(clients)
        ]

    @property
    def begun(self) -> int:
        """How many bookings were asked for so far."""
        return self._begun

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """Have the clients there while the body runs; they leave when they are answered."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            for thread in self._threads:
                thread.join()

    def allow(self, total: int, seconds: float) -> None:
        """Let the clients book until there are so many in all, spread over so many seconds."""
        with self._changed:
            more = max(0, total - self._begun)
            self._allowed = max(self._allowed, total)
            self._pause_seconds = seconds * self._clients / max(1, more)
            self._changed.notify_all()

    def until_answered(self) -> None:
        """Wait until all that were allowed are answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended >= self._allowed)

    def _next(self) -> tuple[Entry, str] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._begun < self._allowed)
            if self._over or self._begun >= self._allowed:
                return None
            self._begun += 1
            wanted = as_booked(self._wishes.fields(f"patient {self._begun}"))
            keyed = self._rng.random() < 0.4
            # Only with a key: without one, an appointment that was moved would be booked anew when
            # its booking is sent again late.
            then = self._rng.choice(("", "move", "arrive", "cancel")) if keyed else ""
            return Entry(wanted, f"key-{self._begun}" if keyed else None), then

    def _visit(self, seed: str) -> None:
        rng = random.Random(seed)
        client = Client(self._ports, self._account, rng, ANSWER_SECONDS)
        with contextlib.closing(client):
            while (wish := self._next()) is not None:
                entry, then = wish
                if client.book(entry) and then:
                    change(client, entry, then, rng)
                with self._changed:
                    self._ended += 1
                    self._changed.notify_all()
                    pause_seconds = self._pause_seconds
                if pause_seconds:
                    time.sleep(min(1.0, rng.expovariate(1 / pause_seconds)))


def change(client: Client, entry: Entry, then: str, rng: random.Random) -> None:
    """Have a client move, receive or cancel what was booked."""
    assert entry.stands
    if then == "move":
        new = some_time(rng)
        if new != entry.stands.fields["date_time"]:
            wanted = entry.stands.after("appointment.rescheduled", date_time=new)
            client.change(entry, wanted, date_time=new)
    elif then == "arrive":
        wanted = entry.stands.after("appointment.arrived", status="arrived")
        client.change(entry, wanted, status="arrived")
    else:
        client.change(entry, entry.stands.after("appointment.cancelled", status="cancelled"))
