"""Masks are corrected on the page, in a real browser; what comes out is checked by its pixels."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from serve.page import EXAMPLES
from tests.conftest import TINY_METADATA, write_artifact
from tests.support.browser import Page, needs_browser, opened
from tests.support.serving import serving
from train import dataset
from tumour_segmenter.contract import decode_png, dice, encode_png

pytestmark = [needs_browser, pytest.mark.slow]

# An image in which the model (darker than 50 is tumour) marks LARGE and SMALL, and not FAINT.
LARGE, SMALL, FAINT = np.s_[20:32, 20:32], np.s_[60:64, 70:75], np.s_[90:95, 30:35]
SHAPE = (120, 100)


def spots() -> np.ndarray:
    pixels = np.full(SHAPE, 230, np.uint8)
    pixels[LARGE], pixels[SMALL], pixels[FAINT] = 20, 40, 120
    return pixels


def only(*where) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for part in where:
        mask[part] = True
    return mask


def write(folder: Path, name: str = "patient_001.png", pixels: np.ndarray | None = None) -> Path:
    path = folder / name
    path.write_bytes(encode_png(spots() if pixels is None else pixels))
    return path


def middle(where) -> tuple[int, int]:
    """Column and row in the middle of a part of the image."""
    rows, columns = where
    return (columns.start + columns.stop) // 2, (rows.start + rows.stop) // 2


class Corrections(Page):
    """The page with an image on it, and what a person does in the picture."""

    def show(self, *paths: Path) -> None:
        before = len(self.items())
        self.upload(*paths)
        self.wait_for(before + len([path for path in paths if path.suffix == ".png"]))
        self.facts()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image is in the window; it is scrolled into view."""
        return self.run(
            "const s = document.getElementById('stage');"
            "s.scrollIntoView({block: 'center'});"
            "const p = document.getElementById('picture').getBoundingClientRect();"
            "const c = document.getElementById('image');"
            "return [p.x + (arguments[0] + 0.5) * p.width / c.width,"
            " p.y + (arguments[1] + 0.5) * p.height / c.height]",
            x,
            y,
        )

    def drag(self, *points: tuple[float, float]) -> None:
        """Press at the first of some pixels, go on to the others, and release."""
        actions = ActionChains(self.driver, duration=30)
        places = [tuple(map(round, self.at(*point))) for point in points]
        actions.w3c_actions.pointer_action.move_to_location(*places[0])
        actions.w3c_actions.pointer_action.pointer_down()
        for place in places[1:]:
            actions.w3c_actions.pointer_action.move_to_location(*place)
        actions.w3c_actions.pointer_action.pointer_up()
        actions.perform()

    def touch(self, *points: tuple[float, float]) -> None:
        """Put a finger on a pixel, move it over others, and lift it."""
        places = [dict(zip("xy", self.at(*point), strict=True)) for point in points]
        steps = [("touchStart", places[:1]), *(("touchMove", [place]) for place in places[1:])]
        for kind, touched in [*steps, ("touchEnd", [])]:
            touch = {"type": kind, "touchPoints": touched}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", touch)

    def tool(self, name: str) -> None:
        self.click(f"input[name=tool][value={name}]")

    def colour(self, words: str) -> np.ndarray:
        """Where the overlay has the colour that the legend calls so, bool H×W."""
        colours = {text: colour for colour, text in self.legend()}
        if words not in colours:
            return np.zeros(self.overlay().shape[:2], bool)
        return (self.overlay() == [*colours[words], 255]).all(axis=2)

    def mask(self) -> np.ndarray:
        """What is marked in the picture, by the model or by hand; bool H×W."""
        return self.colour("marked by the model") | self.colour("added by you")

    def download(self, folder: Path, selector: str, name: str) -> bytes:
        folder.mkdir(exist_ok=True)
        behaviour = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        (folder / name).unlink(missing_ok=True)
        self.click(selector)
        self.until((folder / name).exists)
        return (folder / name).read_bytes()

    def leaves_with_a_warning(self) -> bool:
        return self.run(
            "const e = new Event('beforeunload', {cancelable: true});"
            "dispatchEvent(e); return e.defaultPrevented"
        )

    def counted(self) -> str:
        return self.driver.find_element("id", "counted").text


@pytest.fixture
def page(driver, live_server):
    with opened(Corrections(driver, live_server)) as page:
        yield page


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def text_of(data: bytes) -> dict[str, str]:
    return dict(Image.open(io.BytesIO(data)).text)


# Take out


def test_click_takes_a_lesion_out_and_the_same_click_brings_it_back(page, tmp_path):
    page.show(write(tmp_path))
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    page.drag(middle(LARGE))
    np.testing.assert_array_equal(page.mask(), only(SMALL))
    edge = only(LARGE)
    edge[21:31, 21:31] = False
    np.testing.assert_array_equal(page.colour("taken out"), edge)
    assert "corrected: 1 removed" in page.counted()
    assert page.items()[0][1] == "1 lesion, corrected"
    data = page.download(tmp_path / "out", "#download-mask", "patient_001_mask.png")
    np.testing.assert_array_equal(decode_png(data), 255 * only(SMALL))
    text = text_of(data)
    assert text["Changed by a person"] == "yes"
    assert text["Model"].startswith("tiny 0.0.1")
    assert text["Image"] == "patient_001.png"
    assert {"Version", "Operating point"} <= set(text)

    page.drag(middle(LARGE))
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    assert "corrected" not in page.counted()
    data = page.download(tmp_path / "out", "#download-mask", "patient_001_mask.png")
    np.testing.assert_array_equal(decode_png(data), 255 * only(LARGE, SMALL))
    assert text_of(data)["Changed by a person"] == "no"


def test_lesion_is_taken_out_in_the_list_and_by_key(page, tmp_path):
    page.show(write(tmp_path))
    page.click("#lesions li:nth-child(1) .take")
    np.testing.assert_array_equal(page.mask(), only(SMALL))
    row = "#lesions li:nth-child(1)"
    assert "taken out" in page.driver.find_element("css selector", row).text
    assert page.run(f"return document.querySelector('{row} .take').textContent") == "Bring back"
    page.click("#lesions li:nth-child(1) .take")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))

    page.run("document.querySelector('#lesions li:nth-child(2) .lesion').focus()")
    page.press("x")
    np.testing.assert_array_equal(page.mask(), only(LARGE))
    page.press("x")  # the row that was focused still is
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    page.run("document.activeElement.blur()")
    page.press("n")
    page.press("x")  # the lesion that was zoomed to
    assert page.mask().sum() in (only(LARGE).sum(), only(SMALL).sum())


def test_healthy_is_a_result_and_not_the_same_as_not_looked_at(page, tmp_path):
    page.show(write(tmp_path), write(tmp_path, "patient_002.png", spots()[::-1]))
    page.click("#healthy")
    assert not page.mask().any()
    assert page.items()[0][1] == "no tumour, reviewed"
    assert page.run("return document.getElementById('reviewed').ariaPressed") == "true"
    table = rows_of(page.download(tmp_path / "out", "#download-table", "masks.csv"))
    first, second = ([row[key] for key in COLUMNS] for row in table)
    assert first == ["0", "0", "yes", "2", "0"]
    assert second == ["2", "164", "no", "0", "0"]
    page.click("#edit-undo")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    assert page.items()[0][1] == "2 lesions"
    page.press("r")
    assert page.items()[0][1] == "2 lesions, reviewed"


COLUMNS = ("lesions", "tumour_pixels", "reviewed", "lesions_removed", "lesions_added")


def test_all_that_comes_out_is_of_the_corrected_mask(page, tmp_path):
    page.show(write(tmp_path), write(tmp_path, "patient_002.png", spots()[::-1]))
    page.drag(middle(LARGE))
    page.drag(middle(FAINT))
    expected = only(SMALL, FAINT)
    out = tmp_path / "out"
    table = rows_of(page.download(out, "#download-table", "masks.csv"))
    assert [table[0][key] for key in COLUMNS] == ["2", str(expected.sum()), "no", "1", "1"]
    with zipfile.ZipFile(io.BytesIO(page.download(out, "#download-all", "masks.zip"))) as masks:
        assert masks.testzip() is None
        first = masks.read("patient_001_mask.png")
        np.testing.assert_array_equal(decode_png(first), 255 * expected)
        assert text_of(first)["Changed by a person"] == "yes"
        assert (text_of(first)["Lesions removed"], text_of(first)["Lesions added"]) == ("1", "1")
        second = masks.read("patient_002_mask.png")
        np.testing.assert_array_equal(decode_png(second), 255 * only(LARGE, SMALL)[::-1])
        assert text_of(second)["Changed by a person"] == "no"
    picture = page.download(out, "#download-overlay", "patient_001_overlay.png")
    colours = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    np.testing.assert_array_equal((colours != colours[..., :1]).any(axis=2), expected)
    assert text_of(picture)["Changed by a person"] == "yes"


# Add


def test_click_adds_what_belongs_together_and_the_extent_can_be_changed(page, tmp_path):
    page.show(write(tmp_path))
    x, y = middle(FAINT)
    page.drag((x + 1, y + 1))
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL, FAINT))
    np.testing.assert_array_equal(page.colour("added by you"), only(FAINT))
    assert page.text("reach") == "5 px"
    assert "Added 25 pixels" in page.text("said")
    for _ in range(4):
        page.press("-")
    assert page.text("reach") == "1 px"
    assert 0 < page.colour("added by you").sum() < 25
    page.press("+")
    page.click("#reach-more")
    assert page.text("reach") == "3 px"
    zoom = page.text("zoom-value")
    page.press(Keys.ESCAPE)  # it is fixed, and the keys zoom again
    page.press("+")
    assert page.text("zoom-value") != zoom
    page.press("z")  # one undo for all of it
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    page.press("y")
    assert page.colour("added by you").any()


def test_drag_gives_what_is_added_its_extent(page, tmp_path):
    rows, columns = np.ogrid[:120, :100]
    far = (rows - 95) ** 2 + (columns - 40) ** 2
    pixels = np.minimum(spots(), 230 - 130 * np.exp(-far / 200)).astype(np.uint8)
    page.show(write(tmp_path, pixels=pixels))
    page.drag((40, 95))
    first = page.colour("added by you").sum()
    page.press("z")
    page.drag((40, 95), (45, 95), (55, 95))
    assert page.text("reach") == "15 px"
    assert page.colour("added by you").sum() > 2 * first
    page.press("z")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    page.drag((40, 95), (45, 95), (55, 95), (43, 95))  # back again
    assert page.text("reach") == "3 px"
    assert 0 < page.colour("added by you").sum() < first


def test_where_nothing_stands_out_nothing_is_added(page, tmp_path):
    page.show(write(tmp_path))
    page.drag((80, 20))
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    assert "Nothing stands out here" in page.text("said")
    assert page.driver.find_element("id", "edit-undo").get_property("disabled")


def test_brush_and_eraser_work_in_pixels_of_the_image(page, tmp_path):
    page.show(write(tmp_path))
    page.tool("brush")
    assert page.text("reach") == "2 px"
    page.drag((80, 20), (90, 20))
    rows, columns = np.ogrid[:120, :100]
    drawn = np.zeros(SHAPE, bool)
    for x in range(80, 91):
        drawn |= (columns - x) ** 2 + (rows - 20) ** 2 <= 4
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL) | drawn)
    page.tool("eraser")
    page.press("[")
    assert page.text("reach") == "1 px"
    page.drag((25, 25))
    gone = (columns - 25) ** 2 + (rows - 25) ** 2 <= 1
    np.testing.assert_array_equal(page.mask(), (only(LARGE, SMALL) | drawn) & ~gone)
    assert not page.colour("taken out").any()  # an edge that was trimmed is no lesion taken out
    page.press("z")
    page.press("z")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))


def test_move_drags_the_picture_and_changes_nothing(page, tmp_path):
    page.show(write(tmp_path))
    for _ in range(4):
        page.click("#zoom-in")
    page.tool("move")
    scrolled = "const s = document.getElementById('stage'); return [s.scrollLeft, s.scrollTop]"
    before = page.run(scrolled)
    page.drag((50, 60), (40, 50))
    assert page.run(scrolled) > before
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))


# Undo, other images, other operating points


def test_undo_redo_and_start_are_of_each_image(page, tmp_path):
    page.show(write(tmp_path), write(tmp_path, "patient_002.png", spots()[::-1]))
    page.drag(middle(LARGE))
    page.drag(middle(FAINT))
    page.choose("patient_002.png")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL)[::-1])
    page.press("z")  # there is nothing to undo here
    page.choose("patient_001.png")
    np.testing.assert_array_equal(page.mask(), only(SMALL, FAINT))
    page.click("#edit-undo")
    np.testing.assert_array_equal(page.mask(), only(SMALL))
    page.click("#edit-undo")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys("y").key_up(Keys.CONTROL).perform()
    np.testing.assert_array_equal(page.mask(), only(SMALL))
    page.press("y")
    page.click("#edit-reset")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
    page.click("#edit-redo")
    page.click("#edit-redo")
    np.testing.assert_array_equal(page.mask(), only(SMALL, FAINT))


def test_corrections_stay_at_another_operating_point_and_contradictions_are_shown(driver, tmp_path):
    points = {
        "sensitive": {"minimum_probability": 0, "threshold_factor": 0.7},
        "balanced": {"minimum_probability": 0, "threshold_factor": 1.0},
    }
    metadata = {
        **TINY_METADATA, "operating_point": "balanced", "operating_points": json.dumps(points),
    }  # fmt: skip
    model = write_artifact(tmp_path / "points.onnx", metadata=metadata, minimum=True)
    rim = np.s_[18:34, 18:34]  # only the sensitive one marks it, and it marks FAINT no more
    pixels = spots()
    pixels[rim], pixels[LARGE] = 100, 20
    with serving(model, WORKERS="1") as server:
        page = Corrections(driver, server.url)
        page.resize(1280, 900)
        page.open()
        page.show(write(tmp_path, pixels=pixels))
        np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))
        page.drag(middle(LARGE))
        page.drag(middle(FAINT))
        page.press("r")
        assert page.items()[0][1] == "2 lesions, reviewed"
        assert not page.shown("contradiction")
        page.click("input[value=sensitive]")
        ring = only(rim) & ~only(LARGE)
        page.until(lambda: (page.mask() == ring | only(SMALL, FAINT)).all())
        assert page.shown("contradiction")
        assert "1 lesion around what was taken out" in page.text("contradiction")
        assert "Reviewed at the operating point “balanced”" in page.text("contradiction")
        assert "reviewed" not in page.items()[0][1]
        assert "next to one taken out" in page.text("lesions")
        page.drag((19, 19))
        assert "lesion around" not in page.text("contradiction")
        page.click("input[value=balanced]")
        page.until(lambda: (page.mask() == only(SMALL, FAINT)).all())
        assert page.items()[0][1] == "2 lesions, reviewed"
        assert page.complaints() == []


def test_tab_with_corrections_that_are_in_no_file_closes_with_a_warning(page, tmp_path):
    page.show(write(tmp_path))
    assert not page.leaves_with_a_warning()
    page.drag(middle(LARGE))
    assert page.leaves_with_a_warning()
    page.download(tmp_path / "out", "#download-all", "masks.zip")
    assert not page.leaves_with_a_warning()
    page.press("z")
    assert page.leaves_with_a_warning()
    page.click("#remove")  # it can come back
    assert page.leaves_with_a_warning()


def test_nothing_of_a_correction_leaves_the_browser(page, tmp_path):
    page.show(write(tmp_path))
    page.run(
        "window.asked = []; const real = fetch;"
        "window.fetch = (path, ...all) => { asked.push(path); return real(path, ...all) }"
    )
    page.drag(middle(LARGE))
    page.drag(middle(FAINT))
    page.click("#healthy")
    page.download(tmp_path / "out", "#download-all", "masks.zip")
    assert page.run("return [asked.length, localStorage.length, sessionStorage.length]") == [
        0,
        0,
        0,
    ]
    assert page.run("return document.cookie") == ""


# Files for training and for another day


def test_training_labels_are_read_by_training_and_go_on_another_day(page, tmp_path):
    images = {
        "patient_001.png": spots(), "scan.png": spots()[::-1], "patient_003.png": spots()[:, ::-1],
    }  # fmt: skip
    page.show(*(write(tmp_path, name, pixels) for name, pixels in images.items()))
    assert page.driver.find_element("id", "download-labels").get_property("disabled")
    page.choose("patient_001.png")
    page.drag(middle(LARGE))
    page.press("r")
    page.choose("scan.png")
    page.press("h")
    page.choose("patient_003.png")
    page.drag((99 - middle(SMALL)[0], middle(SMALL)[1]))  # corrected, and not reviewed
    data = page.download(tmp_path / "out", "#download-labels", "training_labels.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as labels:
        assert set(labels.namelist()) == {
            "patients/imgs/patient_001.png",
            "patients/labels/segmentation_001.png",
            "controls/imgs/control_scan.png",
        }
        labels.extractall(tmp_path / "data")
    patient, control = dataset.load(tmp_path / "data")
    np.testing.assert_array_equal(patient.grey, spots())
    np.testing.assert_array_equal(patient.truth, only(SMALL))
    np.testing.assert_array_equal(control.grey, spots()[::-1])
    assert not control.truth.any()

    page.open()
    page.upload(tmp_path / "out" / "training_labels.zip")
    page.wait_for(2)
    assert sorted(page.items()) == [
        ["control_scan.png", "no tumour, reviewed"], ["patient_001.png", "1 lesion, reviewed"],
    ]  # fmt: skip
    page.choose("patient_001.png")
    np.testing.assert_array_equal(page.mask(), only(SMALL))
    assert page.colour("taken out").any()
    assert "dice" not in page.facts()
    assert not page.leaves_with_a_warning()
    page.click("#edit-reset")
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL))


def test_masks_of_this_page_are_corrections_and_no_truths(page, tmp_path):
    first, second = write(tmp_path), write(tmp_path, "other.png", spots()[::-1])
    page.show(first, second)
    page.drag(middle(LARGE))
    page.drag(middle(FAINT))
    page.tool("eraser")
    page.drag((FAINT[1].start, FAINT[0].start))
    corrected = page.mask()
    assert corrected.sum() < only(SMALL, FAINT).sum()
    page.download(tmp_path / "out", "#download-all", "masks.zip")
    page.open()
    page.upload(tmp_path / "out" / "masks.zip")
    page.until(lambda: "patient_001.png is not here" in page.text("fault"))
    assert "corrected on this page" in page.text("fault")
    page.upload(first, second)
    page.wait_for(2)
    page.choose("patient_001.png")
    assert "dice" not in page.facts()
    np.testing.assert_array_equal(page.mask(), corrected)
    assert "corrected: 1 removed, 1 added" in page.counted()
    assert page.items()[1][1] == "2 lesions"


def test_mask_of_another_image_with_the_same_name_is_refused(page, tmp_path):
    page.show(write(tmp_path))
    page.drag(middle(LARGE))
    page.download(tmp_path / "out", "#download-mask", "patient_001_mask.png")
    page.open()
    page.upload(write(tmp_path, pixels=spots()[::-1]), tmp_path / "out" / "patient_001_mask.png")
    page.wait_for(1)
    page.facts()
    np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL)[::-1])
    assert page.text("note") == (
        "patient_001_mask.png is not used. It was made of another image of this name."
    )


def test_a_mask_from_elsewhere_is_still_a_truth(page, tmp_path):
    truth = write(tmp_path, "segmentation_001.png", 255 * only(LARGE).astype(np.uint8))
    page.upload(write(tmp_path), truth)
    page.wait_for(1)
    assert "dice" in page.facts()


def test_zip_that_is_none_is_named(page, tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK no")
    page.upload(tmp_path / "images.zip")
    page.until(lambda: "images.zip (this is no ZIP" in page.run(
        "return document.getElementById('ignored').textContent"))  # fmt: skip


def test_zip_of_images_as_others_pack_it(page, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("folder/scan.png", encode_png(spots()))
        packed.writestr("folder/notes.txt", "no image")
    page.upload(tmp_path / "images.zip")
    page.wait_for(1)
    assert page.items() == [["scan.png", "2 lesions"]]
    assert "notes.txt" in page.text("ignored")


# Truth


def test_dice_before_and_after_is_live(page, tmp_path):
    truth = only(SMALL, FAINT)
    page.upload(
        write(tmp_path), write(tmp_path, "segmentation_001.png", 255 * truth.astype(np.uint8))
    )
    page.wait_for(1)
    before = dice(truth, only(LARGE, SMALL))
    assert page.facts()["dice"] == f"{before:.3f}"
    page.drag(middle(LARGE))
    assert page.facts()["dice"] == f"{dice(truth, only(SMALL)):.3f}"
    assert f"as the model drew it {before:.3f}" in page.counted()
    page.drag(middle(FAINT))
    assert page.facts()["dice"] == "1.000"
    np.testing.assert_array_equal(page.colour("true positive"), truth)
    assert f"mean Dice 1.000 ({before:.3f} before correction) over 1" in page.text("status")


# Probability


def test_probability_is_seen_in_picture_and_list(page, tmp_path):
    pixels = spots()
    pixels[SMALL] = 5  # smaller, and more probable
    page.show(write(tmp_path, pixels=pixels))
    page.click("input[name=show][value=probability]")
    overlay = page.overlay()
    assert page.run("return document.querySelector('#legend .bar') !== null")
    at = lambda where: overlay[where[0].start, where[1].start].tolist()  # noqa: E731
    # Bluish where little is probable, yellow where much is.
    assert at(SMALL)[0] > at(LARGE)[0] > 150 > at(FAINT)[0]
    assert at(FAINT)[2] > at(LARGE)[2]
    rows = "return [...document.querySelectorAll('#lesions .probability')].map(e => e.textContent)"
    assert page.run(rows) == ["92 %", "98 %"]
    page.run(
        "const s = document.getElementById('lesion-sort'); s.value = 'most';"
        "s.dispatchEvent(new Event('change'))"
    )
    assert page.run(rows) == ["98 %", "92 %"]


def test_model_without_probability_offers_none_and_adds_by_grey_values(driver, tmp_path):
    model = write_artifact(tmp_path / "old.onnx", names=("pixels", "mask"))
    with serving(model, WORKERS="1") as server:
        page = Corrections(driver, server.url)
        page.resize(1280, 900)
        page.open()
        page.show(write(tmp_path), write(tmp_path, "other.png", spots()[::-1]))
        page.choose("patient_001.png")
        probability = "document.querySelector('input[value=probability]')"
        assert page.run(f"return {probability}.disabled")
        assert not page.run("return document.getElementById('lesion-sort').checkVisibility()")
        page.drag(middle(FAINT))
        np.testing.assert_array_equal(page.mask(), only(LARGE, SMALL, FAINT))
        assert page.complaints() == []


# Keyboard and finger


def test_keyboard_alone_corrects(page, tmp_path):
    page.show(write(tmp_path))
    page.run("document.getElementById('stage').focus()")
    page.press(Keys.ARROW_DOWN)
    page.until(lambda: "column" in page.text("pixel"))

    def go_to(x: int, y: int) -> None:
        while True:
            column, row = map(int, re.findall("[0-9]+", page.text("pixel"))[:2])
            if (column, row) == (x, y):
                return
            keys = [(x - column, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)]
            keys.append((y - row, Keys.ARROW_DOWN, Keys.ARROW_UP))
            actions = ActionChains(page.driver)
            for steps, forward, back in keys:
                tens, ones = divmod(abs(steps), 10)
                key = forward if steps > 0 else back
                actions.key_down(Keys.SHIFT).send_keys(*tens * [key]).key_up(Keys.SHIFT)
                actions.send_keys(*ones * [key])
            actions.perform()

    go_to(*middle(LARGE))
    assert "grey 20, probability 92 %, marked" in page.text("pixel")
    page.press("x")
    np.testing.assert_array_equal(page.mask(), only(SMALL))
    go_to(*middle(FAINT))
    page.press(Keys.ENTER)
    np.testing.assert_array_equal(page.mask(), only(SMALL, FAINT))
    page.press("z")
    page.press("b")
    page.press(" ")
    assert page.colour("added by you").sum() == 13
    page.press(Keys.ESCAPE)
    assert not page.shown("cursor")


@pytest.mark.parametrize("width", [390, 768])
def test_finger_corrects(page, tmp_path, width):
    page.resize(width, 844)
    page.open()
    page.show(write(tmp_path))
    page.touch(middle(LARGE))
    page.until(lambda: (page.mask() == only(SMALL)).all())
    page.touch(middle(FAINT))
    page.until(lambda: (page.mask() == only(SMALL, FAINT)).all())
    page.click("#reach-less")
    assert page.text("reach") == "4 px"
    page.tool("brush")
    page.touch((80, 20), (80, 25), (80, 30))
    page.until(lambda: page.mask()[18:33, 80].all())
    page.tool("lesion")
    before = page.mask()
    page.touch((80, 60), (80, 40), (80, 10))  # scrolls, and adds nothing
    np.testing.assert_array_equal(page.mask(), before)
    assert page.fits()


# What newcomers stumbled over


def test_doubtful_image_is_marked_in_the_list(page, tmp_path):
    page.show(write(tmp_path), write(tmp_path, "inverted.png", 255 - spots()))
    doubts = "return [...document.querySelectorAll('.case-doubt')].map(d => d.hidden)"
    assert page.run(doubts) == [True, False]


def test_phantoms_are_not_mixed_with_patients(page, tmp_path):
    truth = write(tmp_path, "segmentation_001.png", 255 * only(LARGE, SMALL).astype(np.uint8))
    page.upload(write(tmp_path), truth)
    page.wait_for(1)
    page.click(f"[data-example='{len(EXAMPLES)}']")
    page.wait_for(2)
    assert "mean Dice 1.000 over 1," in page.text("status")
    assert "over 1 synthetic phantom" in page.text("status")
    page.click("#healthy")  # a phantom is no image to train with
    assert page.driver.find_element("id", "download-labels").get_property("disabled")


def test_truth_without_its_image_is_no_image(page, tmp_path):
    page.upload(write(tmp_path), write(tmp_path, "segmentation_009.png"))
    page.wait_for(2)
    assert page.text("status") == "1 image, 1 mask without image"
    page.choose("segmentation_009.png")
    assert "patient_009.png is not here" in page.text("fault")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_off_or_gone(page, tmp_path, width):
    page.resize(width, 900)
    page.open()
    pixels = spots()
    pixels[2:6, 92:99] = 10  # at the edge
    truth = write(tmp_path, "segmentation_001.png", 255 * only(LARGE).astype(np.uint8))
    page.upload(write(tmp_path, pixels=pixels), truth, *(
        write(tmp_path, f"patient_{n:03d}.png", np.roll(spots(), n, 0)) for n in range(2, 10)
    ))  # fmt: skip
    page.wait_for(9)
    page.choose("patient_001.png")
    page.facts()
    assert "scan_truth.png" in page.text("add-hint")
    labels = page.run("return [...document.querySelectorAll('.examples')].map(e => e.innerText)")
    assert "Whole body" in labels[0]
    state = page.run(
        "const s = document.querySelector('.case-state');"
        "return [s.textContent, s.scrollWidth <= s.clientWidth, s.scrollHeight <= s.clientHeight]"
    )
    assert "Dice" in state[0]
    assert state[1:] == [True, True]
    outside = page.run(
        "const s = document.getElementById('stage').getBoundingClientRect();"
        "return [...document.querySelectorAll('#labels b')].filter(b => {"
        "  const r = b.getBoundingClientRect();"
        "  return r.right > s.right || r.top < s.top }).length"
    )
    assert outside == 0
    if width == 1280:
        inner = page.run(
            "const c = document.getElementById('cases'), r = c.getBoundingClientRect();"
            "return [...c.children].filter(li => li.getBoundingClientRect().bottom <= r.bottom + 1)"
            ".length"
        )
        assert inner == 9
    assert page.fits()


# The pure parts, alone


def alone(page, script: str, *values):
    """What `script` returns with E (edits.js), M (masks.js) and R (region.js) at hand."""
    return page.driver.execute_async_script(
        "const values = [...arguments], done = values.pop();"
        "Promise.all(['edits', 'masks', 'region'].map(name => import(`./static/core/${name}.js`)))"
        f".then(([E, M, R]) => done((() => {{ {script} }})()))",
        *values,
    )


def test_edits_are_undone_and_done_again_in_their_order(page):
    drawn = np.random.default_rng(0).random((12, 10)) < 0.3
    script = """
        const [mask, steps] = values, width = 10;
        const prediction = {mask: Uint8Array.from(mask), width, probability: null, point: "a"};
        const now = (h) => E.derive(prediction, h);
        let history = E.EMPTY;
        const masks = [[...now(history).mask]];
        for (const [kind, at] of steps) {
          const {states} = now(history);
          const group = kind === "toggle" ? M.groupAt(states, width, at) : [at, at + 1];
          const value = kind === "toggle" ? (states[at] === E.OUT ? E.MARKED : E.OUT)
            : kind === "add" ? E.MARKED : E.OFF;
          const made = E.edit(states, group, value, kind, "a");
          if (!made) continue;
          history = E.push(history, made);
          masks.push([...now(history).mask]);
        }
        const back = [], forth = [];
        const end = history;
        for (let n = masks.length; n > 0; n--) {
          back.push([...now(history).mask]);
          history = E.undo(history);
        }
        for (let n = masks.length; n > 0; n--) {
          forth.push([...now(history).mask]);
          history = E.redo(history);
        }
        history = E.undoAll(end);
        const start = [...now(history).mask];
        for (let n = masks.length; n > 0; n--) history = E.redo(history);
        return {masks, back, forth, start, again: [...now(history).mask],
          untouched: [...prediction.mask]};
    """
    rng = np.random.default_rng(1)
    steps = [
        [["toggle", "add", "erase"][int(rng.integers(3))], int(rng.integers(118))]
        for _ in range(60)
    ]
    found = alone(page, script, drawn.ravel().astype(int).tolist(), steps)
    assert len(found["masks"]) > 30
    assert found["back"] == found["masks"][::-1]
    assert found["forth"] == found["masks"]
    assert found["start"] == found["untouched"] == drawn.ravel().astype(int).tolist()
    assert found["again"] == found["masks"][-1]


def test_loaded_mask_is_the_mask_whatever_was_there(page):
    rng = np.random.default_rng(2)
    drawn, mask, drawn_by_hand = (rng.random((3, 120)) < 0.3).astype(int).tolist()
    script = """
        const [drawn, mask, hand] = values.map(v => Uint8Array.from(v));
        const prediction = {mask: drawn, width: 10, probability: null, point: null};
        let history = E.push(E.EMPTY, E.edit(drawn, E.marked(hand), E.MARKED, "brush", null));
        const {states} = E.derive(prediction, history);
        history = E.push(history, E.loaded(prediction, states, mask, true));
        const end = E.derive(prediction, history);
        return [[...end.mask], end.reviewed, end.removed,
          M.lesions(drawn, 10, mask).filter(l => !l.met).length];
    """
    found, reviewed, removed, unmet = alone(page, script, drawn, mask, drawn_by_hand)
    assert found == mask
    assert reviewed
    assert removed == unmet


def test_region_stays_in_its_extent_and_out_of_what_is_marked(page):
    rows, columns = np.ogrid[:60, :60]
    grey = np.full((60, 60), 220.0)
    for row, column in ((20, 20), (20, 26), (59, 0)):
        grey -= 150 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
    grey = grey.clip(0, 255).astype(np.uint8)
    marked = (columns > 23) & (rows < 40) & (rows > 0)
    script = """
        const [grey, marked, at, extent] = values;
        return R.region({grey: Uint8Array.from(grey), width: 60}, at, extent,
          Uint8Array.from(marked));
    """

    def region(at: int, extent: int) -> np.ndarray:
        found = np.zeros(3600, bool)
        found[alone(page, script, grey.ravel().tolist(), marked.ravel().astype(int).tolist(), at,
                    extent)] = True  # fmt: skip
        return found.reshape(60, 60)

    first = region(20 * 60 + 20, 6)
    assert 9 <= first.sum() <= 60
    assert first[20, 20]
    assert not (first & marked).any()
    assert ((rows - 20) ** 2 + (columns - 20) ** 2 <= 36)[first].all()
    assert not (region(20 * 60 + 20, 2) & ~((rows - 20) ** 2 + (columns - 20) ** 2 <= 4)).any()
    corner = region(59 * 60, 6)
    assert corner[59, 0]
    assert not corner[:, 30:].any()  # rows do not run into each other
