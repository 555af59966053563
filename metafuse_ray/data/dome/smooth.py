"""Smooth random signals: what moves, and how detectors err, is correlated in time."""

from __future__ import annotations

import math

import numpy as np


def fourier_signal(
    rng: np.random.Generator,
    seconds_F: np.ndarray,
    channels: int,
    *,
    slowest_s: float,
    fastest_s: float,
    terms: int = 4,
) -> np.ndarray:
    """Draw smooth signals of unit variance from a random Fourier series.

    Args:
        rng: Generator.
        seconds_F: Sampling times.
        channels: Independent signals.
        slowest_s: Longest period in seconds.
        fastest_s: Shortest period in seconds; periods are log-uniform in between.
        terms: Sinusoids a signal.

    Returns:
        (F, channels).
    """
    period = np.exp(rng.uniform(math.log(fastest_s), math.log(slowest_s), (terms, channels)))
    phase = rng.uniform(0, 2 * np.pi, (terms, channels))
    # Slow motion is large, fast motion small: amplitude grows with the period.
    amplitude = np.sqrt(period) * rng.uniform(0.5, 1.0, (terms, channels))
    amplitude *= math.sqrt(2) / np.linalg.norm(amplitude, axis=0)
    angle = 2 * np.pi * seconds_F[:, None, None] / period + phase
    return (amplitude * np.sin(angle)).sum(1)


def correlated_noise(
    rng: np.random.Generator, frames: int, shape: tuple[int, ...], correlation_frames: float
) -> np.ndarray:
    """Draw stationary Gaussian noise of unit variance, smooth along the frames.

    Args:
        rng: Generator.
        frames: F.
        shape: Shape of the independent signals.
        correlation_frames: Lag, in frames, at which the correlation has fallen to about 0.37.

    Returns:
        (F, *shape) float32.
    """
    # Noise filtered by a Gaussian of width s has correlation exp(-lag^2 / 4 s^2).
    width = correlation_frames / 2
    reach = max(1, math.ceil(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(width, 1e-3)) ** 2)
    kernel /= np.linalg.norm(kernel)
    white = rng.standard_normal((frames + 2 * reach, *shape), dtype=np.float32)
    smooth = np.zeros((frames, *shape), np.float32)
    for lag, weight in enumerate(kernel.astype(np.float32)):
        smooth += weight * white[lag : lag + frames]
    return smooth
