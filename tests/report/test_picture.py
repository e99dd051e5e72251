from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
from PIL import Image

from sgq.report import Report
from sgq.report.picture import STYLES, picture_png, picture_svg


def test_the_png_has_900_by_560_pixels_and_a_colour_for_each_family(report: Report) -> None:
    with Image.open(io.BytesIO(picture_png(report.rows))) as image:
        assert image.size == (900, 560)
        colours = {tuple(colour) for colour in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}
    for _, colour, _ in STYLES.values():
        assert tuple(bytes.fromhex(colour[1:])) in colours


def test_the_svg_names_every_model_and_loads_nothing(report: Report) -> None:
    svg = picture_svg(report.rows)
    ElementTree.fromstring(svg)
    for name in ("float", "int8", "mixed &lt;b&gt;&amp;&lt;/b&gt;"):
        assert f"<!-- {name} -->" in svg
    references = re.findall(r'(?:href|src)="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
    assert references
    assert all(reference.startswith("#") for reference in references)


def test_the_same_rows_give_the_same_svg(report: Report) -> None:
    assert picture_svg(report.rows) == picture_svg(report.rows)


def test_models_without_an_accuracy_are_left_out(report: Report) -> None:
    rows = [replace(report.rows[0], accuracy_test=None), report.rows[1]]
    svg = picture_svg(rows)
    assert "<!-- int8 -->" in svg
    assert "<!-- float -->" not in svg


def test_a_picture_of_no_model_says_so() -> None:
    assert "<!-- no evaluated model -->" in picture_svg([])


def test_dollar_signs_in_a_name_are_no_formula(report: Report) -> None:
    assert "<!-- $x_1$ -->" in picture_svg([replace(report.rows[0], name="$x_1$")])
