"""Ask for an accelerated operation by meaning; a plugin carries it out, here or elsewhere."""

from vaccel._version import __version__
from vaccel.blob import ResourceType
from vaccel.config import Config
from vaccel.ops.args import Arg, ArgType
from vaccel.ops.catalog import OpType
from vaccel.plugin import PluginType
from vaccel.resource import Resource
from vaccel.runtime import bootstrap, cleanup
from vaccel.session import Session

__all__ = [
    "Arg",
    "ArgType",
    "Config",
    "OpType",
    "PluginType",
    "Resource",
    "ResourceType",
    "Session",
    "__version__",
    "bootstrap",
    "cleanup",
]
