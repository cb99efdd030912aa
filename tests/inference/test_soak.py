"""An agent serves many clients that run models: same results, no error, nothing left behind."""

from __future__ import annotations

import pytest

from tests.agent.processes import AgentProcess
from tests.inference import soak

pytest.importorskip("onnxruntime", reason="the extra vaccel[onnx] is not installed")

CLIENTS = 8
MIB = 1 << 20


@pytest.mark.subprocess
def test_clients_at_once_get_the_results_of_here_and_leave_nothing_behind():
    # Without PyTorch, which takes seconds to start: tools/models_soak.py has it.
    names = soak.installed("onnx", "tflite")
    task = soak.prepared(names, rounds=1, passes=1)
    with AgentProcess(plugins=":".join(names)) as agent:
        task = task._replace(endpoint=agent.endpoint)
        before = soak.warmed_up(agent, task)
        with soak.Clients(task, CLIENTS) as clients:
            report = clients.report()
        assert report.errors == []
        assert report.calls == CLIENTS * len(task.expected)
        assert soak.left_behind(agent, before) == []
        assert agent.stop() == 0


def test_another_result_is_an_error():
    task = soak.prepared(["onnx"], rounds=1, passes=1)
    case, _ = task.expected[0]
    with AgentProcess(plugins="onnx") as agent:
        wrong = task._replace(endpoint=agent.endpoint, expected=[(case, "another")])
        with soak.Clients(wrong, 1) as clients:
            (error,) = clients.report().errors
        assert error.startswith("client 0: classify_scores: expected 'another', found [")
        assert agent.stop() == 0


@pytest.mark.parametrize(
    ("samples", "grows"),
    [
        ([100, 300, 310, 300, 310, 300], False),
        ([100, 300, 300, 300, 900, 300, 300, 300, 300], False),
        ([300, 300, 300, 300, 300, 310, 320, 330, 340], True),
        (range(300, 420, 2), True),
    ],
)
def test_memory_that_grows_after_the_first_third_is_no_wobble(samples, grows):
    assert bool(soak.growth([one * MIB for one in samples])) is grows
