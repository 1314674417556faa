"""Private, throw-away servers, and a network that fails on demand. Linux only.

postgres    a PostgreSQL: start, stop, kill, freeze; databases
bouncer     a PgBouncer in front of it
rabbit      a RabbitMQ node: the same; vhosts, alarms, Erlang evaluated inside it
proxy       a TCP proxy to put in front of either: latency, black hole, resets ...
server      what the servers share: a life, a directory, a certificate
guardian    sees to it that no process of theirs outlives ours, however ours ends
ports       ports that nobody uses
"""

from tests.servers.bouncer import PgBouncer
from tests.servers.guardian import ServerFailed
from tests.servers.ports import free_port
from tests.servers.postgres import Postgres
from tests.servers.proxy import FaultyProxy
from tests.servers.rabbit import Rabbit
from tests.servers.server import ServerMissing

__all__ = [
    "FaultyProxy",
    "PgBouncer",
    "Postgres",
    "Rabbit",
    "ServerFailed",
    "ServerMissing",
    "free_port",
]
