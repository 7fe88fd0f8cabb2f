"""The plot of a latency run is legible."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.timing import report
from tests.conftest import PROJECT


def test_latency_can_be_read_off_the_axis(tmp_path, monkeypatch):
    figures = []

    def keep(figure: Figure, path: Path, **_: object) -> None:
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    runs = sorted((PROJECT / "benchmarks" / "results").glob("*.json"))
    assert runs
    for run in runs:
        report.draw(json.loads(run.read_text()), tmp_path / run.with_suffix(".png").name)
        axis = figures[-1].axes[0].yaxis
        low, high = axis.get_view_interval()
        assert len([tick for tick in axis.get_majorticklocs() if low <= tick <= high]) >= 3
