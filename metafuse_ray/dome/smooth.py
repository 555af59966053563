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
    # Noise filtered by a Gaussian of width s has correlation exp(-lag^2 / 4 s^2). Slow noise is
    # drawn at knots half a width apart and interpolated.
    stride = max(1, int(correlation_frames / 4))
    width = max(correlation_frames / 2 / stride, 1e-3)
    reach = max(1, math.ceil(3 * width))
    knots = (frames - 1) // stride + 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel /= np.linalg.norm(kernel)
    white = rng.standard_normal((knots + 2 * reach, *shape), dtype=np.float32)
    smooth = np.zeros((knots, *shape), np.float32)
    for lag, weight in enumerate(kernel.astype(np.float32)):
        smooth += weight * white[lag : lag + knots]
    if stride == 1:
        return smooth[:frames]
    at, part = np.divmod(np.arange(frames), stride)
    right = (part / stride).astype(np.float32).reshape(-1, *[1] * len(shape))
    scale = np.sqrt(1 - 2 * right * (1 - right) * (1 - np.exp(-0.25 / width**2)))
    return (smooth[at] * (1 - right) + smooth[at + 1] * right) / scale.astype(np.float32)


def drifting_noise(
    rng: np.random.Generator, frames: int, shape: tuple[int, ...], frames_a_second: float
) -> np.ndarray:
    """Draw noise as detectors have it: parts last seconds, a moment, or a single frame.

    The mixture gives the correlations that errors and peaks of a real detector have (BlazePose,
    30 Hz): about 0.8 after a frame, 0.5 after ten, 0.3 after thirty.

    Returns:
        (F, *shape) float32 of unit variance.
    """
    slow = correlated_noise(rng, frames, shape, 2.2 * frames_a_second)
    quick = correlated_noise(rng, frames, shape, 0.25 * frames_a_second)
    white = rng.standard_normal((frames, *shape), dtype=np.float32)
    parts = np.sqrt(np.array([0.4, 0.5, 0.1], np.float32))
    return parts[0] * slow + parts[1] * quick + parts[2] * white
