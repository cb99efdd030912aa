"""Configuration: explicit, or from the environment under new and old names."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from vaccel import Config, config
from vaccel.cli import options
from vaccel.error import InvalidArgument


def test_defaults_are_those_of_existing_programs() -> None:
    found = Config()
    assert (found.plugins, found.log_level, found.log_file) == ("libvaccel-noop.so", 1, None)
    assert (found.profiling_enabled, found.version_ignore) == (False, False)
    assert Config("cpu", 4, "log.txt").log_file == "log.txt"


def test_a_config_is_read_only() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().plugins = "cpu"  # type: ignore[misc]


def test_names_are_separated_by_colons() -> None:
    assert Config(plugins="cpu:noop").plugin_names == ("cpu", "noop")
    assert Config(plugins=":cpu::").plugin_names == ("cpu",)
    assert Config(plugins="").plugin_names == ()


def test_a_path_is_a_log_file() -> None:
    path: Any = Path("/tmp/log")
    assert Config(log_file=path).log_file == "/tmp/log"


def test_nothing_configured_means_cpu_and_onnx_if_it_can_be() -> None:
    found = Config.from_env({})
    assert (found.log_level, found.endpoint) == (1, config.DEFAULT_ENDPOINT)
    assert found.plugin_names == ("cpu", "onnx?")


@pytest.mark.parametrize(
    ("names", "value", "field", "expected"),
    [
        (("VACCEL_PLUGINS", "VACCEL_BACKENDS"), "noop:cpu", "plugins", "noop:cpu"),
        (("VACCEL_LOG_LEVEL", "VACCEL_DEBUG_LEVEL"), "4", "log_level", 4),
        (("VACCEL_LOG_FILE",), "x.log", "log_file", "x.log"),
        (("VACCEL_PROFILING_ENABLED",), "1", "profiling_enabled", True),
        (("VACCEL_VERSION_IGNORE", "VACCEL_IGNORE_VERSION"), "true", "version_ignore", True),
        (
            ("VACCEL_RPC_ADDRESS", "VACCEL_RPC_ADDR", "VACCEL_VSOCK"),
            "tcp://board:8192",
            "endpoint",
            "tcp://board:8192",
        ),
    ],
)
def test_new_and_old_names_mean_the_same(
    names: tuple[str, ...], value: str, field: str, expected: object
) -> None:
    for name in names:
        assert getattr(Config.from_env({name: value}), field) == expected
        # An empty variable is none.
        assert Config.from_env({name: ""}) == Config.from_env({})


@pytest.mark.parametrize(
    ("new", "old", "field"),
    [
        ("VACCEL_PLUGINS", "VACCEL_BACKENDS", "plugins"),
        ("VACCEL_RPC_ADDRESS", "VACCEL_VSOCK", "endpoint"),
        ("VACCEL_RPC_ADDRESS", "VACCEL_RPC_ADDR", "endpoint"),
    ],
)
def test_the_new_name_wins(new: str, old: str, field: str) -> None:
    assert getattr(Config.from_env({old: "old", new: "new"}), field) == "new"


def test_time_limits() -> None:
    found = Config.from_env(
        {
            "VACCEL_RPC_CONNECT_TIMEOUT": "1.5",
            "VACCEL_RPC_CONTROL_TIMEOUT": "0",
            "VACCEL_RPC_TIMEOUT": "60",
        }
    ).timeouts
    assert (found.connect, found.control, found.operation) == (1.5, None, 60.0)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"VACCEL_LOG_LEVEL": "5"}, "VACCEL_LOG_LEVEL: expected 1 .* found '5'"),
        ({"VACCEL_DEBUG_LEVEL": "9"}, "VACCEL_DEBUG_LEVEL: expected 1 .*'9'"),
        ({"VACCEL_IGNORE_VERSION": "maybe"}, "VACCEL_IGNORE_VERSION: expected 0 or 1"),
        ({"VACCEL_PROFILING_ENABLED": "maybe"}, "VACCEL_PROFILING_ENABLED: expected 0 or 1"),
        ({"VACCEL_RPC_TIMEOUT": "-1"}, "VACCEL_RPC_TIMEOUT: expected seconds .*'-1'"),
        ({"VACCEL_RPC_TIMEOUT": "nan"}, "VACCEL_RPC_TIMEOUT: expected seconds"),
        ({"VACCEL_RPC_CONNECT_TIMEOUT": "soon"}, "VACCEL_RPC_CONNECT_TIMEOUT: .*'soon'"),
    ],
)
def test_a_bad_variable_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Config.from_env(variables)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_level": 0}, "log_level: expected .* found 0"),
        ({"log_level": "3"}, "log_level: expected .* found '3'"),
        ({"plugins": None}, "plugins: expected names .* found None"),
        ({"plugins": ["cpu"]}, "plugins: expected names"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Config(**options)


SWITCHES = [
    *((text, True) for text in ("1", "true", "True", "yes", "ON")),
    *((text, False) for text in ("0", "false", "False", "no", "OFF")),
]


@pytest.mark.parametrize(("text", "expected"), SWITCHES)
def test_a_switch_means_the_same_everywhere(text: str, expected: bool) -> None:
    assert config.auto_bootstrap({"VACCEL_BOOTSTRAP_ENABLED": text}) is expected
    assert config.auto_cleanup({"VACCEL_CLEANUP_ENABLED": text}) is expected
    assert Config.from_env({"VACCEL_PROFILING_ENABLED": text}).profiling_enabled is expected
    found = options.config(f"profiling_enabled={text}", {"VACCEL_PROFILING_ENABLED": "1"})
    assert found.profiling_enabled is expected


def test_automatic_steps_happen_unless_they_are_suppressed() -> None:
    for unset in ({}, {"VACCEL_BOOTSTRAP_ENABLED": "", "VACCEL_CLEANUP_ENABLED": ""}):
        assert config.auto_bootstrap(unset)
        assert config.auto_cleanup(unset)
