"""Progress of training on the terminal."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm


class ProgressBar:
    """Progress, metrics, frame rate and remaining time of a stage.

    A bar on a terminal, and a plain line every few seconds elsewhere, for readable log files.

    Args:
        title: Name of the stage.
        shown: False prints nothing.
        interval: Seconds between plain lines.
    """

    def __init__(self, title: str, shown: bool = True, interval: float = 20.0) -> None:
        self.title = title
        self._interval = interval
        self._next = 0.0
        self._plain = shown and not sys.stderr.isatty()
        bar_format = "{desc} {percentage:3.0f}%|{bar:24}|{postfix}"
        self._bar = tqdm(total=1.0, desc=title, bar_format=bar_format, disable=not shown or self._plain, leave=True)

    def update(self, progress: float, step: int, seconds_left: float, frames_per_second: float, metrics: str) -> None:
        """Update the bar.

        Args:
            progress: Share of training done, in [0, 1].
            step: Optimizer steps done.
            seconds_left: Estimate of the remaining time.
            frames_per_second: Training frame rate.
            metrics: A few metrics as text.
        """
        if self._bar.disable and not self._plain:
            return
        if time.monotonic() < self._next and progress < 1:
            return
        text = f"step {step}  {metrics}  {frames_per_second:,.0f} frames/s  {format_time(seconds_left)} left"
        self._next = time.monotonic() + (self._interval if self._plain else 0.25)
        if self._plain:
            print(f"{self.title} {progress:4.0%}  {text}", file=sys.stderr, flush=True)
        else:
            self._bar.n = progress
            self._bar.set_postfix_str(text)

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Draw the bar a last time and leave it."""
        self._bar.refresh()
        self._bar.close()


def evaluation_bar(title: str, total: int, unit: str) -> tqdm:
    """Return a bar for an evaluation, which appears after two seconds and disappears at the end.

    Args:
        title: What is evaluated.
        total: Number of units.
        unit: Name of the units, in the plural.
    """
    return tqdm(total=total, desc=title, unit=f" {unit}", leave=False, delay=2, disable=not sys.stderr.isatty())


def format_time(seconds: float) -> str:
    """Format seconds as `M:SS` or `H:MM:SS`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
