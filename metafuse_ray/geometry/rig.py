"""A rig: calibrated cameras that share one world, and the ordered pairs among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera

_MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True, order=True)
class CameraPair:
    """An ordered pair: the target view receives from the source view.

    >>> str(CameraPair("00_03", "00_11"))
    '00_03<-00_11'
    >>> CameraPair.parse("00_03<-00_11").source
    '00_11'
    """

    target: str
    source: str

    def __post_init__(self) -> None:
        """Refuse a camera paired with itself."""
        if self.target == self.source:
            raise CalibrationError(
                f"a pair needs two cameras, got {self.target} twice", camera=self.target
            )

    def __str__(self) -> str:
        """Return ``target<-source``."""
        return f"{self.target}<-{self.source}"

    @classmethod
    def parse(cls, text: str) -> CameraPair:
        """Read what ``str`` wrote.

        Raises:
            CalibrationError: The text is not ``target<-source``.
        """
        target, arrow, source = text.partition("<-")
        if not (target and arrow and source):
            raise CalibrationError(f"expected a pair as target<-source, got {text!r}", pair=text)
        return cls(target, source)


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras with distinct names in one world frame.

    Attributes:
        cameras: The cameras, in the rig's order.
        unit: Unit of the world: ``mm``, ``cm`` or ``m``.
        up: Direction in the world that points away from the floor (Panoptic has y down).

    Raises:
        CalibrationError: Names repeat, or the unit is unknown.
    """

    cameras: tuple[Camera, ...]
    unit: str = "cm"
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)

    def __post_init__(self) -> None:
        """Fix the containers' types and check names and unit."""
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "up", tuple(float(value) for value in self.up))
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise CalibrationError(
                f"camera names must differ, but {', '.join(repeated)} repeat", cameras=repeated
            )
        if self.unit not in _MM_PER_UNIT:
            raise CalibrationError(
                f"unknown unit {self.unit!r}; choose from {', '.join(_MM_PER_UNIT)}", key="unit"
            )
        if len(self.up) != 3 or not any(self.up):
            raise CalibrationError(f"up must be a direction of 3 numbers, got {self.up}", key="up")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cameras, in the rig's order."""
        return tuple(camera.name for camera in self.cameras)

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every camera's images, in the rig's order."""
        return tuple((camera.width, camera.height) for camera in self.cameras)

    @property
    def mm_per_unit(self) -> float:
        """Millimetres of one world unit."""
        return _MM_PER_UNIT[self.unit]

    def __len__(self) -> int:
        """Return the number of cameras."""
        return len(self.cameras)

    def __getitem__(self, name: str) -> Camera:
        """Return the camera of this name.

        Raises:
            CalibrationError: The rig has no such camera; lists the names it has.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise CalibrationError(
            f"the rig has no camera {name!r}; it has {', '.join(self.names)}",
            camera=name,
            known=self.names,
        )

    def subset(self, names: Iterable[str]) -> Rig:
        """Return a rig of these cameras, in the order asked for."""
        return Rig(tuple(self[name] for name in names), self.unit, self.up)

    def pairs(self) -> tuple[CameraPair, ...]:
        """Return every ordered pair of different cameras, target-major."""
        return tuple(
            CameraPair(target, source)
            for target in self.names
            for source in self.names
            if target != source
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds exactly."""
        return {
            "unit": self.unit,
            "up": list(self.up),
            "cameras": [camera.to_dict() for camera in self.cameras],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rig:
        """Build a rig from ``to_dict``'s values.

        Raises:
            CalibrationError: A key is missing or a camera is impossible.
        """
        for key in ("unit", "up", "cameras"):
            if key not in values:
                raise CalibrationError(
                    f"a rig needs unit, up and cameras, but {key!r} is missing", key=key
                )
        cameras = tuple(Camera.from_dict(camera) for camera in values["cameras"])
        return cls(cameras, values["unit"], tuple(values["up"]))
