"""Images to segment, the model that does it, and a pool that is no other process."""

import os

import pytest

from tests.support.predicting import write_images
from tumour_segmenter.cli import batch


@pytest.fixture(autouse=True)
def model(artifact, monkeypatch):
    monkeypatch.setenv("MODEL", os.fspath(artifact))


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


@pytest.fixture
def in_this_process(monkeypatch):
    """Work here, where a test is not about processes: each takes a second to start."""

    def outcomes(tasks, plan, provenance, jobs):
        batch.prepare(plan)
        return (batch.work(task, provenance) for task in tasks)

    for name in ("_plan", "_segment"):
        monkeypatch.setattr(batch, name, None, raising=False)
    monkeypatch.setattr(batch, "outcomes", outcomes)
