"""Dynamics model: MaskGIT over an ST-transformer (paper section 2.1, Tables 10, 12 and 17)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from djinn.config import WorldConfig
from djinn.models.masking import Shape, TrainingMasks, add_token_noise, draw_training_masks
from djinn.nn import KVCache, PositionEmbedding2D, STTransformer
from djinn.nn.cpu_parallel import parallel_loss
from djinn.nn.init import init_linear


class DynamicsModel(nn.Module):
    """Predict masked tokens of a frame from its other tokens, earlier frames and latent actions.

    With `M` the masked tokens and `a` the latent actions, detached from their model:

        p_t   = Dyn(z_1..t with M masked, a_1..t-1)  `forward`, distributions over the codebook
        loss  = - mean over M of log p(z)            `loss`, cross-entropy

    Masked tokens are predicted in place: those of frame `t` at frame `t`, with action `t-1`, which
    leads to it. The embedded action is added to all tokens of the frame (`action="add"`, paper) or
    prepended as a token (`action="prepend"`). Frame 0, to which no action leads, has a learned
    embedding instead.

    Args:
        config: Sizes of the world.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        sizes = config.dynamics
        d, rows_columns = sizes.transformer.d_model, config.tokenizer_grid
        self.config = sizes
        self.window = config.context_frames
        self.num_prefix_tokens = 0 if sizes.action == "add" else 1
        """Tokens before those of a frame: one with a prepended action, else none."""
        self.num_codes = config.tokenizer.quantizer.codes
        self.embed = nn.Embedding(self.num_codes + 1, d)  # the last entry is the mask token
        self.position = PositionEmbedding2D(*rows_columns, d)
        self.from_action = nn.Linear(config.latent_action.quantizer.dim, d)
        self.no_action = nn.Parameter(torch.randn(d))
        self.transformer = STTransformer(sizes.transformer)
        self.to_logits = nn.Linear(d, self.num_codes)
        self.from_action.apply(init_linear)
        nn.init.normal_(self.to_logits.weight, std=0.5 * d**-0.5)
        nn.init.zeros_(self.to_logits.bias)

    def _embed(self, tokens: Tensor, masked: Tensor | None, action: Tensor) -> Tensor:
        """Embed tokens `(b, t, n)` and the embedded actions `(b, t, d)` that lead to their frames.

        Returns:
            Input of the transformer, `(b, t, n + num_prefix_tokens, d)`.
        """
        if masked is not None:
            tokens = torch.where(masked, self.num_codes, tokens)
        x = self.position(self.embed(tokens))
        action = action.to(x.dtype)[:, :, None]
        return x + action if self.config.action == "add" else torch.cat([action, x], dim=2)

    def forward(
        self,
        tokens: Int[Tensor, "b t n"],
        masked: Bool[Tensor, "b t n"] | None,
        actions: Float[Tensor, "b a d"],
        *,
        cache: KVCache | None = None,
        first: int = 0,
        query_positions: Int[Tensor, "m"] | None = None,
    ) -> Float[Tensor, "b t n v"] | Float[Tensor, "m v"]:
        """Predict token logits of whole clips or, with a cache, of the next frames of a video.

        Args:
            tokens: Tokens `(b, t, n)`; values of masked tokens are ignored.
            masked: True where a token is masked. None masks no token.
            actions: Latent action codes `(b, a, d)` that lead to each frame. No action leads to
                frame 0, so `a` is `t - 1` if `first` is 0, else `t`.
            cache: The transformer's keys and values of earlier frames; modified in place.
            first: Time of the first frame of `tokens`.
            query_positions: Flat indices into `(b, t, n)` of the tokens whose logits to return, as
                `(m, v)`. None returns the logits of all tokens.
        """
        x = self._embed(tokens, masked, self.embed_actions(actions, first))
        if query_positions is None:
            x = self.transformer(x, cache=cache, first=first)[:, :, self.num_prefix_tokens :]
        else:
            query_positions = self._skip_prefixes(query_positions, tokens.shape[2])
            x = self.transformer(x, cache=cache, first=first, query_positions=query_positions)
        return self.to_logits(x)

    def embed_actions(self, actions: Float[Tensor, "b a c"], first: int = 0) -> Float[Tensor, "b t d"]:
        """Embed the actions that lead to frames `first, first + 1, ...`.

        Frame 0 gets the learned embedding `no_action`.
        """
        embedded = self.from_action(actions)
        if first > 0:
            return embedded
        no_action = self.no_action.expand(len(actions), 1, -1)
        return torch.cat([no_action, embedded.to(no_action.dtype)], dim=1)

    def _skip_prefixes(self, positions: Tensor, tokens_per_frame: int) -> Tensor:
        """Map flat indices into `(b, t, n)` to indices into the transformer's input."""
        if self.num_prefix_tokens == 0:
            return positions
        return positions + (positions // tokens_per_frame + 1) * self.num_prefix_tokens

    def draw_masks(self, shape: Shape, generator: torch.Generator | None = None) -> TrainingMasks:
        """Draw masks and token noise for tokens of shape `(B, T, N)`, the random part of `loss`."""
        return draw_training_masks(self.config, shape, self.num_codes, generator, self.no_action.device)

    def loss(
        self, tokens: Int[Tensor, "b t n"], actions: Float[Tensor, "b t-1 d"], masks: TrainingMasks
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the cross-entropy of masked tokens.

        Args:
            tokens: Tokens of clips.
            actions: Codes of the latent actions, detached from the latent action model's graph.
            masks: Result of `draw_masks`. The summed cross-entropy is divided by `masks.count`, so
                that equal parts of a batch average to the loss of the whole batch.

        Returns:
            The loss and the metrics to log: cross-entropy and accuracy on masked tokens.
        """
        times = mask = None
        if self.config.masking == "clean_past":
            x, masked, truth, times, mask = self._clean_past(tokens, actions, masks)
        else:
            past, masked = add_token_noise(tokens, masks.noise), masks.masked
            x, truth = self._embed(past, masked, self.embed_actions(actions)), tokens
        weights = [*self.transformer.parameters(), *self.to_logits.parameters()]
        loss, hits = parallel_loss(self._score, weights, (x, masked, truth), (times, mask))
        loss = loss / masks.count
        return loss, {"ce": loss.detach(), "accuracy": hits / masks.count}

    def _score(
        self, x: Tensor, masked: Tensor, truth: Tensor, times: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed cross-entropy of masked tokens and the number of correct predictions.

        Args:
            x: Input of the transformer.
            masked: True where a token is predicted, `(b, f, n)`.
            truth: True tokens, `(b, f, n)`.
            times: Time of each frame; None is `0, 1, 2, ...`.
            mask: Frames (columns) that each frame (row) attends to; None is causal.
        """
        where = masked.flatten().nonzero().squeeze(1)  # computed once: it synchronizes with the GPU
        query_positions = self._skip_prefixes(where, masked.shape[-1])
        logits = self.to_logits(self.transformer(x, times=times, mask=mask, query_positions=query_positions)).float()
        target = truth.flatten()[where]
        return F.cross_entropy(logits, target, reduction="sum"), (logits.detach().argmax(-1) == target).sum()

    def _clean_past(
        self, tokens: Tensor, actions: Tensor, masks: TrainingMasks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Concatenate clean frames 1..t-1 and masked frames 2..t in one sequence of frames.

        Clean frames attend causally to each other. A masked frame attends to itself and to the
        clean frames before it, exactly as the frame that is generated in play.

        Returns:
            The arguments of `_score`: input of the transformer, masked tokens, true tokens, times,
            and the attention mask in time.
        """
        t, device = tokens.shape[1], tokens.device
        action = self.embed_actions(actions)
        clean = self._embed(add_token_noise(tokens[:, :-1], masks.noise), None, action[:, :-1])
        hidden = self._embed(tokens[:, 1:], masks.masked, action[:, 1:])
        time = torch.arange(t - 1, device=device)
        past = time[:, None] >= time  # row i: clean frame i and masked frame i + 1
        own = torch.eye(t - 1, dtype=torch.bool, device=device)
        mask = torch.cat([torch.cat([past, torch.zeros_like(own)], 1), torch.cat([past, own], 1)])
        masked = torch.cat([torch.zeros_like(masks.masked), masks.masked], dim=1)
        truth = torch.cat([tokens[:, :-1], tokens[:, 1:]], dim=1)
        return torch.cat([clean, hidden], dim=1), masked, truth, torch.cat([time, time + 1]), mask
