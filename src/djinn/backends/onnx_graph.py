"""An ST-transformer over tokens as a graph of ONNX operators, built in memory for playing.

Rows are ordered frame, game, position: a frame's tokens lie together for attention over space, and the heads of each position
are problems of their own for attention over time, with nothing moved. The choice among operators that do the same is by
measurement (docs/log.md): ONNX Runtime's normalisations of many short vectors, and its sum and norm in one, are slow.

Shapes: t frames, b games, n positions of a frame, d model width, h heads, k width of a head, s slots of the cache.
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
    """Nodes and weights of a graph that grows; weights stay outside of it and are handed to ONNX Runtime beside it.

    Args:
        int8: weights of `linear` are rounded to eight bits, with a scale for each result, and so is what they are
            multiplied with, with one scale for all of it in each run.
    """

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self._rounded: dict[str, list[str]] = {}
        self.graph = GraphProto(name="djinn")
        self.weights: dict[str, np.ndarray] = {}
        self.width = 0
        """Width of the results."""

    def input(self, name: str, shape: Sequence[str | int], kind: int = TensorProto.FLOAT) -> str:
        """Declares what is given in each run."""
        self.graph.input.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def result(self, op: str, name: str, *inputs: str) -> None:
        """Adds a node whose output is one of the graph's."""
        self.graph.node.append(helper.make_node(op, inputs, [name]))
        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    def weight(self, value: Tensor | list[int]) -> str:
        """Adds a constant: fp32 or int8 of the model's, or whole numbers, such as a shape."""
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
        """Adds a node and names its outputs."""
        names = [f"x{len(self.graph.node)}_{i}" for i in range(outputs)]
        self.graph.node.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names

    def __call__(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output."""
        return self.add(op, *inputs, domain=domain, **attributes)[0]

    def reshape(self, x: str, *shape: int) -> str:
        """A 0 in the shape keeps that dimension, -1 takes what is left."""
        return self("Reshape", x, self.weight(list(shape)))

    def linear(self, x: str, weight: Tensor) -> str:
        """Applies weights `(out, in)` to the last dimension."""
        if not self.int8:
            return self("MatMul", x, self.weight(weight.T))
        weight = weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
        rounded = (weight / scale[:, None]).round().to(torch.int8)
        zero = torch.zeros(len(weight), dtype=torch.int8)
        if x not in self._rounded:  # once for all that it is multiplied with
            self._rounded[x] = self.add("DynamicQuantizeLinear", x, outputs=3)
        of, of_scale, of_zero = self._rounded[x]
        given = of, self.weight(rounded.T), of_scale, self.weight(scale), of_zero, self.weight(zero)
        return self("MatMulIntegerToFloat", *given, domain="com.microsoft")

    def model(self) -> ModelProto:
        """The finished graph."""
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
    """The graph from tokens to what `head` makes of the transformer's results, `result` `(1, rows, out)`.

    Its inputs are `tokens` `(t, b, n)`; `query_positions`, the rows of `(t b n)` whose results are asked for; `action` `(t b, 1, d)`
    where there is one; and what the frames' times say, for which see `djinn.backends.onnx_backend`. The cache of each attention over
    time goes in as `keys0`, `values0` and so on, `(b n h, s, k)`, and comes out as `new_keys0` with the new frames in it; both
    may be the same memory.

    Args:
        table: what stands for each token, `(codes, d)`.
        position: what is added to it at each position, `(n, d)`.
        transformer: the transformer, with its weights as they are now.
        head: the linear layer on top.
        action: how the action comes in: `add` or `prepend`; None where there is none.
        int8: whether the transformer's products with weights are in eight bits.
    """
    g = Builder(int8)
    d, positions = table.shape[1], len(position)
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
    x = g("Gather", g.weight(table), g.input("tokens", ["t", "b", positions], INT64))
    x = g.reshape(g("Add", x, g.weight(position)), -1, positions, d)
    if action is not None:
        action_emb = g.input("action", ["tb", 1, d])
        x = g("Add", x, action_emb) if action == "add" else g("Concat", action_emb, x, axis=1)
    n, attending = positions + (action == "prepend"), 0
    for i, block in enumerate(transformer.blocks):
        assert isinstance(block, STBlock)
        x = g("Add", x, _over_space(g, _norm(g, x, block.space_norm), block.space, n))
        if block.time is not None:
            assert block.time_norm is not None
            x = g("Add", x, _over_time(g, _norm(g, x, block.time_norm), block.time, n, attending))
            attending += 1
        if i == len(transformer.blocks) - 1:
            x = g("Gather", g.reshape(x, 1, -1, d), "query_positions", axis=1)
        hidden = g("Relu", g.linear(_norm(g, x, block.ffn_norm), block.ffn_in.weight))
        x = g("Add", x, g.linear(g("Mul", hidden, hidden), block.ffn_out.weight))
    x = g("MatMul", _norm(g, x, transformer.norm), g.weight(head.weight.T))  # never in eight bits: draws hang on it
    g.width = head.out_features
    g.result("Add", "result", x, g.weight(head.bias))
    return g


def _norm(g: Builder, x: str, norm: nn.LayerNorm) -> str:
    return g("LayerNormalization", x, g.weight(norm.weight), axis=-1, epsilon=norm.eps)


def _project(g: Builder, x: str, layer: SpatialAttention | TemporalAttention) -> tuple[str, str]:
    """Normalised queries and keys `(t b n, 2 h, 1, k)`, queries also times the root of k, and values `(t b, n, h k)`."""
    inner, width = layer.heads * layer.head_dim, layer.head_dim
    qk, v = (g.linear(x, part) for part in layer.qkv.weight.split((2 * inner, inner)))
    qk = g.reshape(qk, -1, 2 * layer.heads, 1, width)
    squares = g("ReduceSum", g("Mul", qk, qk), g.weight([-1]), keepdims=1)
    length = g("Sqrt", g("Add", squares, g.weight(layer.qk_scale.new_full((1,), 1e-12))))
    qk_scale = layer.qk_scale * layer.qk_scale.new_tensor([width**0.5, 1])[:, None, None]
    return g("Mul", qk, g("Div", g.weight(qk_scale.reshape(-1, 1, 1)), length)), v


def _over_space(g: Builder, x: str, layer: SpatialAttention, n: int) -> str:
    heads, inner = layer.heads, layer.heads * layer.head_dim
    qk, v = _project(g, x, layer)
    q, k = g.add("Split", g.reshape(qk, -1, n, 2 * inner), outputs=2, axis=-1)
    y = g("MultiHeadAttention", q, k, v, domain="com.microsoft", num_heads=heads, scale=1.0)
    return g.linear(y, layer.out.weight)


def _over_time(g: Builder, x: str, layer: TemporalAttention, n: int, i: int) -> str:
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
