"""First come, first served, also where somebody gives up waiting."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.fpga.lines import arrive, line_of
from vaccel.fpga.turns import Turns


def test_turns_come_in_the_order_of_arrival() -> None:
    turns = Turns()
    order: list[int] = []

    def take(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        threads = arrive(turns, *(lambda i=i: take(i) for i in range(8)))
        assert not turns.enter_if_free()
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(8))
    assert turns.enter_if_free()


def test_an_error_passes_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns:
        raise KeyError
    assert turns.enter_if_free()


def test_who_is_interrupted_in_the_line_leaves_it() -> None:
    turns = Turns()
    go = threading.Event()

    def hold() -> None:
        with turns:
            held.set()
            line_of(turns, 1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            go.wait(30)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    with pytest.raises(KeyboardInterrupt), turns:
        pytest.fail("the turn was taken")
    line_of(turns, 0)
    go.set()
    holder.join()
    assert turns.enter_if_free()


def test_who_is_interrupted_as_the_turn_comes_passes_it_on() -> None:
    turns = Turns()
    mine = threading.Lock()
    assert turns.enter_if_free()
    turns._line.append(mine)
    mine.acquire()
    turns.leave()  # to `mine`, whose thread is interrupted before it sees that
    turns._withdraw(mine)
    assert turns.enter_if_free()
