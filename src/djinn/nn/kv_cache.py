"""Keys and values of past frames, so that a new frame never recomputes its past.

Attention over time is causal and attention over space stays inside a frame, so what a finished frame contributed never
changes. The slots form a ring: frame `t` lives in slot `t % slots`, and because positions are relative (rotary) the
order of the slots does not matter and nothing moves when the oldest frame leaves the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from djinn.nn.rotary import as_bias, rotary_table


@dataclass
class LayerKVCache:
    """One temporal attention's keys and values, `(b, n, h, slots, k)`; allocated at the first write."""

    slots: int
    positions: tuple[int, ...] = ()
    """Slots that the next write fills, one for each of its frames."""
    keys: Tensor | None = None
    values: Tensor | None = None

    def write(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the frames of `k` and `v` `(b, n, h, t, k)` and returns all slots."""
        keys, values = self.memory(k[:, :, :, :1])
        for frame, slot in enumerate(self.positions):
            keys[:, :, :, slot] = k[:, :, :, frame]
            values[:, :, :, slot] = v[:, :, :, frame]
        return keys, values

    def memory(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """All slots, to be written to; `like` is one frame's keys `(b, n, h, 1, k)`."""
        if self.keys is None or self.values is None:
            self.keys = like.new_zeros(*like.shape[:3], self.slots, like.shape[4])
            self.values = torch.zeros_like(self.keys)
        return self.keys, self.values


@dataclass
class KVCache:
    """The cache of one `STTransformer`: a ring of `window + 1` slots for every temporal attention.

    The spare slot lets two neighbouring frames go through the model together: the last finished frame, whose window still
    reaches the oldest slot, and the one that is being made.
    """

    window: int
    """A frame sees itself and the `window - 1` frames before it."""
    layers: list[LayerKVCache] = field(default_factory=list)
    _placed: tuple[tuple[int, int], tuple[Tensor, Tensor]] | None = None
    """What `reserve_slots` gave last: the passes of a frame all ask for the same."""

    @property
    def slots(self) -> int:
        """Number of slots of the ring."""
        return self.window + 1

    def reserve_slots(
        self, attentions: int, first: int, frames: int, head_dim: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Prepares the slots for frames `first .. first + frames - 1` and says what each of them sees.

        Args:
            attentions: number of temporal attentions of the transformer.
            first: time of the first frame.
            frames: how many frames come next; more than two only while the ring is not full.
            head_dim: width of a head.
            device: where the tables are needed.

        Returns:
            The frames' rotary table, and the bias `(frames, slots)` of a frame's (row) attention to a slot's frame (column).
        """
        if self._placed is not None and self._placed[0] == (first, frames):
            return self._placed[1]
        last = first + frames - 1
        assert frames <= 2 or last < self.slots
        slot = torch.arange(self.slots, device=device)
        held = last - (last - slot) % self.slots  # the newest frame that lives in each slot, negative where none does
        time = torch.arange(first, last + 1, device=device)
        while len(self.layers) < attentions:
            self.layers.append(LayerKVCache(self.slots))
        for layer in self.layers:
            layer.positions = tuple(t % self.slots for t in range(first, last + 1))
        sees = (held >= 0) & (held <= time[:, None]) & (held > time[:, None] - self.window)
        tables = rotary_table(time, head_dim), as_bias(sees)
        self._placed = (first, frames), tables
        return tables

    def snapshot(self, time: int) -> list[tuple[Tensor, Tensor]]:
        """Copies what the slot of frame `time` holds of an older frame, to be put back by `restore`; nothing if none."""
        if time < self.slots:
            return []
        s = time % self.slots
        full = [(c.keys, c.values) for c in self.layers]
        return [(k[:, :, :, s].clone(), v[:, :, :, s].clone()) for k, v in full if k is not None and v is not None]

    def restore(self, time: int, saved: list[tuple[Tensor, Tensor]]) -> None:
        """Puts back what `snapshot` copied."""
        s = time % self.slots
        for layer, (keys, values) in zip(self.layers, saved, strict=False):
            assert layer.keys is not None and layer.values is not None
            layer.keys[:, :, :, s] = keys
            layer.values[:, :, :, s] = values

    def clone(self) -> KVCache:
        """An independent copy."""
        copy = KVCache(self.window)
        for layer in self.layers:
            keys = None if layer.keys is None else layer.keys.clone()
            values = None if layer.values is None else layer.values.clone()
            copy.layers.append(LayerKVCache(layer.slots, layer.positions, keys, values))
        return copy
