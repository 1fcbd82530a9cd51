"""Cached passes of an ST-transformer over tokens as ONNX graphs, built in memory.

Rows are ordered (frame, game, position). The tokens of a frame are contiguous, as spatial attention
needs them, and each head at each position is a batch element of temporal attention, so no
transposition is needed. Equivalent operators were chosen by measurement (docs/log.md): ONNX
Runtime's normalizations of many short vectors and its fused sum and norm are slow.

Shapes: t frames, b games, n positions per frame, d model width, h heads, k width of a head, s slots
of the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper
from torch import Tensor, nn

from djinn.nn import SpatialAttention, STBlock, STTransformer, TemporalAttention

OPSETS = {"": 17, "com.microsoft": 1}
INT64 = TensorProto.INT64


class Builder:
    """Builder of an ONNX graph whose weights are external initializers.

    Args:
        int8: Quantize `linear` to int8: weights with one scale per output feature, activations
            dynamically with one scale per tensor.
    """

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self._quantized: dict[str, list[str]] = {}
        """Outputs of `DynamicQuantizeLinear` by the name of its input."""
        self.graph = GraphProto(name="djinn")
        self.weights: dict[str, np.ndarray] = {}
        self.width = 0
        """Width of the graph's result."""

    def input(self, name: str, shape: Sequence[str | int], kind: int = TensorProto.FLOAT) -> str:
        """Declare an input of the graph and return its name."""
        self.graph.input.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def result(self, op: str, name: str, *inputs: str) -> None:
        """Add a node whose output is an output of the graph."""
        self.graph.node.append(helper.make_node(op, inputs, [name]))
        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    def weight(self, value: Tensor | list[int]) -> str:
        """Add a constant and return its name.

        Args:
            value: An fp32 or int8 tensor, or a list of integers such as a shape.
        """
        name = f"w{len(self.graph.initializer)}"
        if isinstance(value, list):
            self.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(value)], value))
            return name
        small = value.dtype == torch.int8
        self.weights[name] = np.ascontiguousarray((value if small else value.detach().float()).numpy())
        tensor = TensorProto(name=name, dims=value.shape, data_type=TensorProto.INT8 if small else TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="memory")
        self.graph.initializer.append(tensor)
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        names = [f"x{len(self.graph.node)}_{i}" for i in range(outputs)]
        self.graph.node.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names

    def __call__(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.add(op, *inputs, domain=domain, **attributes)[0]

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape a tensor; 0 keeps a dimension, -1 is inferred."""
        return self("Reshape", x, self.weight(list(shape)))

    def linear(self, x: str, weight: Tensor) -> str:
        """Multiply the last dimension by weights `(out, in)`."""
        if not self.int8:
            return self("MatMul", x, self.weight(weight.T))
        weight = weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
        quantized = (weight / scale[:, None]).round().to(torch.int8)
        zero = torch.zeros(len(weight), dtype=torch.int8)
        if x not in self._quantized:  # shared by all layers with this input
            self._quantized[x] = self.add("DynamicQuantizeLinear", x, outputs=3)
        x8, x_scale, x_zero = self._quantized[x]
        inputs = x8, self.weight(quantized.T), x_scale, self.weight(scale), x_zero, self.weight(zero)
        return self("MatMulIntegerToFloat", *inputs, domain="com.microsoft")

    def model(self) -> ModelProto:
        """Return the finished model."""
        opsets = [helper.make_opsetid(*opset) for opset in OPSETS.items()]
        return helper.make_model(self.graph, opset_imports=opsets, ir_version=8)


def transformer_graph(
    table: Tensor,
    position: Tensor,
    transformer: STTransformer,
    head: nn.Linear,
    action: str | None = None,
    int8: bool = False,
) -> Builder:
    """Build the graph of a cached pass: token embedding, transformer and output layer.

    Inputs: `tokens` `(t, b, n)`; `query_positions`, flat indices into `(t, b, n)` of the rows to
    return; `action` `(t*b, 1, d)` if there is one; the inputs that depend on the frames' times
    (`OnnxRunner` lists them); and the cache of each temporal attention, `keys0`, `values0` and so
    on, `(b*n*h, s, k)`.

    Outputs: `result` `(1, rows, out)`, and the caches with the new frames, `new_keys0` and so on,
    which may share memory with the inputs.

    Args:
        table: Embedding of each token, `(codes, d)`.
        position: Position embedding, `(n, d)`.
        transformer: The transformer; the graph has its current weights.
        head: Output layer.
        action: Action conditioning, `add` or `prepend`; None if there are no actions.
        int8: Whether the transformer's linear layers are quantized to int8.
    """
    g = Builder(int8)
    d, num_positions = table.shape[1], len(position)
    for name, shape, kind in (
        ("query_positions", ["rows"], INT64),
        ("cosine", ["t", "half"], TensorProto.FLOAT),
        ("sine", ["t", "half"], TensorProto.FLOAT),
        ("time", ["tbn", 1], INT64),
        ("by_frame", [3], INT64),
        ("slots", ["tbn", "h", 1, 2], INT64),
        ("bias", ["t", "s"], TensorProto.FLOAT),
    ):
        g.input(name, shape, kind)
    x = g("Gather", g.weight(table), g.input("tokens", ["t", "b", num_positions], INT64))
    x = g.reshape(g("Add", x, g.weight(position)), -1, num_positions, d)
    if action is not None:
        action_emb = g.input("action", ["tb", 1, d])
        x = g("Add", x, action_emb) if action == "add" else g("Concat", action_emb, x, axis=1)
    n, cache_index = num_positions + (action == "prepend"), 0
    for i, block in enumerate(transformer.blocks):
        assert isinstance(block, STBlock)
        x = g("Add", x, _spatial_attention(g, _norm(g, x, block.space_norm), block.space, n))
        if block.time is not None:
            assert block.time_norm is not None
            x = g("Add", x, _temporal_attention(g, _norm(g, x, block.time_norm), block.time, n, cache_index))
            cache_index += 1
        if i == len(transformer.blocks) - 1:
            x = g("Gather", g.reshape(x, 1, -1, d), "query_positions", axis=1)
        hidden = g("Relu", g.linear(_norm(g, x, block.ffn_norm), block.ffn_in.weight))
        x = g("Add", x, g.linear(g("Mul", hidden, hidden), block.ffn_out.weight))
    x = g("MatMul", _norm(g, x, transformer.norm), g.weight(head.weight.T))  # fp32, since sampling depends on it
    g.width = head.out_features
    g.result("Add", "result", x, g.weight(head.bias))
    return g


def _norm(g: Builder, x: str, norm: nn.LayerNorm) -> str:
    return g("LayerNormalization", x, g.weight(norm.weight), axis=-1, epsilon=norm.eps)


def _project(g: Builder, x: str, layer: SpatialAttention | TemporalAttention) -> tuple[str, str]:
    """Return normalized queries and keys `(t*b*n, 2*h, 1, k)` and values `(t*b, n, h*k)`.

    Queries are scaled by the square root of k, as `djinn.nn.kernels.attention` scales the scores.
    """
    inner, width = layer.heads * layer.head_dim, layer.head_dim
    qk, v = (g.linear(x, part) for part in layer.qkv.weight.split((2 * inner, inner)))
    qk = g.reshape(qk, -1, 2 * layer.heads, 1, width)
    squares = g("ReduceSum", g("Mul", qk, qk), g.weight([-1]), keepdims=1)
    length = g("Sqrt", g("Add", squares, g.weight(layer.qk_scale.new_full((1,), 1e-12))))
    qk_scale = layer.qk_scale * layer.qk_scale.new_tensor([width**0.5, 1])[:, None, None]
    return g("Mul", qk, g("Div", g.weight(qk_scale.reshape(-1, 1, 1)), length)), v


def _spatial_attention(g: Builder, x: str, layer: SpatialAttention, n: int) -> str:
    heads, inner = layer.heads, layer.heads * layer.head_dim
    qk, v = _project(g, x, layer)
    q, k = g.add("Split", g.reshape(qk, -1, n, 2 * inner), outputs=2, axis=-1)
    y = g("MultiHeadAttention", q, k, v, domain="com.microsoft", num_heads=heads, scale=1.0)
    return g.linear(y, layer.out.weight)


def _temporal_attention(g: Builder, x: str, layer: TemporalAttention, n: int, i: int) -> str:
    heads, width = layer.heads, layer.head_dim
    qk, v = _project(g, x, layer)
    qk = g("RotaryEmbedding", qk, "time", "cosine", "sine", domain="com.microsoft")
    q, k = g.add("Split", qk, outputs=2, axis=1)
    v = g.reshape(v, -1, heads, 1, width)
    for name, new in (("keys", k), ("values", v)):
        g.result("ScatterND", f"new_{name}{i}", g.input(f"{name}{i}", ["bnh", "s", width]), "slots", new)
    q = g("Reshape", q, "by_frame")  # t (b n h) k
    scores = g("FusedMatMul", q, f"new_keys{i}", domain="com.microsoft", transBatchA=1, transB=1)  # (b n h) t s
    p = g("Softmax", g("Add", scores, "bias"), axis=-1)
    y = g("Transpose", g("MatMul", p, f"new_values{i}"), perm=[1, 0, 2])
    return g.linear(g.reshape(y, -1, n, heads * width), layer.out.weight)
