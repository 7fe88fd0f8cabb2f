"""The figures of the documentation are what their command draws."""

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from serve.page import EXAMPLES
from tests.conftest import PROJECT
from tumour_segmenter.contract import decode_png
from tumour_segmenter.phantom import phantom

DOCS = PROJECT / "docs"


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pipeline_is_what_its_code_draws(figures):
    assert (DOCS / "pipeline.svg").read_text() == figures.pipeline()


def test_phantom_is_the_first_example(figures):
    pixels, _ = phantom(**EXAMPLES[0])
    shown = pixels[:, figures.COLUMNS]
    np.testing.assert_array_equal(decode_png((DOCS / "phantom.png").read_bytes()), shown)
    overlay = Image.open(io.BytesIO((DOCS / "phantom_overlay.png").read_bytes())).convert("RGB")
    colours = np.asarray(overlay)
    plain = (colours == colours[..., :1]).all(axis=2)
    np.testing.assert_array_equal(colours[plain][:, 0], shown[plain])
    assert 0 < np.count_nonzero(~plain) < plain.size / 10
