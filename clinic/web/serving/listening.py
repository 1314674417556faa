"""Sockets that listen, and what they are called."""

import os
import select
import socket


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to change."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a port in use is known before anything starts.

    ``::`` listens for IPv4, too, where the system can.

    Raises:
        CannotListen: the port is in use or not allowed, or the host is not one of this machine's.
    """
    try:
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=2048,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        # Python's own text of the error repeats the address, except for an unknown host's.
        reason = (
            os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
        )
        raise CannotListen(
            f"cannot listen on {address_of(host, port)}: {reason}. "
            "Choose another with --port (CLINIC_PORT) or --host (CLINIC_HOST)"
        ) from error
    # Otherwise each answer's body waits 40 ms for the client to acknowledge the head. asyncio sets
    # this only on sockets made with IPPROTO_TCP, unlike ours; accepted sockets inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(host: str, port: int) -> str:
    """Return host and port as they stand in a URL (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def somebody_waits(listener: socket.socket) -> bool:
    """Tell whether a client waits to be accepted."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    return bool(waiting.poll(0))


def has_descriptor(listener: socket.socket) -> bool:
    """Tell whether the system would give this process another descriptor."""
    try:
        os.close(os.dup(listener.fileno()))
    except OSError:
        return False
    return True
