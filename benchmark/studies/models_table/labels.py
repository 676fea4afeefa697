"""Place the names of a chart's points, so that no two texts overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DIRECTIONS = 24
DISTANCES = (4.0, 14.0, 28.0, 44.0, 62.0)
"""Distances from the edge of a point to its text, in pixels. The nearest place without overlaps is chosen."""
GAP = 2.0
"""Pixels that stay free around a text."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0) * max(height, 0)

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True)
class Point:
    """A circle with a text of known size, in pixels.

    Attributes:
        x: Horizontal position of the circle's centre.
        y: Vertical position of the circle's centre.
        radius: Radius of the circle.
        width: Width of the text.
        height: Height of the text.
    """

    x: float
    y: float
    radius: float
    width: float
    height: float

    @property
    def box(self) -> Box:
        """The square around the circle."""
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


@dataclass(frozen=True)
class Place:
    """A position of a text.

    Attributes:
        x: Horizontal position of the text's middle.
        y: Vertical position of the text's middle.
        leader: Both ends of a line from the point to the text; None if the text is next to it.
    """

    x: float
    y: float
    leader: tuple[tuple[float, float], tuple[float, float]] | None

    def line_boxes(self) -> list[Box]:
        """Small boxes along the line."""
        return list(_along(self.leader)) if self.leader else []


def place_labels(points: Sequence[Point], frame: Box, line: Sequence[tuple[float, float]] = ()) -> list[Place]:
    """Choose a place for each text, the most crowded points first.

    Args:
        points: All circles of the chart.
        frame: Rectangle that texts stay inside.
        line: Corners of a line that texts avoid.
    """
    places: dict[int, Place] = {}
    texts: list[Box] = []
    obstacles = [point.box for point in points] + list(_along(line))
    for number in sorted(range(len(points)), key=lambda number: -_crowding(points, number)):
        point = points[number]
        others = [other.box for other in points if other is not point]
        costs = [
            (_cost(box, place, point, texts=texts, obstacles=obstacles, others=others, frame=frame), box, place)
            for box, place in _candidates(point)
        ]
        _, box, places[number] = min(costs, key=lambda candidate: candidate[0])
        texts.append(box)
        obstacles += places[number].line_boxes()
    return [places[number] for number in range(len(points))]


def _candidates(point: Point) -> Iterator[tuple[Box, Place]]:
    """Places around a point, near ones first; to the right first."""
    for distance, step in itertools.product(DISTANCES, range(DIRECTIONS)):
        angle = 2 * math.pi * step / DIRECTIONS
        reach = point.radius + distance
        # The middle of the text, so that its nearest edge is at that distance.
        x = point.x + math.cos(angle) * (reach + point.width / 2)
        y = point.y + math.sin(angle) * (reach + point.height / 2)
        box = Box(
            x - point.width / 2 - GAP, y - point.height / 2 - GAP, x + point.width / 2 + GAP, y + point.height / 2 + GAP
        )
        end_x = min(max(point.x, box.left + GAP), box.right - GAP)
        end_y = min(max(point.y, box.bottom + GAP), box.top - GAP)
        away = math.hypot(end_x - point.x, end_y - point.y)
        start_x = point.x + (end_x - point.x) * point.radius / max(away, point.radius)
        start_y = point.y + (end_y - point.y) * point.radius / max(away, point.radius)
        is_near = distance == DISTANCES[0]
        yield box, Place(x, y, None if is_near else ((start_x, start_y), (end_x, end_y)))


def _cost(
    box: Box,
    place: Place,
    point: Point,
    *,
    texts: Sequence[Box],
    obstacles: Sequence[Box],
    others: Sequence[Box],
    frame: Box,
) -> float:
    """Cost of a place: overlaps of the text and of its line, then distance."""
    line = place.line_boxes()
    overlaps = 10 * sum(map(box.overlap, texts)) + 4 * sum(map(box.overlap, obstacles))
    overlaps += 20 * (box.area - box.overlap(frame))
    overlaps += 20 * sum(part.overlap(other) for part in line for other in [*texts, *others])
    return overlaps + math.hypot(place.x - point.x, place.y - point.y)


def _crowding(points: Sequence[Point], number: int) -> float:
    """Nearness of the other points."""
    point = points[number]
    others = [other for other in points if other is not point]
    return sum(1 / (1 + math.hypot(other.x - point.x, other.y - point.y)) for other in others)


def _along(line: Sequence[tuple[float, float]], step: float = 6.0) -> Iterator[Box]:
    """Small boxes along a line."""
    for (x, y), (next_x, next_y) in itertools.pairwise(line):
        count = max(math.ceil(math.hypot(next_x - x, next_y - y) / step), 1)
        for part in range(count):
            at_x, at_y = x + (next_x - x) * part / count, y + (next_y - y) * part / count
            yield Box(at_x - 2, at_y - 2, at_x + 2, at_y + 2)
