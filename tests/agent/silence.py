"""Run by test_silence, in a network namespace: an agent and a client, between which the link goes.

`waiting`: while the client waits for an answer. `sending`: before it sends a request. `agent`: the
agent notices that its client is gone, in the middle of a call.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import threading

from tests.agent import kernels
from vaccel import Arg, Config, Session
from vaccel.agent import Agent
from vaccel.config import Timeouts
from vaccel.error import ConnectionLost
from vaccel.rpc.handler import Limits

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def set_link(up: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        name, flags = struct.unpack("16sh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags))


def call(session: Session, symbol: str) -> None:
    session.exec("lib", symbol, [Arg([1])], [Arg([0])])


def main(scene: str) -> None:
    set_link(True)
    timeouts = Timeouts(control=1.0, keepalive=3 if scene != "agent" else 60)
    config = Config(plugins=kernels.NAME, timeouts=timeouts)
    limits = Limits(silence=3 if scene == "agent" else 60)
    released = threading.Event()
    kernels.plugin.close_session = lambda session: released.set()  # type: ignore[method-assign]
    with Agent("tcp://127.0.0.1:0", config, limits=limits) as agent:
        session = Session(endpoint=agent.endpoint)
        call(session, "double")
        if scene == "sending":
            set_link(False)
            notice(session, "double")
        else:
            threading.Thread(target=cut, daemon=True).start()
            if scene == "agent":
                threading.Thread(target=notice, args=(session, "wait"), daemon=True).start()
                released.wait()
            else:
                notice(session, "wait")
        print("noticed", flush=True)
        set_link(True)
        kernels.gate.open()


def cut() -> None:
    kernels.gate.reached()
    set_link(False)


def notice(session: Session, symbol: str) -> None:
    try:
        call(session, symbol)
    except ConnectionLost:
        return
    raise RuntimeError("the call came back")


if __name__ == "__main__":
    main(sys.argv[1])
