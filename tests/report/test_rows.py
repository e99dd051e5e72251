from __future__ import annotations

import json

from sgq.report import Report


def test_a_report_survives_the_round_trip_through_json(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_json_of_a_report_holds_exact_bytes(report: Report) -> None:
    assert report.to_json()["rows"][0]["packed_bytes"] == 4096
