"""Ports that nobody uses."""

import contextlib
import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens.

    It lies below the range from which the kernel takes the ports of outgoing connections. From
    inside that range, a client that knocks at a stopped server can be given the server's own port
    and connect to itself, and then the server can not come back.
    """
    ephemeral = 32_768  # Linux's default
    with contextlib.suppress(OSError):
        ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lowest = 20_000 if ephemeral > 21_000 else 1_025
    while True:
        # random: processes that look at the same time should not find the same port.
        port = random.randrange(lowest, max(ephemeral, lowest + 1_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
