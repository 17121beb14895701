"""Loaded by every Python process of a guarded run: refuses and records connections that leave the machine."""

import os
import socket
from typing import Any

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def _is_outside(address: Any) -> bool:
    return isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK)


def _record(kind: str, address: Any) -> None:
    with open(os.environ["NETWORK_GUARD_LOG"], "a") as file:
        file.write(f"{kind} {address!r}\n")


class _GuardedSocket(socket.socket):
    def connect(self, address: Any) -> None:
        if _is_outside(address):
            _record("connect", address)
            raise OSError(f"the guard refuses {address!r}")
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        if _is_outside(address):
            _record("connect", address)
            return 111
        return super().connect_ex(address)


def _guard_lookup(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if name and not str(name).startswith(_LOOPBACK) and name != socket.gethostname():
        _record("lookup", name)
        raise socket.gaierror(f"the guard refuses to look up {name!r}")
    return _getaddrinfo(host, *arguments, **options)


if "NETWORK_GUARD_LOG" in os.environ:
    _getaddrinfo = socket.getaddrinfo
    socket.socket = _GuardedSocket  # type: ignore[misc]
    socket.getaddrinfo = _guard_lookup
