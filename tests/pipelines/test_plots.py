"""Plots as SVG files."""

from xml.etree import ElementTree

import numpy as np

from pipelines.plots import curves, side_by_side


def test_curves_are_where_their_values_are():
    svg = curves(np.array([1, 2, 3]), {"A & B": np.array([0, 50, 100]), "C": np.array([100, 100, 100])}, "T", "px", 100)
    xml = ElementTree.fromstring(side_by_side([svg, svg]))
    lines = [line.get("points") for line in xml.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 4
    first, flat = ([tuple(map(float, at.split(","))) for at in line.split()] for line in lines[:2])
    assert [x for x, _ in first] == [34, 154, 274]
    assert [y for _, y in first] == [264, 144, 24]
    assert {y for _, y in flat} == {24}
    assert [child.get("x") for child in xml] == ["0", "360"]
    assert "A & B" in [text.text for text in xml.iter("{http://www.w3.org/2000/svg}text")]
