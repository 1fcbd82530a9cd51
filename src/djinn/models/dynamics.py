"""The dynamics model: the next frame's tokens by masked prediction, a MaskGIT over an ST-transformer (paper section 2.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from djinn.config import WorldConfig
from djinn.nn import KVCache, PositionEmbedding2D, STTransformer
from djinn.nn.cpu_parallel import parallel_loss
from djinn.nn.st_transformer import init_linear


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

    def _actions(self, actions: Tensor) -> Tensor:
        """Embeds the actions `(b, t-1, dim)` that led to frames 2..t, with the first frame's own before them."""
        first = self.no_action.expand(actions.shape[0], 1, -1)
        return torch.cat([first, self.from_action(actions).to(first.dtype)], dim=1)

    def forward(
        self, tokens: Int[Tensor, "b t n"], masked: Bool[Tensor, "b t n"], actions: Float[Tensor, "b t-1 d"]
    ) -> Float[Tensor, "b t n v"]:
        """Logits of every token of clips.

        Args:
            tokens: tokens; those under the mask are not looked at.
            masked: which tokens are hidden.
            actions: codes of the latent actions; action i moves frame i to frame i+1.
        """
        x = self.transformer(self._embed(tokens, masked, self._actions(actions)))
        return self.to_logits(x[:, :, self.num_prefix_tokens :])  # without the action that stands before them

    def extend(
        self,
        tokens: Int[Tensor, "b t n"],
        masked: Bool[Tensor, "b t n"] | None,
        actions: Float[Tensor, "b t d"],
        cache: KVCache,
        first: int,
        query_positions: Int[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b m v"]:
        """Adds the next frames of a video to `cache` and returns the last one's logits; see `STTransformer.extend`.

        Args:
            tokens: tokens of the frames.
            masked: which of them are hidden; None is none.
            actions: codes of the actions that led to each of the frames; the very first frame's is not looked at.
            cache: what the transformer keeps of earlier frames.
            first: time of the first frame of `tokens`.
            query_positions: positions whose logits are asked for; None is all.
        """
        action = self.embed_actions(actions, first)
        if query_positions is None:
            query_positions = torch.arange(tokens.shape[2], device=tokens.device).expand(len(tokens), -1)
        x = self._embed(tokens, masked, action)
        return self.to_logits(self.transformer.extend(x, cache, first, query_positions + self.num_prefix_tokens))

    def embed_actions(self, actions: Float[Tensor, "b t a"], first: int) -> Float[Tensor, "b t d"]:
        """Embeds the actions that led to frames `first`, `first + 1`, ...; none led to frame 0."""
        action = self.from_action(actions)
        if first == 0:
            action = torch.cat([self.no_action.to(action.dtype).expand(len(action), 1, -1), action[:, 1:]], dim=1)
        return action

    def loss(
        self, tokens: Int[Tensor, "b t n"], actions: Float[Tensor, "b t-1 d"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Cross-entropy of the masked tokens of frames 2..t.

        Args:
            tokens: tokens of clips.
            actions: codes of the latent actions, already cut off from the latent action model's gradient.
            generator: draws the masks.

        Returns:
            The loss and what to log: cross-entropy and accuracy on masked tokens.
        """
        times = mask = None
        if self.config.masking == "clean_past":
            x, masked, truth, times, mask = self._clean_past(tokens, actions, generator)
        else:
            if self.config.masking == "per_frame":
                past, masked = self._per_frame(tokens, generator)
            else:
                past, masked = tokens, paper_mask(tokens.shape, generator, tokens.device)
            x, truth = self._embed(past, masked, self._actions(actions)), tokens
        weights = [*self.transformer.parameters(), *self.to_logits.parameters()]
        loss, hits = parallel_loss(self._score, weights, (x, masked, truth), (times, mask))
        total = masked.sum().clamp_min(1)
        loss = loss / total
        return loss, {"ce": loss.detach(), "accuracy": hits / total}

    def _score(
        self, x: Tensor, masked: Tensor, truth: Tensor, times: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of masked tokens and how many are right; `x` is what the transformer takes in."""
        where = masked.flatten().nonzero().squeeze(1)  # once: a GPU waits for its count
        query_positions = (
            where + (where // masked.shape[-1] + 1) * self.num_prefix_tokens
        )  # a frame's action token stands before its own
        logits = self.to_logits(self.transformer(x, times=times, mask=mask, query_positions=query_positions)).float()
        target = truth.flatten()[where]
        return F.cross_entropy(logits, target, reduction="sum"), (logits.detach().argmax(-1) == target).sum()

    def _clean_past(
        self, tokens: Tensor, actions: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Finished frames 1..t-1 and masked frames 2..t, each at a rate of its own and seeing what it sees in play.

        Both go through the transformer side by side: finished frames see each other causally; masked frame i sees finished
        frames 1..i-1 and itself.

        Returns:
            What the transformer takes in, the mask, the true tokens, each frame's time, and which frames see which.
        """
        b, t, n = tokens.shape
        device = tokens.device
        masked = frame_mask((b, t - 1, n), generator, device)
        past = add_token_noise(tokens[:, :-1], self.config.token_noise, self.num_codes, generator)
        action = self._actions(actions)
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

    def _per_frame(self, tokens: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Tokens and masks where the frames before a random cut are clean and those after it have a rate each."""
        b, t, _ = tokens.shape
        cut = torch.randint(1, t, (b, 1, 1), generator=generator, device=tokens.device)
        hidden = torch.arange(t, device=tokens.device)[:, None] >= cut
        masked = frame_mask(tokens.shape, generator, tokens.device) & hidden
        past = add_token_noise(tokens, self.config.token_noise, self.num_codes, generator)
        return torch.where(hidden, tokens, past), masked


def paper_mask(shape: torch.Size, generator: torch.Generator | None, device: torch.device) -> Bool[Tensor, "b t n"]:
    """The paper's mask: every frame but the first at one rate U(0.5, 1) per sample (section 2.1)."""
    rate = 0.5 + 0.5 * torch.rand(shape[0], 1, 1, generator=generator, device=device)
    masked = torch.rand(shape, generator=generator, device=device) < rate
    masked[:, 0] = False
    return masked


def frame_mask(
    shape: tuple[int, int, int] | torch.Size, generator: torch.Generator | None, device: torch.device
) -> Bool[Tensor, "b t n"]:
    """A mask with one rate per frame, distributed as MaskGIT meets it while it fills a frame: cos(pi/2 * U(0, 1))."""
    rate = torch.cos(torch.rand(*shape[:2], 1, generator=generator, device=device) * (math.pi / 2))
    return torch.rand(shape, generator=generator, device=device) < rate


def add_token_noise(
    tokens: Int[Tensor, "b t n"], most: float, codes: int, generator: torch.Generator | None
) -> Int[Tensor, "b t n"]:
    """Replaces tokens by random codes at a rate U(0, most) per sample: what play generates is not all right either."""
    if most == 0:
        return tokens
    device = tokens.device
    rate = most * torch.rand(tokens.shape[0], 1, 1, generator=generator, device=device)
    hit = torch.rand(tokens.shape, generator=generator, device=device) < rate
    return torch.where(hit, torch.randint(codes, tokens.shape, generator=generator, device=device), tokens)
