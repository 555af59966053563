"""Errors of a calibration, and the frame of an estimated one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from metafuse_ray.geometry.rig import Rig


def turn_cameras(rig: Rig, degrees: float, random: np.random.Generator) -> Rig:
    """Turn every camera about its own centre by an angle, each about a random axis.

    Generators of one state give the same axes for every angle.

    Args:
        rig: The true rig.
        degrees: Angle of each rotation.
        random: Draws the axes, uniform over all directions.
    """
    axes = random.normal(size=(len(rig), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turned = []
    for camera, axis in zip(rig.cameras, axes, strict=True):
        rotation = np.asarray(cv2.Rodrigues(np.radians(degrees) * axis)[0]) @ camera.R
        turned.append(replace(camera, R=rotation, t=-rotation @ camera.centre))
    return replace(rig, cameras=tuple(turned))


def align_rig(estimated: Rig, true: Rig) -> Rig:
    """Bring an estimated rig from its own world into the true one, by a similarity.

    The similarity is the one that aligns the cameras: the mean of their relative
    rotations, and scale and shift by least squares over their centres. No joint is used.

    Args:
        estimated: Cameras in the order of ``true``.
        true: The true cameras.
    """
    pairs = list(zip(true.cameras, estimated.cameras, strict=True))
    u, _, vt = np.linalg.svd(np.sum([there.R.T @ here.R for there, here in pairs], axis=0))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    here_V3 = np.stack([camera.centre for camera in estimated.cameras]) @ rotation.T
    there_V3 = np.stack([camera.centre for camera in true.cameras])
    here, there = here_V3 - here_V3.mean(0), there_V3 - there_V3.mean(0)
    scale = np.sum(here * there) / np.sum(here * here)
    centre_V3 = scale * here + there_V3.mean(0)
    cameras = []
    for camera, centre in zip(estimated.cameras, centre_V3, strict=True):
        R = camera.R @ rotation.T
        cameras.append(replace(camera, R=R, t=-R @ centre))
    return replace(true, cameras=tuple(cameras))
