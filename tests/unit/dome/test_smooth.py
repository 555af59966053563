"""Noise has the variance and the memory that it promises."""

import numpy as np
import pytest

from metafuse_ray.dome.smooth import correlated_noise, drifting_noise, fourier_signal


def correlation(signal: np.ndarray, lag: int) -> float:
    return float((signal[lag:] * signal[: len(signal) - lag]).mean() / (signal**2).mean())


@pytest.mark.parametrize("frames", [0.5, 3.0, 7.0, 40.0])
def test_correlated_noise_is_stationary_and_forgets_as_asked(frames):
    noise = correlated_noise(np.random.default_rng(0), 200, (4000,), frames)
    assert noise.shape == (200, 4000)
    assert noise.std(axis=1) == pytest.approx(1.0, abs=0.06)
    if frames >= 3:
        assert correlation(noise, round(frames)) == pytest.approx(np.exp(-1), abs=0.05)


def test_drifting_noise_remembers_a_moment_and_a_while():
    noise = drifting_noise(np.random.default_rng(0), 150, (3000,), 30.0)
    assert noise.std(axis=1) == pytest.approx(1.0, abs=0.06)
    assert 0.8 < correlation(noise, 1) < 0.95
    assert 0.3 < correlation(noise, 15) < 0.5


def test_fourier_signals_have_unit_variance():
    signal = fourier_signal(
        np.random.default_rng(0), np.arange(3000) / 10, 200, slowest_s=5, fastest_s=1
    )
    assert np.mean(signal**2) == pytest.approx(1.0, abs=0.05)
