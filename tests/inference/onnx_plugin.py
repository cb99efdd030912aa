"""A plugin with the ONNX model operations alone."""

from __future__ import annotations

from vaccel.inference.loaded import ModelPlugin
from vaccel.inference.onnx_models import ENGINE, OnnxModel, open_model, register
from vaccel.plugin import PluginType

plugin: ModelPlugin[OnnxModel] = ModelPlugin("onnx", PluginType.CPU, open_model, engine=ENGINE)
register(plugin)
