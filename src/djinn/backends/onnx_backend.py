"""Playing through ONNX Runtime on a CPU, where torch spends much of a frame between its many small operations."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Lock

import numpy as np
import onnxruntime
import torch
from jaxtyping import Bool, Float, Int
from onnxruntime.capi.onnxruntime_pybind11_state import Fail  # pyrefly: ignore[missing-import]
from torch import Tensor, nn

from djinn.backends.onnx_graph import Builder, transformer_graph
from djinn.models.dynamics import DynamicsModel
from djinn.models.tokenizer import VideoTokenizer
from djinn.models.world import World
from djinn.nn import KVCache, STTransformer


@torch.no_grad()
def through_onnx(world: World, int8: bool = False) -> World:
    """A world that plays like this one, with weights as they are now; it shares everything but `dynamics` and `tokenizer`.

    Args:
        world: the world, on a CPU.
        int8: whether the dynamics multiplies with its weights in eight bits.
    """
    played = copy.copy(world)
    played._modules = {**world._modules, "dynamics": OnnxDynamics(world.dynamics, int8)}
    if isinstance(world.tokenizer.decoder, STTransformer):  # the rivals of Table 3 stay with torch
        played._modules["tokenizer"] = OnnxTokenizer(world.tokenizer)
    return played


@cache
def _share_threads() -> None:
    """Gives all graphs one pool of threads: of two pools one would wait for work on the core that the other needs.

    A process has one such pool. It is as large as torch's is when the first world is opened, unless another part of the
    program made it before.
    """
    with suppress(Fail):
        onnxruntime.set_global_thread_pool_sizes(torch.get_num_threads(), 1)


class OnnxRunner:
    """Runs a graph of `transformer_graph`; new keys and values are written where the session's cache has them.

    Args:
        graph: the graph.
        transformer: what it was made from.
        positions: of a frame, as the transformer has them.
    """

    def __init__(self, graph: Builder, transformer: STTransformer, positions: int) -> None:
        _share_threads()
        options = onnxruntime.SessionOptions()
        options.use_per_session_threads = False
        basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # more brings slower norms
        options.graph_optimization_level = basic
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(x) for x in graph.weights.values()]  # it has no copy
        options.add_external_initializers(list(graph.weights), self._weights)
        model = graph.model().SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._config, self._positions, self._width = transformer.config, positions, graph.width
        self._attentions = sum(block.time is not None for block in transformer.blocks)
        self._binding = self._session.io_binding()
        self._cache: Callable[[], KVCache | None] = lambda: None
        """The cache that is bound, as long as it lives; its memory stays where it is."""
        self._when = (-1, 0)
        """First frame and number of frames of the last run."""
        self._one_at_a_time = Lock()

    def __call__(
        self,
        tokens: Int[Tensor, "b t n"],
        cache: KVCache,
        first: int,
        query_positions: Int[Tensor, " m"],
        **more: Tensor,
    ) -> Float[Tensor, "m out"]:
        """The results of the next frames of a video, which are added to `cache`; see `STTransformer.forward`.

        Args:
            tokens: tokens of the frames.
            cache: keys and values of earlier frames.
            first: time of the first frame.
            query_positions: rows of `(t b n)` whose results are asked for.
            **more: the graph's own inputs.
        """
        b, t, _ = tokens.shape
        rows = len(query_positions)
        result = torch.empty(max(rows, 1), self._width)  # ONNX Runtime refuses the null pointer of an empty tensor
        with self._one_at_a_time:
            self._bind({"tokens": tokens.transpose(0, 1), "query_positions": query_positions, **more})
            self._bind_past(cache, first, t, b)
            self._binding.bind_output("result", "cpu", 0, np.float32, (1, rows, self._width), result.data_ptr())
            self._session.run_with_iobinding(self._binding)
        return result[:rows]

    def _bind(self, inputs: dict[str, Tensor]) -> None:
        for name, x in inputs.items():
            self._binding.bind_cpu_input(name, x.contiguous().numpy())

    def _bind_past(self, cache: KVCache, first: int, t: int, b: int) -> None:
        """The cache, and what the times of the frames say; the passes of a frame all ask for the same.

        The latter are the `cosine` and `sine` `(t, k/2)` of rotation; `time` `(t b n, 1)`, which row of them is whose;
        the shape `by_frame`, `(t, -1, k)`; `slots` `(t b n, h, 1, 2)`, the rows of the cache that new keys take; and `bias`
        `(t, s)`, what a frame sees.
        """
        same = self._cache() is cache
        if same and self._when == (first, t):
            return
        heads, width, games = self._config.heads, self._config.head_dim, b * self._positions
        rotary, bias = cache.reserve_slots(self._attentions, first, t, width, torch.device("cpu"))
        if not same:
            one = torch.empty(b, self._positions, heads, 1, width)
            for i, x in enumerate(x for layer in cache.layers for x in layer.memory(one)):
                name, place = f"{('keys', 'values')[i % 2]}{i // 2}", (games * heads, cache.slots, width)
                self._binding.bind_input(name, "cpu", 0, np.float32, place, x.data_ptr())
                self._binding.bind_output(f"new_{name}", "cpu", 0, np.float32, place, x.data_ptr())
        slot = torch.arange(first, first + t)[:, None] % cache.slots
        row = torch.arange(games * heads)
        self._bind(
            {
                "cosine": rotary[0, :, : width // 2],
                "sine": rotary[1, :, width // 2 :],
                "time": torch.arange(t).repeat_interleave(games)[:, None],
                "by_frame": torch.tensor([t, -1, width]),
                "slots": torch.stack(torch.broadcast_tensors(row, slot), dim=-1).view(t * games, -1, 1, 2),
                "bias": bias,
            }
        )
        self._cache, self._when = weakref.ref(cache), (first, t)


class OnnxDynamics(nn.Module):
    """The dynamics model as it is played.

    Args:
        model: the model.
        int8: whether it multiplies with its weights in eight bits.
    """

    def __init__(self, model: DynamicsModel, int8: bool) -> None:
        super().__init__()
        self.model = model
        position = model.position.table()
        self._positions = len(position) + model.num_prefix_tokens
        leading = model.config.action
        graph = transformer_graph(model.embed.weight, position, model.transformer, model.to_logits, leading, int8=int8)
        self._run = OnnxRunner(graph, model.transformer, self._positions)

    def forward(
        self,
        tokens: Int[Tensor, "b t n"],
        masked: Bool[Tensor, "b t n"] | None,
        actions: Float[Tensor, "b a d"],
        *,
        cache: KVCache,
        first: int = 0,
        query_positions: Int[Tensor, " m"],
    ) -> Float[Tensor, "m v"]:
        """Run a cached pass of `DynamicsModel.forward`."""
        b, t, n = tokens.shape
        if masked is not None:
            tokens = tokens.masked_fill(masked, self.model.num_codes)
        # (b t n) -> (t b prefix+n)
        frame, position = query_positions // n, query_positions % n
        rows = (frame % t * b + frame // t) * self._positions + position + self.model.num_prefix_tokens
        action_emb = self.model.embed_actions(actions, first).transpose(0, 1).reshape(t * b, 1, -1)
        return self._run(tokens, cache, first, rows, action=action_emb)


class OnnxTokenizer(nn.Module):
    """The tokenizer as it is played: its decoder's next frames go through ONNX Runtime.

    Args:
        model: the tokenizer.
    """

    def __init__(self, model: VideoTokenizer) -> None:
        super().__init__()
        self.model = model
        position = model.decoder_position.table()
        table = model.from_code(model.quantizer.codes())
        assert isinstance(model.decoder, STTransformer)
        graph = transformer_graph(table, position, model.decoder, model.from_patches.to_pixels)
        self._run = OnnxRunner(graph, model.decoder, len(position))

    def encode(self, video: Float[Tensor, "b t h w 3"]) -> Int[Tensor, "b t n"]:
        """What `VideoTokenizer.encode` does, by torch."""
        return self.model.encode(video)

    def decode(
        self, tokens: Int[Tensor, "b t n"], cache: KVCache | None = None, first: int = 0
    ) -> Float[Tensor, "b t h w 3"]:
        """What `VideoTokenizer.decode` does, by torch without a cache."""
        if cache is None:
            return self.model.decode(tokens)
        b, t, n = tokens.shape
        x = self._run(tokens, cache, first, torch.arange(t * b * n)).view(t, b, n, -1).transpose(0, 1)
        return ((self.model.from_patches.arrange(x) + 1) / 2).clamp(0, 1)
