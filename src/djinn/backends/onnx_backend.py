"""Backend of ONNX Runtime on a CPU.

On a CPU, the overhead of many small operations takes much of torch's time per frame.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from threading import Lock

import numpy as np
import onnxruntime
import torch
from jaxtyping import Bool, Float, Int
from onnxruntime.capi.onnxruntime_pybind11_state import Fail  # pyrefly: ignore[missing-import]
from torch import Tensor

from djinn.backends.onnx_graph import Builder, transformer_graph
from djinn.models.world import World
from djinn.nn import KVCache, STTransformer
from djinn.nn.cpu_parallel import torch_threads


class OnnxBackend:
    """Backend that runs the dynamics model and the decoder as ONNX graphs.

    The graphs have the weights that the world has at construction.
    Tokenizers of other kinds than `st-vivit` are decoded by torch.

    Args:
        world: World to run, on a CPU.
        int8: Whether the dynamics model uses int8 matrix products.
    """

    @torch.no_grad()
    def __init__(self, world: World, int8: bool = False) -> None:
        assert world.device.type == "cpu"
        self.world = world
        dynamics, tokenizer = world.dynamics, world.tokenizer
        graph = transformer_graph(
            dynamics.embed.weight,
            dynamics.position.table(),
            dynamics.transformer,
            dynamics.to_logits,
            dynamics.config.action,
            int8=int8,
        )
        self._positions = world.config.tokens_per_frame + dynamics.num_prefix_tokens
        self._dynamics = OnnxRunner(graph, dynamics.transformer, self._positions)
        self._decoder: OnnxRunner | None = None
        if world.config.tokenizer.kind == "st-vivit":
            assert isinstance(tokenizer.decoder, STTransformer)
            codes = tokenizer.from_code(tokenizer.quantizer.codes())
            position, head = tokenizer.decoder_position.table(), tokenizer.from_patches.to_pixels
            graph = transformer_graph(codes, position, tokenizer.decoder, head)
            self._decoder = OnnxRunner(graph, tokenizer.decoder, len(position))

    def new_cache(self) -> KVCache:
        """Return an empty cache; see `Backend.new_cache`."""
        return KVCache(self.world.config.context_frames)

    def inference_context(self) -> AbstractContextManager[object]:
        """Limit torch to one thread; the spinning threads of two pools slow each other down."""
        return torch_threads(1)

    def extend(
        self,
        tokens: Int[Tensor, "b t n"],
        masked: Bool[Tensor, "b t n"] | None,
        actions: Float[Tensor, "b a c"],
        cache: KVCache,
        first: int,
        positions: Int[Tensor, "b m"],
    ) -> Float[Tensor, "b m v"]:
        """Extend the dynamics model's cache; see `Backend.extend`."""
        model, (b, t, _) = self.world.dynamics, tokens.shape
        if masked is not None:
            tokens = tokens.masked_fill(masked, model.num_codes)
        stride = self._positions
        last = torch.arange((t - 1) * b * stride, t * b * stride, stride)  # of each game in (t b n)
        rows = (last[:, None] + model.num_prefix_tokens + positions).flatten()
        embedded = model.embed_actions(actions, first).transpose(0, 1).reshape(t * b, 1, -1)
        return self._dynamics(tokens, cache, first, rows, action=embedded).view(*positions.shape, model.num_codes)

    def decode(self, tokens: Int[Tensor, "b t n"], cache: KVCache, first: int) -> Float[Tensor, "b t h w 3"]:
        """Decode the next frames; see `Backend.decode`."""
        if self._decoder is None:
            return self.world.tokenizer.decode(tokens, cache, first)
        b, t, n = tokens.shape
        x = self._decoder(tokens, cache, first, torch.arange(t * b * n)).view(t, b, n, -1).transpose(0, 1)
        return ((self.world.tokenizer.from_patches.arrange(x) + 1) / 2).clamp(0, 1)

    def synchronize(self) -> None:
        """Return at once: runs are synchronous."""


class OnnxRunner:
    """Executes a graph of `transformer_graph`, with the memory of a `KVCache` bound to it.

    Args:
        graph: The graph.
        transformer: Transformer from which the graph was built.
        positions: Number of positions per frame, including prefix tokens.
    """

    def __init__(self, graph: Builder, transformer: STTransformer, positions: int) -> None:
        _create_thread_pool()
        options = onnxruntime.SessionOptions()
        options.use_per_session_threads = False
        basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # higher levels use slower normalizations
        options.graph_optimization_level = basic
        # ONNX Runtime uses the weights without a copy
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(x) for x in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), self._weights)
        model = graph.model().SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._config, self._positions, self._width = transformer.config, positions, graph.width
        self._attentions = sum(block.time is not None for block in transformer.blocks)
        self._reset_binding()

    def _reset_binding(self) -> None:
        """Create the binding of inputs and outputs, and its lock, for this process."""
        self._binding = self._session.io_binding()
        self._cache: Callable[[], KVCache | None] = lambda: None
        """Weak reference to the cache whose memory is bound."""
        self._frames = (-1, 0)
        """First frame and number of frames of the last run."""
        self._lock = Lock()
        self._process = os.getpid()

    def __call__(
        self,
        tokens: Int[Tensor, "b t n"],
        cache: KVCache,
        first: int,
        query_positions: Int[Tensor, " m"],
        **inputs: Tensor,
    ) -> Float[Tensor, "m out"]:
        """Run a cached pass; see `STTransformer.forward`.

        Args:
            tokens: Tokens `(B, T, N)` of the next frames.
            cache: Keys and values of earlier frames; modified in place.
            first: Time of the first frame.
            query_positions: Flat indices into `(T, B, N)`, prefix tokens included, of the rows to
                return.
            **inputs: Further inputs of the graph.
        """
        if self._process != os.getpid():  # forked, perhaps while another thread held the lock
            self._reset_binding()
        b, t, _ = tokens.shape
        rows = len(query_positions)
        result = torch.empty(max(rows, 1), self._width)  # ONNX Runtime refuses the null pointer of an empty tensor
        with self._lock:
            self._bind({"tokens": tokens.transpose(0, 1), "query_positions": query_positions, **inputs})
            self._bind_cache(cache, first, t, b)
            self._binding.bind_output("result", "cpu", 0, np.float32, (1, rows, self._width), result.data_ptr())
            self._session.run_with_iobinding(self._binding)
        return result[:rows]

    def _bind(self, inputs: dict[str, Tensor]) -> None:
        for name, x in inputs.items():
            self._binding.bind_cpu_input(name, x.contiguous().numpy())

    def _bind_cache(self, cache: KVCache, first: int, t: int, b: int) -> None:
        """Bind the cache's memory and the inputs that depend on the frames' times.

        Inputs that are bound already are skipped.

        The inputs are: `cosine` and `sine` `(T, k/2)` of the rotary embedding; `time` `(T*B*N, 1)`,
        the row of these for each token; the shape `by_frame`, `(T, -1, k)`; `slots` `(T*B*N, h, 1,
        2)`, the cache entries to write; and the attention `bias` `(T, S)`.
        """
        same = self._cache() is cache
        if same and self._frames == (first, t):
            return
        heads, width, columns = self._config.heads, self._config.head_dim, b * self._positions
        rotary, bias = cache.reserve_slots(self._attentions, first, t, width, torch.device("cpu"))
        if not same:
            keys = torch.empty(b, self._positions, heads, 1, width)
            for i, x in enumerate(x for layer in cache.layers for x in layer.memory(keys)):
                name, shape = f"{('keys', 'values')[i % 2]}{i // 2}", (columns * heads, cache.slots, width)
                self._binding.bind_input(name, "cpu", 0, np.float32, shape, x.data_ptr())
                self._binding.bind_output(f"new_{name}", "cpu", 0, np.float32, shape, x.data_ptr())
        slot = torch.arange(first, first + t)[:, None] % cache.slots
        row = torch.arange(columns * heads)
        self._bind(
            {
                "cosine": rotary[0, :, : width // 2],
                "sine": rotary[1, :, width // 2 :],
                "time": torch.arange(t).repeat_interleave(columns)[:, None],
                "by_frame": torch.tensor([t, -1, width]),
                "slots": torch.stack(torch.broadcast_tensors(row, slot), dim=-1).view(t * columns, -1, 1, 2),
                "bias": bias,
            }
        )
        self._cache, self._frames = weakref.ref(cache), (first, t)


@cache
def _create_thread_pool() -> None:
    """Create one thread pool for all sessions of the process, with as many threads as torch has.

    The threads of two pools would compete for the cores. A process can have one shared pool only,
    whose size is fixed by the first call. A forked process inherits the pool without its threads;
    ONNX Runtime then takes the work back from them and computes it in the calling thread.
    """
    with suppress(Fail):
        onnxruntime.set_global_thread_pool_sizes(torch.get_num_threads(), 1)
