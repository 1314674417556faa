"""The numbers that a process counts while it works, for Prometheus; all of them, in one place.

What is counted where it happens stands here; what is looked up when somebody asks (services that
work, events that are open) is set in ``clinic.roles``. No label has anything of a patient, an
office or a doctor: labels are few words that are known beforehand. Names are those that
https://prometheus.io/docs/practices/naming/ asks for.
"""

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

# When each was first counted is of no use to anyone, and doubles the text.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
for collector in (ProcessCollector, PlatformCollector, GCCollector):
    collector(registry=REGISTRY)

REQUEST_SECONDS = Histogram(
    "clinic_http_request_seconds",
    "Time from the arrival of a request until its answer began.",
    ("method", "route", "status"),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
BOOKINGS = Counter(
    "clinic_bookings",
    "Bookings that were asked for, by what became of them: booked, again (it stood in the book "
    "already), taken, closed.",
    ("outcome",),
    registry=REGISTRY,
)
BATCH_SIZE = Histogram(
    "clinic_booking_batch_size",
    "Bookings that were written in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)
PUBLISHED = Counter(
    "clinic_events_published", "Events that the broker confirmed.", registry=REGISTRY
)
HANDLED = Counter(
    "clinic_deliveries_handled",
    "Deliveries that were handled: recorded for analytics, or recognised as copies.",
    registry=REGISTRY,
)
FAILED = Counter(
    "clinic_deliveries_failed",
    "Deliveries whose handling failed, by the class of the error and by what became of the "
    "message: retried, set_aside.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
SERVICE_FAILURES = Counter(
    "clinic_service_failures",
    "Times that a service of this process failed, or something it needs was away.",
    ("service",),
    registry=REGISTRY,
)

SERVICE_UP = Gauge(
    "clinic_service_up",
    "1 for each service of this process that works, 0 for one that does not.",
    ("service",),
    registry=REGISTRY,
)
EVENTS_OPEN = Gauge(
    "clinic_events_open",
    "Events that are neither recorded nor set aside yet, in the whole clinic; NaN if the database "
    "does not say.",
    registry=REGISTRY,
)
OLDEST_OPEN_SECONDS = Gauge(
    "clinic_event_oldest_open_seconds",
    "How long ago the oldest of these happened; 0 if there is none.",
    registry=REGISTRY,
)

for outcome in ("booked", "again", "taken", "closed"):
    BOOKINGS.labels(outcome)

# To find a child of a metric by its labels takes longer than to count.
_requests: dict[tuple[str, str, int], Histogram] = {}


def answered(method: str, route: str, status: int, began: float) -> None:
    """Count a request that is answered now; ``began`` is when it came, by ``time.perf_counter``."""
    key = method, route, status
    child = _requests.get(key)
    if child is None:
        child = REQUEST_SECONDS.labels(method, route.rstrip("/") or "/", str(status))
        _requests[key] = child
    child.observe(time.perf_counter() - began)


def text() -> bytes:
    """Return all numbers, in Prometheus' text format."""
    return generate_latest(REGISTRY)
