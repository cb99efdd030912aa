"""Where the time of a small remote call goes, stage by stage, at both ends.

The stages are timed inside a real client and a real agent. What is left of the wait for the answer
without the work of the agent is the operating system's: receiving, waking the other process. The
same call without any timing inside, and a raw echo, stand beside it as a check. `--svg FILE` draws
it (docs/small_call.svg).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vaccel
from benchmarks import measures, processes
from benchmarks.stopwatch import Stopwatch
from vaccel.agent import Agent

CALLS = 20_000
_WAIT, _COST = "wait", "timing"
"""Labels: of functions that wait for the peer, and of what the timing itself costs."""

CLIENT = {
    "method": ["vaccel.ops.catalog:Operations.fpga_vadd"],
    "check, frame, result": ["vaccel.rpc.quick:QuickClient.caller()"],
    "send": ["socket:socket.sendall"],
    _WAIT: ["socket:socket.recv_into"],
}
AGENT = {
    _WAIT: ["socket:socket.recv"],
    "match, watch": ["vaccel.rpc.peer:Peer._run_known"],
    "arrays, session, answer": ["vaccel.calls:Call.quick()"],
    "kernel": ["vaccel.plugin:Plugin.bind()"],
    "send": ["socket:socket.sendall"],
}
CLIENT_ROOT, AGENT_ROOT = "method", "arrays, session, answer"
_COLOURS = {"client": "#3b6fb6", "agent": "#c9752d", "system": "#7a7a7a"}


class Bar(NamedTuple):
    side: str
    label: str
    us: float


def profile() -> tuple[list[Bar], measures.Figures]:
    """The stages in the order of a call, and the whole call and an echo beside them."""
    whole = measures.small_call(measures.THOROUGH)
    watch = Stopwatch()
    watch.install(CLIENT)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "agent.json"
        with processes.Listener([__file__, "--agent", str(report)], processes.READY) as agent:
            a, b = measures.five()
            with vaccel.Session(endpoint=agent.match) as session:
                for _ in range(CALLS):
                    result = session.fpga_vadd(a, b)
                measures.expect(result, a + b, "fpga_vadd")
        there = json.loads(report.read_text())
    here = watch.per_call(CLIENT_ROOT)
    unused = [f"client: {label}" for label in CLIENT if not here[label]]
    unused += [f"agent: {label}" for label in AGENT if not there[label]]
    if unused:
        raise LookupError(f"a call does not pass {', '.join(unused)}: correct the table of stages")
    before = [Bar("client", label, here[label] * 1e6) for label in CLIENT]
    waiting = list(CLIENT).index(_WAIT)
    after, before = before[waiting + 1 :], before[:waiting]
    inside = [Bar("agent", label, there[label] * 1e6) for label in AGENT if label != _WAIT]
    rest = (here[_WAIT] - there[_COST]) * 1e6 - sum(bar.us for bar in inside)
    bars = [*before, *inside, Bar("system", "receive, wake-ups", rest), *after]
    return bars, whole


def serve(report: str) -> None:
    """The agent, timed; writes `report` when it is told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    watch = Stopwatch()
    watch.install(AGENT)
    config = vaccel.Config(plugins="cpu", log_level=1)
    with Agent("tcp://127.0.0.1:0", config) as agent:
        print(f"started. address: {agent.endpoint}", flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    figures = {**watch.per_call(AGENT_ROOT), _COST: watch.cost(AGENT_ROOT)}
    Path(report).write_text(json.dumps(figures))
    vaccel.cleanup()


def text(bars: list[Bar], whole: measures.Figures) -> str:
    lines = [f"{bar.side:8}{bar.label:20}{bar.us:8.2f} µs" for bar in bars]
    for side in _COLOURS:
        whole_side = sum(bar.us for bar in bars if bar.side == side)
        lines += [f"{side:28}{whole_side:8.2f} µs"]
    lines.append(f"{'sum':28}{sum(bar.us for bar in bars):8.2f} µs")
    lines.append(f"{'call, not timed inside':28}{whole['small_call_us']:8.2f} µs")
    lines.append(f"{'raw echo':28}{whole['echo_us']:8.2f} µs")
    return "\n".join(lines)


_LEFT, _WIDTH, _ROW = 200, 420, 20


def svg(bars: list[Bar], whole: measures.Figures) -> str:
    """One row a stage, in the order of a call, each beginning where the one before ends."""
    scale = _WIDTH / max(sum(bar.us for bar in bars), whole["small_call_us"])
    height = (len(bars) + 3) * _ROW
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 80} {height}" '
        f'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]

    def row(number: int, label: str, start: float, us: float, colour: str) -> None:
        y, x, width = (number + 0.5) * _ROW, _LEFT + start * scale, max(us * scale, 1.0)
        out.append(
            f'<text x="{_LEFT - 8}" y="{y + 13:g}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{x:.1f}" y="{y + 2:g}" width="{width:.1f}" height="{_ROW - 4}" '
            f'fill="{colour}"/>'
            f'<text x="{x + width + 4:.1f}" y="{y + 13:g}">{us:.1f} µs</text>'
        )

    at = 0.0
    for number, bar in enumerate(bars):
        row(number, f"{bar.side}: {bar.label}", at, bar.us, _COLOURS[bar.side])
        at += bar.us
    row(len(bars), "call, not timed inside", 0.0, whole["small_call_us"], "#222222")
    row(len(bars) + 1, "raw echo of the same bytes", 0.0, whole["echo_us"], "#222222")
    return "\n".join([*out, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", metavar="FILE", help="also draw it")
    parser.add_argument("--agent", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agent:
        serve(options.agent)
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    vaccel.bootstrap(vaccel.Config(plugins="cpu", log_level=1))
    try:
        bars, whole = profile()
    finally:
        vaccel.cleanup()
    print(text(bars, whole))
    if options.svg:
        Path(options.svg).write_text(svg(bars, whole))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
