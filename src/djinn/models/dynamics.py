"""The dynamics model: the next frame's tokens by masked prediction, a MaskGIT over an ST-transformer (paper section 2.1)."""

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
    """Predicts the masked tokens of a frame from its known tokens, the frames before it and the actions.

    Masked tokens are predicted in place: frame t's hidden tokens at frame t, with action t-1, the one that leads to it.
    The action is added to the frame's tokens (`action="add"`, the paper) or stands before them as one more token
    (`"prepend"`); the first frame, which no action led to, has a learned one of its own in both.

    Args:
        config: the world's sizes.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        sizes = config.dynamics
        d, rows_columns = sizes.transformer.d_model, config.tokenizer_grid
        self.config = sizes
        self.window = config.context_frames
        self.num_prefix_tokens = 0 if sizes.action == "add" else 1
        """Positions that stand before a frame's tokens: the action's, where it is prepended."""
        self.num_codes = config.tokenizer.quantizer.codes
        self.embed = nn.Embedding(self.num_codes + 1, d)  # the last entry stands for a masked token
        self.position = PositionEmbedding2D(*rows_columns, d)
        self.from_action = nn.Linear(config.latent_action.quantizer.dim, d)
        self.no_action = nn.Parameter(torch.randn(d))
        self.transformer = STTransformer(sizes.transformer)
        self.to_logits = nn.Linear(d, self.num_codes)
        self.from_action.apply(init_linear)
        nn.init.normal_(self.to_logits.weight, std=0.5 * d**-0.5)
        nn.init.zeros_(self.to_logits.bias)

    def _embed(self, tokens: Tensor, masked: Tensor | None, action: Tensor) -> Tensor:
        """Token embeddings of frames, with the embedded action `(b, t, d)` that led to each."""
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
            actions: Latent action codes `(b, a, d)` that lead to each frame. No action leads to frame 0, so `a` is
                `t - 1` if `first` is 0, else `t`.
            cache: The transformer's keys and values of earlier frames; modified in place.
            first: Time of the first frame of `tokens`.
            query_positions: Flat indices into `(b, t, n)` of the tokens whose logits to return, as `(m, v)`. None
                returns the logits of all tokens.
        """
        x = self._embed(tokens, masked, self.embed_actions(actions, first))
        if query_positions is None:
            x = self.transformer(x, cache=cache, first=first)[:, :, self.num_prefix_tokens :]
        else:
            query_positions = self._skip_prefixes(query_positions, tokens.shape[2])
            x = self.transformer(x, cache=cache, first=first, query_positions=query_positions)
        return self.to_logits(x)

    def embed_actions(self, actions: Float[Tensor, "b a c"], first: int = 0) -> Float[Tensor, "b t d"]:
        """Embed the actions that lead to frames `first, first + 1, ...`; frame 0 gets the learned `no_action`."""
        embedded = self.from_action(actions)
        if first > 0:
            return embedded
        no_action = self.no_action.expand(len(actions), 1, -1)
        return torch.cat([no_action, embedded.to(no_action.dtype)], dim=1)

    def _skip_prefixes(self, positions: Tensor, tokens_per_frame: int) -> Tensor:
        """Map flat indices into `(b, t, n)` to the transformer's input, where prefix tokens precede each frame."""
        if self.num_prefix_tokens == 0:
            return positions
        return positions + (positions // tokens_per_frame + 1) * self.num_prefix_tokens

    def draw_masks(self, shape: Shape, generator: torch.Generator | None = None) -> TrainingMasks:
        """Draw the masks and the token noise of tokens of shape `(B, T, N)`, the random part of `loss`."""
        return draw_training_masks(self.config, shape, self.num_codes, generator, self.no_action.device)

    def loss(
        self, tokens: Int[Tensor, "b t n"], actions: Float[Tensor, "b t-1 d"], masks: TrainingMasks
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the cross-entropy of the masked tokens of frames 2..t.

        Args:
            tokens: Tokens of clips.
            actions: Codes of the latent actions, detached from the latent action model's graph.
            masks: Draws of `draw_masks`. The summed cross-entropy is divided by `masks.count`, so that equal parts
                of a batch average to the loss of the whole batch.

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
        """Summed cross-entropy of masked tokens and how many are right; `x` is what the transformer takes in."""
        where = masked.flatten().nonzero().squeeze(1)  # once: a GPU waits for its count
        query_positions = self._skip_prefixes(where, masked.shape[-1])
        logits = self.to_logits(self.transformer(x, times=times, mask=mask, query_positions=query_positions)).float()
        target = truth.flatten()[where]
        return F.cross_entropy(logits, target, reduction="sum"), (logits.detach().argmax(-1) == target).sum()

    def _clean_past(
        self, tokens: Tensor, actions: Tensor, masks: TrainingMasks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Finished frames 1..t-1 and masked frames 2..t, each at a rate of its own and seeing what it sees in play.

        Both go through the transformer side by side: finished frames see each other causally; masked frame i sees finished
        frames 1..i-1 and itself.

        Returns:
            What the transformer takes in, the mask, the true tokens, each frame's time, and which frames see which.
        """
        t, device, masked = tokens.shape[1], tokens.device, masks.masked
        past = add_token_noise(tokens[:, :-1], masks.noise)
        action = self.embed_actions(actions)
        x = torch.cat(
            [self._embed(past, None, action[:, :-1]), self._embed(tokens[:, 1:], masked, action[:, 1:])], dim=1
        )
        time = torch.arange(t - 1, device=device)
        before = time[:, None] >= time  # masked frame i+1 sees finished frames up to i, just as finished frame i does
        own = torch.eye(t - 1, dtype=torch.bool, device=device)
        mask = torch.cat([torch.cat([before, torch.zeros_like(own)], 1), torch.cat([before, own], 1)])
        masked = torch.cat([torch.zeros_like(masked), masked], dim=1)
        truth = torch.cat([tokens[:, :-1], tokens[:, 1:]], dim=1)
        return x, masked, truth, torch.cat([time, time + 1]), mask
