"""What tests of the search for bits share."""

from __future__ import annotations

import pytest

from tests.bits.beliefs import Believe, believing


@pytest.fixture
def believe(monkeypatch: pytest.MonkeyPatch) -> Believe:
    """Let the cost model believe in so much accuracy above the limit (below it: less than 0)."""
    return believing(monkeypatch)
