"""Ring buffer of the keys and values of past frames, which are computed once per frame.

Temporal attention is causal and spatial attention stays within a frame, so the keys and values of a
finished frame never change. Frame `t` is in slot `t % slots`. Positions are relative (rotary), so
the order of the slots does not matter, and nothing is moved when the oldest frame leaves the
window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from djinn.nn.rotary import mask_to_bias, rotary_table


@dataclass
class LayerKVCache:
    """Keys and values of one temporal attention, `(b, n, h, slots, k)`."""

    slots: int
    positions: tuple[int, ...] = ()
    """Slot of each frame of the next write."""
    keys: Tensor | None = None
    values: Tensor | None = None

    def write(
        self, k: Float[Tensor, "b n h t k"], v: Float[Tensor, "b n h t k"]
    ) -> tuple[Float[Tensor, "b n h s k"], Float[Tensor, "b n h s k"]]:
        """Store the keys and values of frames in the slots `positions`, and return all slots."""
        keys, values = self.memory(k[:, :, :, :1])
        for frame, slot in enumerate(self.positions):
            keys[:, :, :, slot] = k[:, :, :, frame]
            values[:, :, :, slot] = v[:, :, :, frame]
        return keys, values

    def memory(self, like: Float[Tensor, "b n h 1 k"]) -> tuple[Float[Tensor, "b n h s k"], Float[Tensor, "b n h s k"]]:
        """Return the keys and values of all slots, for writing.

        The first call allocates them with the shape and dtype of `like`.
        """
        if self.keys is None or self.values is None:
            self.keys = like.new_zeros(*like.shape[:3], self.slots, like.shape[4])
            self.values = torch.zeros_like(self.keys)
        return self.keys, self.values


@dataclass
class KVCache:
    """Cache of one `STTransformer`: a ring of `window + 1` slots per temporal attention.

    With the extra slot, two frames can be processed together: the last finished frame, whose window
    includes the oldest slot, and the frame being generated.
    """

    window: int
    """Number of frames that a frame attends to, itself included."""
    layers: list[LayerKVCache] = field(default_factory=list)
    _reserved: tuple[tuple[int, int], tuple[Tensor, Tensor]] | None = None
    """Arguments and result of the last `reserve_slots`; all passes over a frame make the same
    call."""

    @property
    def slots(self) -> int:
        """Number of slots of the ring."""
        return self.window + 1

    def reserve_slots(
        self, attentions: int, first: int, frames: int, head_dim: int, device: torch.device
    ) -> tuple[Float[Tensor, "2 t k"], Float[Tensor, "t s"]]:
        """Reserve the slots of frames `first .. first + frames - 1` for the next write.

        Args:
            attentions: Number of temporal attentions of the transformer.
            first: Time of the first frame.
            frames: Number of frames; at most two once the ring is full.
            head_dim: Width of an attention head.
            device: Device of the results.

        Returns:
            The frames' rotary table, and the attention bias `(frames, slots)`: 0 where a frame
            attends to the frame in a slot, else minus infinity.
        """
        if self._reserved is not None and self._reserved[0] == (first, frames):
            return self._reserved[1]
        last = first + frames - 1
        assert frames <= 2 or last < self.slots
        slot = torch.arange(self.slots, device=device)
        stored = last - (last - slot) % self.slots  # time of the newest frame of each slot, negative if empty
        time = torch.arange(first, last + 1, device=device)
        while len(self.layers) < attentions:
            self.layers.append(LayerKVCache(self.slots))
        for layer in self.layers:
            layer.positions = tuple(t % self.slots for t in range(first, last + 1))
        visible = (stored >= 0) & (stored <= time[:, None]) & (stored > time[:, None] - self.window)
        tables = rotary_table(time, head_dim), mask_to_bias(visible)
        self._reserved = (first, frames), tables
        return tables

    def snapshot(self, time: int) -> list[tuple[Tensor, Tensor]]:
        """Copy the keys and values that frame `time` will overwrite, for `restore`.

        Empty while the ring is not full.
        """
        if time < self.slots:
            return []
        s = time % self.slots
        full = [(layer.keys, layer.values) for layer in self.layers]
        return [(k[:, :, :, s].clone(), v[:, :, :, s].clone()) for k, v in full if k is not None and v is not None]

    def restore(self, time: int, saved: list[tuple[Tensor, Tensor]]) -> None:
        """Undo the write of frame `time`, whose `snapshot` is `saved`."""
        s = time % self.slots
        for layer, (keys, values) in zip(self.layers, saved, strict=False):
            assert layer.keys is not None and layer.values is not None
            layer.keys[:, :, :, s] = keys
            layer.values[:, :, :, s] = values

    def clone(self) -> KVCache:
        """Return an independent copy."""
        copy = KVCache(self.window)
        for layer in self.layers:
            keys = None if layer.keys is None else layer.keys.clone()
            values = None if layer.values is None else layer.values.clone()
            copy.layers.append(LayerKVCache(layer.slots, layer.positions, keys, values))
        return copy
