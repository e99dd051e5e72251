from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sgq.report.figure import svg, tick_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: Figure) -> None:
    figure.add_subplot().plot([1, 2], [3, 4], "o")


def test_two_pictures_on_a_page_share_no_id() -> None:
    one, other = (svg(draw, name=name, description="a line") for name in ("one", "other"))
    assert one != other
    assert one.replace("one-", "other-") == other


@pytest.mark.parametrize(("count", "text"), [(1024, "1 KiB"), (16 * 1024**2, "16 MiB"), (1536, "1.50 KiB")])
def test_a_round_tick_has_no_fraction(count: int, text: str) -> None:
    assert tick_text(count) == text
