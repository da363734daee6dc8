"""TensorFlow.js graph models, written out as ONNX: for classifiers whose weights are published in no other form.

One literal table says how each operation is written; an operation that is not in it is an error that names it. Pictures
stay NHWC at the edges and between operations, as in the source: each convolution and pool turns them to NCHW and back,
and onnxruntime removes the pairs that meet. The same input gives the same bytes, so a manifest can pin the result.
"""
# onnx's protobuf classes carry no types of their fields.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
_IR = 8
"""Pinned, so that a newer onnx package writes the same file; onnxruntime reads older ones."""

_DTYPES: dict[str, type[np.generic]] = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}

_OF_ONNX = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)

Attributes = dict[str, Any]


class ConversionError(Exception):
    """The files are not a graph model that this file knows how to write; the message says what stands in the way."""


def convert(graph: bytes, shards: Sequence[bytes]) -> bytes:
    """The ONNX file of a graph model: its JSON, or the JavaScript module around it, and its weight files in order.

    Weight files are the bytes themselves or a JavaScript module with them in base64. Raises ConversionError.
    """
    source = _read(graph)
    try:
        weights = _weights(source, b"".join(_shard(each) for each in shards))
        return _Writer(source, weights).write()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, *_OF_ONNX) as error:
        raise ConversionError(
            f"the graph is not as TensorFlow.js writes one ({type(error).__name__}: {error})"
        ) from error


# --- reading ---------------------------------------------------------------------------------------------------------

_MODULE = re.compile(rb"\.exports\s*=\s*")


def _read(graph: bytes) -> dict[str, Any]:
    text = graph if graph.lstrip()[:1] == b"{" else _exported(graph)
    try:
        source = json.loads(text if text is graph else _as_json(text.decode()))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConversionError(f"the graph is not JSON and no module that exports it ({error})") from error
    if not isinstance(source, dict) or "modelTopology" not in source or "weightsManifest" not in source:
        raise ConversionError("the graph has no modelTopology and weightsManifest: not a TensorFlow.js graph model")
    return cast(dict[str, Any], source)


def _exported(module: bytes) -> bytes:
    """What a bundled CommonJS module assigns last to `.exports`: an object or a string. Nothing is executed."""
    found = [match.end() for match in _MODULE.finditer(module) if module[match.end() : match.end() + 1] in b'{"']
    if not found:
        raise ConversionError("the JavaScript module exports neither an object nor a string")
    return module[found[-1] :]


_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<truth>![01])'
    r"|(?P<key>[A-Za-z_$][\w$]*)(?=:)|(?P<word>true|false|null)|(?P<mark>[{}\[\]:,])"
)


def _as_json(text: str) -> str:
    """A minified object literal as JSON: keys without quotes, `!0` for true, numbers that begin with a point."""
    written: list[str] = []
    depth, position = 0, 0
    while True:
        token = _TOKEN.match(text, position)
        if token is None:
            raise ConversionError(f"the exported object is not plain data at character {position}")
        position = token.end()
        value = token.group()
        match token.lastgroup:
            case "key":
                written.append(f'"{value}"')
            case "truth":
                written.append("true" if value == "!0" else "false")
            case "number":
                written.append(re.sub(r"^(-?)\.", r"\g<1>0.", value))
            case _:
                written.append(value)
        depth += value in ("{", "[")
        depth -= value in ("}", "]")
        if depth == 0:
            return "".join(written)


def _shard(shard: bytes) -> bytes:
    if not shard.startswith((b"!function", b"module.exports", b'"use strict"')):
        return shard
    exported = _exported(shard)
    end = exported.find(b'"', 1)
    try:
        return base64.b64decode(exported[1:end], validate=True)
    except binascii.Error as error:
        raise ConversionError(f"a weight file exports no base64 ({error})") from error


def _weights(source: dict[str, Any], data: bytes) -> dict[str, NDArray[Any]]:
    """Name → values, quantised ones scaled back to float32."""
    weights: dict[str, NDArray[Any]] = {}
    offset = 0
    for group in source["weightsManifest"]:
        for entry in group["weights"]:
            name, shape, dtype = entry["name"], entry["shape"], entry["dtype"]
            packing = entry.get("quantization", {"dtype": dtype})
            stored = {"uint8": np.uint8, "uint16": np.uint16, "float16": np.float16, **_DTYPES}.get(packing["dtype"])
            if stored is None or dtype not in _DTYPES:
                raise ConversionError(f"the weight {name} is of type {dtype} stored as {packing['dtype']}")
            count = math.prod(shape)
            size = count * np.dtype(stored).itemsize
            if offset + size > len(data):
                raise ConversionError(f"the weight files end before {name}; a file is missing or out of order")
            values = np.frombuffer(data, stored, count, offset).reshape(shape)
            offset += size
            if "scale" in packing:
                # In float64 and rounded once, as JavaScript does: in float32 the scores move by 2e-5.
                values = values.astype(np.float64) * packing["scale"] + packing["min"]
            weights[name] = values.astype(_DTYPES[dtype])
    if offset != len(data):
        raise ConversionError(f"{len(data) - offset} bytes of the weight files belong to no weight")
    return weights


# --- writing ---------------------------------------------------------------------------------------------------------


class _Node:
    """One operation of the source: its name, kind, inputs (control edges left out) and attributes by plain value."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.name: str = raw["name"]
        self.op: str = raw["op"]
        self.inputs: list[str] = [_plain(each) for each in raw.get("input", []) if not each.startswith("^")]
        self.attributes: Attributes = {key: _value(value) for key, value in raw.get("attr", {}).items()}

    def refuse(self, why: str) -> ConversionError:
        return ConversionError(f"{self.op} {self.name}: {why}")


def _plain(reference: str) -> str:
    """`node:0` is the first output, as `node` is. Others no operation of the table has."""
    name, colon, output = reference.partition(":")
    if colon and output != "0":
        raise ConversionError(f"{reference}: an operation with several outputs")
    return name


def _value(attribute: dict[str, Any]) -> Any:
    """{"list": {"i": ["1", "2"]}} → [1, 2]; {"s": "U0FNRQ=="} → "SAME"."""
    for key, value in attribute.items():
        match key:
            case "list":
                return [_value({kind: each}) for kind, values in value.items() for each in values]
            case "s":
                return base64.b64decode(value).decode()
            case "i":
                return int(value)
            case "shape":
                return [int(each["size"]) for each in value.get("dim", [])]
            case _:
                return value
    return None


class _Writer:
    """Walks the source's nodes in their order, which is topological after the converter, and writes each one's ONNX."""

    def __init__(self, source: dict[str, Any], weights: dict[str, NDArray[Any]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.raw = [_Node(raw) for raw in source["modelTopology"]["node"]]
        declared = source.get("userDefinedMetadata", {}).get("signature", {}) or source.get("signature", {})
        self.outputs = [_plain(each["name"]) for each in declared.get("outputs", {}).values()]
        if not self.outputs:
            used = {name for node in self.raw for name in node.inputs}
            self.outputs = [node.name for node in self.raw if node.name not in used]

    def write(self) -> bytes:
        for node in _ordered(self.raw):
            if node.op not in OPERATIONS:
                raise ConversionError(f"the operation {node.op} ({node.name}) is not in the table; add it to tfjs.py")
            OPERATIONS[node.op](self, node)
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "tfjs", self.inputs, outputs, list(self.initializers.values()))
        model = helper.make_model(
            graph, producer_name="customhouse", ir_version=_IR, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)

    def constant(self, node: _Node, index: int) -> NDArray[Any]:
        """The values of an input that has to be known while writing."""
        name = node.inputs[index]
        if name not in self.weights:
            raise node.refuse(f"its input {name} is computed, not constant")
        return self.weights[name]

    def hold(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        for each in inputs:
            if each in self.weights:
                self.hold(each, self.weights[each])
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def turned(self, op: str, inputs: Sequence[str], node: _Node, **attributes: Any) -> str:
        """An operation that ONNX knows in NCHW only. Returns where its NHWC result lies, not yet under node's name."""
        before = self.add("Transpose", [inputs[0]], f"{node.name}/nchw", perm=[0, 3, 1, 2])
        done = self.add(op, [before, *inputs[1:]], f"{node.name}/{op.lower()}", **attributes)
        return self.add("Transpose", [done], f"{node.name}/nhwc", perm=[0, 2, 3, 1])


def _ordered(nodes: list[_Node]) -> list[_Node]:
    """Inputs before those who use them."""
    waiting = {node.name: node for node in nodes}
    done: dict[str, _Node] = {}
    for root in nodes:
        stack = [root.name]
        while stack:
            node = waiting.get(stack[-1])
            if node is None:
                raise ConversionError(f"{stack[-1]} is used but not in the graph")
            missing = [name for name in node.inputs if name not in done and name != node.name]
            if len(stack) > len(nodes):
                raise ConversionError("the graph has a circle")
            if missing:
                stack.append(missing[0])
            else:
                done.setdefault(node.name, node)
                stack.pop()
    return list(done.values())


def _placeholder(writer: _Writer, node: _Node) -> None:
    shape = [("N" if size < 0 or at == 0 else size) for at, size in enumerate(node.attributes.get("shape") or [])]
    if not shape:
        raise node.refuse("its shape is not given")
    writer.inputs.append(helper.make_tensor_value_info(node.name, TensorProto.FLOAT, shape))


def _const(writer: _Writer, node: _Node) -> None:
    if node.name not in writer.weights:
        raise node.refuse("its values are in none of the weight files")


def _convolution(writer: _Writer, node: _Node) -> None:
    """Conv2D and DepthwiseConv2dNative, alone or with what the optimiser fused behind them."""
    _channels_last(node)
    kernel = writer.constant(node, 1)
    if "Depthwise" in node.op:
        height, width, channels, multiplier = kernel.shape
        # [h, w, in, multiplier] → [in × multiplier, 1, h, w], one group for each input channel.
        oihw = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
        groups = channels
    else:
        oihw, groups = kernel.transpose(3, 2, 0, 1), 1
    inputs = [node.inputs[0], writer.hold(f"{node.inputs[1]}/oihw", oihw)]
    fused: list[str] = list(node.attributes.get("fused_ops") or [])
    if fused[:1] == ["BiasAdd"]:
        fused.pop(0)
        inputs.append(node.inputs[2])
    done = writer.turned(
        "Conv",
        inputs,
        node,
        kernel_shape=list(oihw.shape[2:]),
        strides=node.attributes["strides"][1:3],
        dilations=(node.attributes.get("dilations") or [1, 1, 1, 1])[1:3],
        group=groups,
        **_padding(node),
    )
    _activated(writer, node, done, fused)


def _matmul(writer: _Writer, node: _Node) -> None:
    if node.attributes.get("transpose_a"):
        raise node.refuse("transpose_a")
    weight = writer.constant(node, 1)
    if node.attributes.get("transpose_b"):
        weight = weight.T
    done = writer.add("MatMul", [node.inputs[0], writer.hold(f"{node.inputs[1]}/kn", weight)], f"{node.name}/matmul")
    fused: list[str] = list(node.attributes.get("fused_ops") or [])
    if fused[:1] == ["BiasAdd"]:
        fused.pop(0)
        done = writer.add("Add", [done, node.inputs[2]], f"{node.name}/bias")
    _activated(writer, node, done, fused)


def _activated(writer: _Writer, node: _Node, done: str, fused: list[str]) -> None:
    """The last fused operation, under the node's own name."""
    if not fused:
        writer.add("Identity", [done], node.name)
    elif fused == ["Relu"]:
        writer.add("Relu", [done], node.name)
    elif fused == ["Relu6"]:
        _clip(writer, done, node.name)
    else:
        raise node.refuse(f"fused with {', '.join(fused)}")


def _clip(writer: _Writer, done: str, name: str) -> None:
    low, high = writer.hold("relu6/min", np.array(0, np.float32)), writer.hold("relu6/max", np.array(6, np.float32))
    writer.add("Clip", [done, low, high], name)


def _pool(kind: str) -> Callable[[_Writer, _Node], None]:
    def write(writer: _Writer, node: _Node) -> None:
        _channels_last(node)
        size, strides = node.attributes["ksize"][1:3], node.attributes["strides"][1:3]
        extra = {"count_include_pad": 0} if kind == "AveragePool" else {}
        done = writer.turned(
            kind, [node.inputs[0]], node, kernel_shape=size, strides=strides, **_padding(node), **extra
        )
        writer.add("Identity", [done], node.name)

    return write


def _padding(node: _Node) -> dict[str, Any]:
    match node.attributes.get("padding"):
        case "SAME":
            return {"auto_pad": "SAME_UPPER"}  # TensorFlow puts the odd pixel at the end, as this does
        case "VALID":
            return {"auto_pad": "VALID"}
        case "EXPLICIT":
            _, _, top, bottom, left, right, _, _ = node.attributes["explicit_paddings"]
            return {"pads": [top, left, bottom, right]}
        case other:
            raise node.refuse(f"padding {other}")


def _channels_last(node: _Node) -> None:
    if node.attributes.get("data_format", "NHWC") != "NHWC":
        raise node.refuse(f"data_format {node.attributes['data_format']}")


def _batch_norm(writer: _Writer, node: _Node) -> None:
    """Inference: (x − mean) ÷ √(variance + ε) × scale + offset, as one product and one sum."""
    _channels_last(node)
    if node.attributes.get("is_training"):
        raise node.refuse("it is in training")
    scale, offset, mean, variance = (writer.constant(node, index).astype(np.float64) for index in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon") or 1e-3))
    product = writer.hold(f"{node.name}/factor", factor.astype(np.float32))
    rest = writer.hold(f"{node.name}/rest", (offset - mean * factor).astype(np.float32))
    scaled = writer.add("Mul", [node.inputs[0], product], f"{node.name}/scaled")
    writer.add("Add", [scaled, rest], node.name)


def _pad(writer: _Writer, node: _Node) -> None:
    pads = writer.constant(node, 1).astype(np.int64)
    value = float(writer.constant(node, 2)) if len(node.inputs) > 2 else 0.0
    amounts = writer.hold(f"{node.name}/pads", pads.T.reshape(-1))
    writer.add(
        "Pad", [node.inputs[0], amounts, writer.hold(f"{node.name}/value", np.array(value, np.float32))], node.name
    )


def _reshape(writer: _Writer, node: _Node) -> None:
    """The first dimension is the batch's: a fixed 1 there is left open, so that several pictures go at once."""
    shape = writer.constant(node, 1).astype(np.int64)
    if shape.size and shape[0] == 1 and not (shape[1:] < 0).any():
        shape = np.concatenate([[-1], shape[1:]])
    writer.add("Reshape", [node.inputs[0], writer.hold(f"{node.name}/shape", shape)], node.name)


def _mean(writer: _Writer, node: _Node) -> None:
    axes = [int(each) for each in writer.constant(node, 1).reshape(-1)]
    writer.add(
        "ReduceMean", [node.inputs[0]], node.name, axes=axes, keepdims=int(bool(node.attributes.get("keep_dims")))
    )


def _squeeze(writer: _Writer, node: _Node) -> None:
    axes: list[int] = node.attributes.get("squeeze_dims") or []
    if not axes:
        raise node.refuse("its axes are not given, and the batch's must stay")
    writer.add("Squeeze", [node.inputs[0], writer.hold(f"{node.name}/axes", np.array(axes, np.int64))], node.name)


def _concat(writer: _Writer, node: _Node) -> None:
    *inputs, _ = node.inputs
    writer.add("Concat", inputs, node.name, axis=int(writer.constant(node, len(inputs))))


def _relu6(writer: _Writer, node: _Node) -> None:
    _clip(writer, node.inputs[0], node.name)


def _as(op: str, **attributes: Any) -> Callable[[_Writer, _Node], None]:
    """An operation that ONNX has under another name, or the same."""

    def write(writer: _Writer, node: _Node) -> None:
        writer.add(op, node.inputs, node.name, **attributes)

    return write


OPERATIONS: dict[str, Callable[[_Writer, _Node], None]] = {
    "Placeholder": _placeholder,
    "Const": _const,
    "Identity": _as("Identity"),
    "Conv2D": _convolution,
    "_FusedConv2D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "FusedDepthwiseConv2dNative": _convolution,
    "MatMul": _matmul,
    "_FusedMatMul": _matmul,
    "BiasAdd": _as("Add"),
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "Add": _as("Add"),
    "AddV2": _as("Add"),
    "Sub": _as("Sub"),
    "Mul": _as("Mul"),
    "Relu": _as("Relu"),
    "Relu6": _relu6,
    "Sigmoid": _as("Sigmoid"),
    "Softmax": _as("Softmax", axis=-1),
    "MaxPool": _pool("MaxPool"),
    "AvgPool": _pool("AveragePool"),
    "Mean": _mean,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ConcatV2": _concat,
}
"""What can be written. A further operation is a further row."""
