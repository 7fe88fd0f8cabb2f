"""The pictures of the documents are of what the project shows today."""

import importlib.util
import io
import json

import pytest
from PIL import Image, ImageChops

from tests.conftest import PROJECT
from tests.support.documents import DOCUMENTS, read
from train import plots

DOCS = PROJECT / "docs"
LARGEST = 120_000  # bytes


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pipeline_is_what_its_code_draws(figures):
    assert (DOCS / "pipeline.svg").read_text() == figures.pipeline.pipeline()


def test_no_picture_is_older_than_what_it_shows(figures):
    recorded, now = json.loads(figures.RECORD.read_text()), figures.record()
    older = [name for name in now if recorded.get(name) != now[name]]
    assert older == [], "draw them again: python docs/figures.py"


def test_pictures_of_what_was_measured_are_of_these_figures(tmp_path):
    content = json.loads((PROJECT / "artifacts" / "out_of_fold.json").read_text())
    plots.operating_points(content, tmp_path / "operating_points.png")
    plots.reliability_diagram(content["reliability"], tmp_path / "reliability.png")
    for name in ("operating_points.png", "reliability.png"):
        pictures = [Image.open(folder / name) for folder in (tmp_path, PROJECT / "artifacts")]
        ours, shipped = (picture.convert("L") for picture in pictures)
        assert ImageChops.difference(ours, shipped).getbbox() is None, name


def test_a_change_of_what_a_picture_shows_is_seen(figures, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "PROJECT", tmp_path)
    monkeypatch.setattr(figures, "SHOWS", {"one.png": ("page/**/*",)})
    (tmp_path / "page" / "core").mkdir(parents=True)
    script = tmp_path / "page" / "core" / "draw.js"
    script.write_text("one")
    before = figures.shown_by("one.png")
    script.write_text("two")
    changed = figures.shown_by("one.png")
    script.rename(script.with_name("paint.js"))
    assert len({before, changed, figures.shown_by("one.png")}) == 3


def test_each_picture_is_shown_and_small(figures):
    pictures = {path.name for path in DOCS.iterdir() if path.suffix in {".png", ".svg"}}
    assert pictures == set(figures.SHOWS)
    for name in pictures:
        assert any(f"{name})" in read(document) for document in DOCUMENTS), name
        content = (DOCS / name).read_bytes()
        assert len(content) < LARGEST, name
        if name.endswith(".png"):
            assert Image.open(io.BytesIO(content)).mode == "P"
