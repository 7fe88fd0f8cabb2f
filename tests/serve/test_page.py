"""The page for people in a real browser, asking a real server."""

import csv
import io
import json
import re
import shutil
import struct
import time
import zipfile
import zlib
from base64 import b64encode

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from serve.app import create_app
from serve.guard import OPEN
from serve.page import EXAMPLES
from serve.settings import Settings
from tests.conftest import TINY_METADATA, write_artifact
from tests.support.browser import Page, draw, needs_browser
from tests.support.serving import serving
from tumour_segmenter.contract import decode, decode_png, dice, encode, encode_png, image_hash
from tumour_segmenter.measure import measure
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline


def turned_png() -> bytes:
    """A PNG that says it is to be shown turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(phantom(120, 100)[0]).save(file, "PNG", exif=exif)
    assert b"eXIf" in file.getvalue()
    return file.getvalue()


def saved(pixels: np.ndarray, **how) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.quantize(16) if how.pop("palette", False) else image).save(file, "PNG", **how)
    return file.getvalue()


GREY = phantom(120, 100)[0]
# Opaque above, gone below: what is transparent is white to the server.
ALPHA = np.where(np.arange(120)[:, None] < 60, 255, 0).repeat(100, axis=1).astype(np.uint8)
ODD_PNGS = {
    "turned": turned_png(),
    "gamma": saved(GREY)[:33]
    + struct.pack(">I4sI", 4, b"gAMA", 22_727)
    + struct.pack(">I", zlib.crc32(struct.pack(">4sI", b"gAMA", 22_727)))
    + saved(GREY)[33:],
    "colours": saved(np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)),
    "palette": saved(GREY, palette=True),
    "transparent": saved(np.stack([GREY, GREY, GREY, ALPHA], axis=2)),
    "16 bits": saved(GREY.astype(np.uint16) * 257),
    "12 bits in 16": saved(GREY.astype(np.uint16) * 16),
}


# Without a browser


def read(client, path: str) -> bytes:
    with client.get(path) as answer:  # closes the file behind it
        assert answer.status_code == 200
        return answer.data


def test_page_says_what_it_is_not(client):
    assert "Research software, not a medical device." in read(client, "/").decode()


def test_nothing_in_the_page_is_inline_or_from_elsewhere(client):
    html = read(client, "/").decode()
    for inline in ("<style", " style=", "<script>", " onclick=", " onload="):
        assert inline not in html
    for name in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert not re.match("[a-z]+:|/", name), "works behind a proxy with any path"
        read(client, f"/{name}")


@pytest.mark.parametrize("number", range(1, len(EXAMPLES) + 1))
def test_examples_are_phantoms(client, number):
    pixels, truth = phantom(**EXAMPLES[number - 1])
    np.testing.assert_array_equal(decode_png(client.get(f"/examples/{number}.png").data), pixels)
    answer = client.get(f"/examples/{number}_truth.png")
    assert answer.mimetype == "image/png"
    np.testing.assert_array_equal(decode_png(answer.data), truth)


def test_label_is_read_strictly(client):
    _, truth = phantom(120, 100)
    grey = np.dstack([np.full_like(truth, 255)] * 3 + [truth])  # the label is in the transparency
    answer = client.post("/label", json={"img": b64encode(saved(grey)).decode()})
    np.testing.assert_array_equal(decode(answer.json["img"]), truth)
    for bad in (phantom(120, 100)[0], 255 - truth):
        answer = client.post("/label", json={"img": encode(bad)})
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_label")


def test_image_comes_back_as_it_is_read(client):
    answer = client.post("/image", json={"img": b64encode(ODD_PNGS["12 bits in 16"]).decode()})
    np.testing.assert_array_equal(decode(answer.json["img"]), decode_png(ODD_PNGS["12 bits in 16"]))


@pytest.mark.parametrize("path", ["/label", "/image"])
def test_reading_is_limited_as_predicting_is(artifact, path):
    environ = {"MODEL": str(artifact), "API_KEY": "secret", "MAX_PIXELS": "5000", "QUEUE": "1"}
    app = create_app(Settings.read(environ))
    client, key = app.test_client(), {"X-API-Key": "secret"}
    small, large = (json.dumps({"img": encode(np.zeros(s, np.uint8))}) for s in ((9, 9), (80, 80)))
    assert client.post(path, data=small).status_code == 401
    answer = client.post(path, data=small, headers=key)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.post(path, data=large, headers=key).status_code == 413
    assert client.post(path, data=b" " * 2_000_000, headers=key).status_code == 413
    assert client.post(path, data=b"{}", headers=key).json["error"]["code"] == "missing_img"
    with app.extensions["queue"].slot(time.monotonic() + 9):
        assert client.post(path, data=small, headers=key).status_code == 503


def test_whatever_reads_an_image_is_guarded_and_needs_a_queue_slot(artifact):
    app = create_app(Settings.read({"MODEL": str(artifact), "QUEUE": "1"}))
    posts = [rule for rule in app.url_map.iter_rules() if "POST" in rule.methods]
    assert not {rule.endpoint for rule in posts} & OPEN
    with app.extensions["queue"].slot(time.monotonic() + 9):
        for rule in posts:
            answer = app.test_client().post(rule.rule, json={"img": "x"})
            assert answer.json["error"]["code"] == "overloaded", rule.rule


def test_key_can_be_tried_before_an_image_is_sent(client, artifact):
    assert client.get("/key").status_code == 204
    locked = create_app(Settings.read({"MODEL": str(artifact), "API_KEY": "secret"})).test_client()
    assert locked.get("/key").status_code == 401
    assert locked.get("/key", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert locked.get("/key", headers={"Authorization": "Bearer secret"}).status_code == 204


def test_predict_tells_of_doubts_and_of_training_images(tmp_path):
    known, other = phantom(120, 100, seed=1)[0], phantom(120, 100, seed=2)[0]
    metadata = {**TINY_METADATA, "trained_on": json.dumps([image_hash(known)])}
    model = write_artifact(tmp_path / "m.onnx", metadata=metadata)
    client = create_app(Settings.read({"MODEL": str(model)})).test_client()
    first, second, inverted = (
        client.post("/predict", json={"img": encode(pixels)})
        for pixels in (known, other, 255 - other)
    )
    assert first.headers["X-Trained-On"] == "true"
    assert "X-Trained-On" not in second.headers
    assert "X-Warning" not in second.headers
    assert "inverted" in inverted.headers["X-Warning"]
    assert {*first.json} == {*inverted.json} == {"img"}


@pytest.mark.parametrize("name", ["0.png", "4.png", "4_truth.png", "x.png", "1.jpg"])
def test_other_examples_are_not_there(client, name):
    answer = client.get(f"/examples/{name}")
    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "not_found"


# In a browser


@needs_browser
def test_example_is_segmented_counted_and_compared(page):
    page.click("[data-example='1']")
    page.wait_for(1)
    pixels, truth = phantom(**EXAMPLES[0])
    mask = Baseline()(pixels)
    marked, wanted = mask > 0, truth > 0
    lesions = label(marked, np.ones((3, 3)))[1]
    facts = page.facts()
    assert facts["lesions"] == str(lesions)
    assert facts["area"] == f"{marked.sum():,} pixels"
    assert facts["share"] == f"{100 * marked.sum() / (pixels < 250).sum():.2f} %"
    assert facts["time"].endswith("s")
    assert facts["model"] == "tiny"
    assert facts["dice"] == f"{dice(truth, mask):.3f}"
    assert page.text("size") == "400 × 489 pixels"
    assert page.items() == [["example_1.png", f"{lesions} lesions, Dice {dice(truth, mask):.2f}"]]

    # What comes with a truth opens in Compare, and the legend has the colours that are drawn.
    overlay = page.overlay()
    kinds = {"tp": marked & wanted, "fp": marked & ~wanted, "fn": ~marked & wanted}
    for (fact, where), (colour, words) in zip(kinds.items(), page.legend(), strict=True):
        np.testing.assert_array_equal((overlay == [*colour, 255]).all(axis=2), where)
        assert facts[fact] == f"{where.sum():,} pixels"
        assert (
            words
            == {"t": "true", "f": "false"}[fact[0]] + {"p": " positive", "n": " negative"}[fact[1]]
        )

    page.click("input[value=mask]")
    np.testing.assert_array_equal(page.overlay()[..., 3] > 0, marked)
    ((colour, words),) = page.legend()
    assert words == "marked by the model"
    np.testing.assert_array_equal((page.overlay() == [*colour, 255]).all(axis=2), marked)


@needs_browser
def test_outline_and_opacity(page, tmp_path):
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    page.facts()
    filled = page.overlay()[..., 3] > 0
    page.click("input[value=outline]")
    edge = page.overlay()[..., 3] > 0
    padded = np.pad(filled, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    np.testing.assert_array_equal(edge, filled & ~inside)

    slider = page.driver.find_element(By.ID, "opacity")
    slider.send_keys(Keys.HOME)
    assert page.text("opacity-value") == "0 %"
    assert page.run("return getComputedStyle(document.getElementById('overlay')).opacity") == "0"
    slider.send_keys(Keys.END)
    assert page.run("return getComputedStyle(document.getElementById('overlay')).opacity") == "1"


@needs_browser
def test_several_files_with_and_without_truth(page, tmp_path):
    files = [*draw(tmp_path, 1), *draw(tmp_path, 2, truth=True), *draw(tmp_path, 3, height=991)]
    page.upload(*files)
    page.wait_for(3)
    (one, alone), (two, compared), (three, _) = page.items()
    assert (one, two, three) == ("patient_001.png", "patient_002.png", "patient_003.png")
    assert "Dice" not in alone
    assert "Dice" in compared
    assert page.text("status").startswith("3 images, mean Dice")
    assert page.text("name") == "patient_001.png"
    page.choose("patient_002.png")
    assert "dice" in page.facts()
    page.choose("patient_003.png")
    page.until(lambda: page.text("size") == "100 × 991 pixels")
    assert "dice" not in page.facts()


@needs_browser
def test_many_files_are_asked_about_two_at_a_time(page, tmp_path):
    page.run(
        "const real = fetch; window.flying = window.most = 0;"
        "window.fetch = async (...all) => {"
        "  flying++; most = Math.max(most, flying);"
        "  try { return await real(...all) } finally { flying-- } }"
    )
    page.upload(*(path for number in range(40) for path in draw(tmp_path, number)))
    page.wait_for(40)
    assert page.run("return most") == 2
    assert all("lesion" in state for _, state in page.items())
    assert re.fullmatch(r"40 images, \d+ ms each", page.text("status"))


@needs_browser
def test_files_can_be_dropped(page):
    page.run(
        "const files = new DataTransfer();"
        "files.items.add(new File([Uint8Array.from(arguments[0])], 'scan.png'));"
        "document.body.dispatchEvent(new DragEvent('drop',"
        "  {dataTransfer: files, bubbles: true, cancelable: true}))",
        list(encode_png(phantom(90, 80)[0])),
    )
    page.wait_for(1)
    assert page.text("name") == "scan.png"
    assert page.text("size") == "80 × 90 pixels"


@needs_browser
def test_errors_of_the_api_are_shown_in_words_and_stop_nothing_else(page, tmp_path):
    broken = tmp_path / "photo.png"
    broken.write_bytes(b"\xff\xd8\xff not a PNG")
    empty = tmp_path / "empty.png"
    empty.touch()
    page.upload(broken, empty, *draw(tmp_path, 1))
    page.wait_for(3)
    assert [state == "failed" for _, state in page.items()] == [True, True, False]
    assert page.text("status") == "3 images, 2 failed"
    assert page.text("fault") == "Expected a PNG, the image is JPEG."
    assert not page.driver.find_element(By.ID, "retry").is_displayed()
    page.choose("empty.png")
    assert page.text("fault") == "The image is empty, expected a PNG."


@needs_browser
def test_busy_server_is_asked_again(page, tmp_path):
    page.run(
        "const real = fetch; let left = 2; window.fetch = async (...all) => left-- > 0 ?"
        "  new Response('{}', {status: 503, headers: {'Retry-After': '0.3'}}) : real(...all)"
    )
    start = time.monotonic()
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    assert time.monotonic() - start > 0.6
    assert "lesion" in page.items()[0][1]


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["busy", "broken", "another size"])
def test_picture_that_cannot_be_read_never_stands_for_another(page, tmp_path, kind):
    """The server reads PNGs of 16 bits for the page; what it cannot read is said."""
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    page.facts()
    (tmp_path / "deep.png").write_bytes(ODD_PNGS["16 bits"])
    page.run(
        "const real = fetch, [kind, other] = arguments; let left = 2;"
        "window.fetch = async (path, options) => {"
        "  if (path !== 'image') return real(path, options);"
        "  if (kind === 'busy' && left-- > 0)"
        "    return new Response('{}', {status: 503, headers: {'Retry-After': '0.2'}});"
        "  if (kind === 'broken') return new Response("
        "    JSON.stringify({error: {message: 'it is broken'}}), {status: 500});"
        "  return kind === 'busy' ? real(path, options)"
        "    : new Response(JSON.stringify({img: other})) }",
        kind,
        encode(phantom(90, 80)[0]),
    )
    page.upload(tmp_path / "deep.png")
    page.wait_for(2)
    page.choose("deep.png")
    drawn = "const c = document.getElementById('image'); return c.width * c.height"
    if kind == "busy":
        assert page.run(drawn) == GREY.size
        return
    assert page.run(drawn) == 0
    assert not page.shown("result")
    words = {"broken": "It is broken.", "another size": "they do not belong together"}[kind]
    assert words in page.text("fault")
    assert page.shown("retry")
    page.choose("patient_001.png")
    assert page.run(drawn) == 120 * 100


@needs_browser
def test_server_that_is_gone_is_named_and_can_be_tried_again(page, tmp_path):
    page.run("window.real = fetch; window.fetch = async () => { throw new TypeError('failed') }")
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    assert page.text("fault").startswith("The server cannot be reached.")
    page.run("window.fetch = real")
    page.click("#retry")
    page.until(lambda: "lesion" in page.items()[0][1])


@needs_browser
def test_key_is_asked_for_before_an_image_is_sent(driver, artifact, tmp_path):
    with serving(artifact, API_KEY="open sesame", WORKERS="1") as server:
        page = Page(driver, server.url)
        page.resize(1280, 900)
        page.open()
        page.until(lambda: page.shown("key"))
        page.upload(*draw(tmp_path, 1, truth=True), *draw(tmp_path, 2))
        page.until(lambda: [state for _, state in page.items()] == 2 * ["waits for the key"])
        asked = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert not any(name.endswith("/predict") for name in asked)
        assert page.text("key-fault") == ""  # none was sent, so none is wrong

        field = page.driver.find_element(By.ID, "key-text")
        field.send_keys("close sesame", Keys.ENTER)
        page.until(lambda: page.text("key-fault") == "This is not the key of this server.")
        field.clear()
        field.send_keys("open sesame", Keys.ENTER)
        page.wait_for(2)
        assert all("lesion" in state for _, state in page.items())
        assert "Dice" in page.items()[0][1]
        assert not page.shown("key")
        page.complaints()


@needs_browser
def test_operating_point_is_chosen_for_all_images(driver, tmp_path):
    points = {
        "sensitive": {"minimum_probability": 0.5, "dice": 0.71, "dice_standard_error": 0.01,
                      "lesion_sensitivity": 0.812, "false_lesions_per_patient": 4.93,
                      "specificity": 0.2},
        "balanced": {"minimum_probability": 0.9, "dice": 0.7, "specificity": 0.52},
        "specific": {"minimum_probability": 1.0, "dice": 0.6, "specificity": 0.955},
    }  # fmt: skip
    metadata = {
        **TINY_METADATA,
        "operating_point": "balanced",
        "operating_points": json.dumps(dict(sorted(points.items()))),
    }
    model = write_artifact(tmp_path / "points.onnx", metadata=metadata, minimum=True)
    pixels, _ = phantom(120, 100, 2, seed=1)
    with serving(model, WORKERS="1") as server:
        page = Page(driver, server.url)
        page.resize(1280, 900)
        page.open()
        page.upload(*draw(tmp_path, 1))
        page.wait_for(1)
        page.facts()
        shown = page.run(
            "return [...document.querySelectorAll('#points tbody tr')]"
            ".map(row => [...row.children].map(cell => cell.textContent))"
        )
        assert shown == [
            ["Sensitive", "0.710", "81 %", "4.9", "20 %"],
            ["Balanced", "0.700", "", "", "52 %"],
            ["Specific", "0.600", "", "", "96 %"],
        ]
        areas = {}
        for name, said in (("balanced", "48 %"), ("sensitive", "80 %"), ("specific", "5 %")):
            if name != "balanced":
                page.click(f"input[value={name}]")
                page.until(lambda said=said: said in page.text("trust"))
            assert f"{said} of healthy controls get a false-positive mask." in page.text("trust")
            minimum = points[name]["minimum_probability"]
            expected = (pixels < 50) & (1 - pixels / 255.0 >= minimum)
            np.testing.assert_array_equal(page.overlay()[..., 3] > 0, expected)
            areas[name] = int(expected.sum())
        assert areas["sensitive"] > areas["balanced"] > areas["specific"] > 0
        assert page.complaints() == []


@needs_browser
def test_model_without_operating_points_offers_none_and_invents_no_figures(page, tmp_path):
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    page.facts()
    assert not page.shown("points")
    assert not re.search("[0-9]", page.text("trust"))


@needs_browser
def test_truth_may_come_before_or_after_its_image(page, tmp_path):
    image, truth = draw(tmp_path, 1, truth=True)
    page.upload(truth)
    page.until(lambda: "patient_001.png is not here" in page.text("fault"))
    page.upload(image)
    page.until(lambda: page.finished(1) and "Dice" in page.items()[0][1])

    image = image.rename(tmp_path / "scan.png")
    truth = truth.rename(tmp_path / "scan_truth.png")
    page.upload(image)
    page.wait_for(2)
    page.upload(truth)
    page.until(lambda: "Dice" in page.items()[1][1])


@needs_browser
def test_truths_are_known_by_their_names(page):
    names = {
        "segmentation_001.png": "patient_001",
        "scan_label.png": "scan",
        "scan_labels.PNG": "scan",
        "scan-mask.png": "scan",
        "a.b_ground_truth.png": "a.b",
        "label_7.png": "image_7",
        "gt_scan.png": "scan",
    }
    images = (
        "patient_001.png",
        "scan.png",
        "unmasked.png",
        "label.png",
        "mask.png",
        "seglabel.png",
    )
    found = page.driver.execute_async_script(
        "const [names, done] = arguments;"
        "import('./static/session.js').then(({imagesOf}) => done(names.map(imagesOf)))",
        [*names, *images],
    )
    for (name, image), candidates in zip(names.items(), found[: len(names)], strict=True):
        assert image in candidates, name
    assert found[len(names) :] == [None] * len(images)


@needs_browser
def test_truths_of_many_finished_images_are_read_in_turn(page, tmp_path):
    drawn = [draw(tmp_path, number, truth=True) for number in range(12)]
    page.upload(*(image for image, _ in drawn))
    page.wait_for(12)
    page.run(
        "const real = fetch; window.flying = window.most = 0;"
        "window.fetch = async (...all) => {"
        "  flying++; most = Math.max(most, flying);"
        "  try { return await real(...all) } finally { flying-- } }"
    )
    page.upload(*(truth for _, truth in drawn))
    page.until(lambda: "over 12" in page.text("status"))
    assert page.run("return most") <= 2
    assert page.text("name") == "patient_000.png"

    page.click("input[value=mask]")
    page.upload(drawn[5][1])  # one alone is what somebody wants to look at
    page.until(lambda: page.text("name") == "patient_005.png")
    page.until(lambda: page.run("return document.querySelector('[value=truth]').checked"))


@needs_browser
def test_truth_that_cannot_be_compared_is_named(page, tmp_path):
    (image,) = draw(tmp_path, 1)
    (tmp_path / "segmentation_001.png").write_bytes(encode_png(np.zeros((5, 7), np.uint8)))
    page.upload(image, tmp_path / "segmentation_001.png")
    page.wait_for(1)
    assert "dice" not in page.facts()
    assert "is 7×5, the image 100×120" in page.text("note")


@needs_browser
def test_mask_and_picture_can_be_downloaded(page, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(folder)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    pixels, _ = phantom(120, 100, 2, seed=1)
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    page.facts()
    mask, picture = folder / "patient_001_mask.png", folder / "patient_001_overlay.png"
    for button, path in (("#download-mask", mask), ("#download-overlay", picture)):
        page.click(button)
        page.until(path.exists)
    np.testing.assert_array_equal(decode_png(mask.read_bytes()), Baseline()(pixels))
    colours = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))
    coloured = (colours != colours[..., :1]).any(axis=2)
    np.testing.assert_array_equal(coloured, Baseline()(pixels) > 0)
    np.testing.assert_array_equal(colours[~coloured][:, 0], pixels[~coloured])


@needs_browser
def test_keyboard_alone_is_enough(page, tmp_path):
    page.upload(*draw(tmp_path, 1), *draw(tmp_path, 2))
    page.wait_for(2)
    page.run("document.querySelector('#cases button').focus()")
    page.press(Keys.ARROW_DOWN)
    page.until(lambda: page.text("name") == "patient_002.png")
    page.facts()
    reached = []
    page.run("document.activeElement.blur()")
    for _ in range(45):
        page.press(Keys.TAB)
        reached.append(page.run("return document.activeElement.id"))
    assert {"files", "clear", "opacity", "zoom-in", "stage", "remove"} <= set(reached)
    stage = page.driver.find_element(By.ID, "stage")
    before = page.text("zoom-value")
    stage.send_keys("-")
    assert int(page.text("zoom-value").split()[0]) < int(before.split()[0])
    stage.send_keys("+")
    stage.send_keys("+")
    assert int(page.text("zoom-value").split()[0]) > int(before.split()[0])
    page.click("#zoom-fit")
    assert page.text("zoom-value") == before


@needs_browser
def test_everything_one_can_touch_has_a_name(page, tmp_path):
    page.upload(*draw(tmp_path, 1, truth=True))
    page.wait_for(1)
    page.facts()
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "link", "slider", "radio", "image", "region", "progressbar", "heading"}
    nodes = [node for node in tree if node.get("role", {}).get("value") in roles]
    names = {json.dumps(node["role"]["value"]): node["name"]["value"] for node in nodes}
    nameless = [node for node in nodes if not node["name"]["value"].strip()]
    assert nameless == []
    assert {'"button"', '"slider"', '"radio"', '"image"', '"heading"'} <= set(names)


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 820, 1280, 1920])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    page.resize(width, 844)
    page.open()
    assert page.fits()
    (image, truth), long = draw(tmp_path, 1, truth=True), tmp_path / f"{'long_name_' * 12}.png"
    long.write_bytes(image.read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no")
    page.upload(image, truth, long, broken)
    page.wait_for(3)
    page.facts()
    for name in (image.name, long.name, "broken.png", image.name):
        page.choose(name)
        assert page.fits()
    for _ in range(4):
        page.click("#zoom-in")
    assert page.fits()


@needs_browser
def test_nothing_is_asked_of_other_servers(page):
    page.click("[data-example='2']")
    page.wait_for(1)
    asked = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert any(name.endswith("/predict") for name in asked)
    assert all(name.startswith((page.url, "blob:")) for name in asked)


@needs_browser
def test_clear_forgets_everything(page, tmp_path):
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    page.click("#clear")
    assert page.items() == []
    assert not page.driver.find_element(By.ID, "viewer").is_displayed()
    page.upload(*draw(tmp_path, 2))
    page.wait_for(1)
    assert page.text("name") == "patient_002.png"


@needs_browser
def test_one_can_be_removed_and_what_is_removed_comes_back(page, tmp_path):
    page.upload(*draw(tmp_path, 1, truth=True), *draw(tmp_path, 2), *draw(tmp_path, 3))
    page.wait_for(3)
    before = page.items()
    page.choose("patient_002.png")
    page.click("#remove")
    assert page.items() == [before[0], before[2]]
    assert page.text("name") == "patient_003.png"
    assert "patient_002.png removed." in page.text("removed")
    page.click("#undo")
    assert page.items() == before
    assert page.text("name") == "patient_002.png"
    page.click("#clear")
    assert page.items() == []
    page.click("#undo")
    assert page.items() == before
    assert page.text("status").startswith("3 images, mean Dice")


@needs_browser
def test_images_under_way_are_asked_about_again_after_undo(page, tmp_path):
    page.run(
        "window.real = fetch; window.fetch = (path, options) => new Promise((_, fail) =>"
        "  options.signal.addEventListener('abort', () => fail(options.signal.reason)))"
    )
    page.upload(*draw(tmp_path, 1), *draw(tmp_path, 2), *draw(tmp_path, 3))
    page.until(lambda: page.items()[1][1].startswith("segmenting"))
    page.click("#clear")
    page.run("window.fetch = real")
    page.click("#undo")
    page.wait_for(3)
    assert all("lesion" in state for _, state in page.items())


@needs_browser
def test_list_is_sorted_by_name_or_dice(page, tmp_path):
    numbers = (10, 9, 2)
    page.upload(*(path for n in numbers for path in draw(tmp_path, n, truth=n != 9)))
    page.wait_for(3)

    def order(by: str) -> list[int]:
        page.run(
            "const s = document.getElementById('sort'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('change'))",
            by,
        )
        return [int(name[8:11]) for name, _ in page.items()]

    score = {}
    for n in (10, 2):
        pixels, truth = phantom(120, 100, 2, seed=n)
        score[n] = dice(truth, Baseline()(pixels))
    assert order("name") == [2, 9, 10]
    assert order("dice") == [*sorted(score, key=score.get), 9]
    assert order("added") == list(numbers)


@needs_browser
def test_all_masks_and_the_table_can_be_downloaded(page, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(folder)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    broken = tmp_path / 'brok,en"é.png'
    broken.write_bytes(b"no")
    (tmp_path / "other").mkdir()
    (twice,) = draw(tmp_path / "other", 1)
    page.upload(*draw(tmp_path, 1, truth=True), *draw(tmp_path, 2), broken)
    page.upload(twice)
    page.wait_for(4)
    for button, path in (("all", folder / "masks.zip"), ("table", folder / "masks.csv")):
        page.click(f"#download-{button}")
        page.until(path.exists)
    with zipfile.ZipFile(folder / "masks.zip") as masks:
        assert masks.testzip() is None
        numbers = {
            "patient_001_mask.png": 1,
            "patient_002_mask.png": 2,
            "patient_001_mask (2).png": 1,
        }
        assert masks.namelist() == list(numbers)
        for name, number in numbers.items():
            expected = Baseline()(phantom(120, 100, 2, seed=number)[0])
            np.testing.assert_array_equal(decode_png(masks.read(name)), expected)
    with (folder / "masks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [
        "patient_001.png", "patient_002.png", broken.name, "patient_001.png",
    ]  # fmt: skip
    pixels, truth = phantom(120, 100, 2, seed=1)
    measured = measure(pixels, Baseline()(pixels))
    assert int(rows[0]["lesions"]) == measured.lesions
    assert int(rows[0]["tumour_pixels"]) == measured.tumour_pixels
    assert int(rows[0]["body_pixels"]) == measured.body_pixels
    assert float(rows[0]["share_of_body"]) == pytest.approx(measured.share_of_body, abs=1e-6)
    assert float(rows[0]["dice"]) == pytest.approx(dice(truth, Baseline()(pixels)), abs=1e-6)
    assert rows[1]["dice"] == ""
    assert "PNG" in rows[2]["fault"]
    assert rows[2]["lesions"] == rows[0]["fault"] == ""


@needs_browser
def test_lesions_are_listed_and_a_click_zooms_to_one(page, tmp_path):
    page.upload(*draw(tmp_path, 1, truth=True))
    page.wait_for(1)
    page.facts()
    pixels, truth = phantom(120, 100, 2, seed=1)
    mask, wanted = Baseline()(pixels) > 0, truth > 0
    groups, number = label(mask, np.ones((3, 3)))
    areas = sorted((int((groups == n + 1).sum()) for n in range(number)), reverse=True)
    missed, count = label(wanted, np.ones((3, 3)))
    unmet = [n for n in range(1, count + 1) if not mask[missed == n].any()]
    rows = page.run(
        "return [...document.querySelectorAll('#lesions .lesion')].map(b =>"
        " [...b.children].filter(c => c.className !== 'probability').map(c => c.textContent))"
    )
    assert [row[1].split()[0] for row in rows[:number]] == [f"{area}" for area in areas]
    assert [row[0] for row in rows[:number]] == [str(n + 1) for n in range(number)]
    assert len(rows) == number + len(unmet)
    assert {row[2] for row in rows[:number]} <= {"true positive", "false positive"}
    assert all(row[2] == "false negative" for row in rows[number:])

    smallest = f"#lesions li:nth-child({number}) .lesion"
    page.click(smallest)
    framed = page.run(
        "const f = document.querySelector('#labels .framed').getBoundingClientRect();"
        "const s = document.getElementById('stage').getBoundingClientRect();"
        "return [(f.left + f.right - s.left - s.right) / s.width, f.top > s.top,"
        " f.bottom < s.bottom, f.left > s.left, f.right < s.right]"
    )
    assert framed[1:] == 4 * [True]
    assert int(page.text("zoom-value").split()[0]) > 300
    assert page.run("return document.querySelector('#labels .framed').textContent") == str(number)
    page.press("n")
    assert page.run("return document.querySelector('#labels .framed').textContent") != str(number)


@needs_browser
def test_zoom_keeps_the_point_under_the_pointer(page, tmp_path):
    page.upload(*draw(tmp_path, 1, height=240))
    page.wait_for(1)
    page.facts()
    for _ in range(3):
        page.click("#zoom-in")
    page.run("const s = document.getElementById('stage'); s.scrollTop = 200; s.scrollLeft = 60")
    where = (
        "const p = document.getElementById('picture').getBoundingClientRect();"
        "const s = document.getElementById('stage').getBoundingClientRect();"
        "const x = s.left + 0.3 * s.width, y = s.top + 0.7 * s.height;"
    )
    point = where + "return [(x - p.left) / p.width, (y - p.top) / p.height, p.width]"
    before = page.run(point)
    page.run(
        where + "document.getElementById('stage').dispatchEvent(new WheelEvent('wheel',"
        " {ctrlKey: true, deltaY: -200, clientX: x, clientY: y, bubbles: true, cancelable: true}))"
    )
    after = page.run(point)
    assert after[2] > 1.2 * before[2]
    assert after[:2] == pytest.approx(before[:2], abs=0.005)


@needs_browser
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_toolbar_stays_where_it_is(page, tmp_path, width):
    page.resize(width, 844)
    page.open()
    page.upload(*draw(tmp_path, 1, truth=True), *draw(tmp_path, 2), *draw(tmp_path, 3, height=400))
    page.wait_for(3)
    places = set()

    def note() -> None:
        page.facts()
        offset = "return document.getElementById('{}').getBoundingClientRect().top - " + (
            "document.getElementById('viewer').getBoundingClientRect().top"
        )
        places.add(tuple(round(page.run(offset.format(id))) for id in ("show", "zoom-in", "stage")))

    for name in ("patient_001.png", "patient_002.png", "patient_003.png"):
        page.choose(name)
        note()
    page.choose("patient_001.png")
    page.click("input[value=mask]")
    note()
    for _ in range(6):
        page.click("#zoom-in")
        note()
    assert len(places) == 1


@needs_browser
def test_phone_has_the_picture_in_view_after_the_upload(page, tmp_path):
    page.resize(390, 844)
    page.open()
    drop = page.run("return document.querySelector('.drop').innerText").strip()
    assert drop == "Choose PNG images"
    page.upload(*draw(tmp_path, 1, height=489), *draw(tmp_path, 2))
    page.wait_for(2)
    page.facts()
    top, bottom = page.run(
        "const r = document.getElementById('picture').getBoundingClientRect();"
        "return [r.top, r.bottom]"
    )
    assert top >= 0
    assert bottom <= 844


@needs_browser
def test_shortcuts_are_listed_and_work(page, tmp_path):
    page.press("?")
    assert page.shown("shortcuts")
    listed = set(
        page.run("return [...document.querySelectorAll('#shortcuts kbd')].map(k => k.textContent)")
    )
    assert {"j", "k", "n", "c", "o", "+", "0", "Delete", "u", "?"} <= listed
    page.press(Keys.ESCAPE)
    assert not page.shown("shortcuts")

    page.upload(*draw(tmp_path, 1, truth=True), *draw(tmp_path, 2))
    page.wait_for(2)
    page.run("document.activeElement.blur()")
    checked = "return document.querySelector('input[name={}]:checked').value"
    page.facts()
    for key, name, before, after in (
        ("c", "show", "truth", "mask"),
        ("o", "show", "mask", "outline"),
        ("p", "show", "outline", "probability"),
    ):
        assert page.run(checked.format(name)) == before
        page.press(key)
        assert page.run(checked.format(name)) == after
    page.press("j")
    assert page.text("name") == "patient_002.png"
    page.press("k")
    assert page.text("name") == "patient_001.png"
    page.press(Keys.DELETE)
    assert [name for name, _ in page.items()] == ["patient_002.png"]
    page.press("u")
    assert [name for name, _ in page.items()] == ["patient_001.png", "patient_002.png"]


@needs_browser
@pytest.mark.parametrize("name", sorted(ODD_PNGS))
def test_picture_is_what_the_server_reads(page, tmp_path, name):
    """Browsers turn images by their orientation, and read some other PNGs otherwise."""
    data = ODD_PNGS[name]
    (tmp_path / "odd.png").write_bytes(data)
    page.upload(tmp_path / "odd.png")
    page.wait_for(1)
    page.facts()
    read = decode_png(data)
    drawn = page.run(
        "const c = document.getElementById('image');"
        "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d');"
        "copy.drawImage(c, 0, 0);"
        "return [c.height, c.width, [...copy.getImageData(0, 0, c.width, c.height).data]]"
    )
    grey = np.array(drawn[2]).reshape(*drawn[:2], 4)[..., 0]
    np.testing.assert_array_equal(grey, read)
    np.testing.assert_array_equal(page.overlay()[..., 3] > 0, Baseline()(read) > 0)


@needs_browser
def test_truths_are_read_strictly_and_refusals_are_in_words(page, tmp_path):
    (image, truth) = draw(tmp_path, 1, truth=True)
    mask = decode_png(truth.read_bytes())
    truth.unlink()
    shutil.copy(image, tmp_path / "scan.png")
    shutil.copy(image, tmp_path / "grey.png")
    # White on a transparent ground, as drawing programs save it.
    layers = np.stack([mask, mask, mask, mask], axis=2)
    Image.fromarray(layers, "RGBA").save(tmp_path / "scan_label.png")
    Image.fromarray(np.where(mask, 100, 30).astype(np.uint8)).save(tmp_path / "grey_label.png")
    names = ("scan.png", "scan_label.png", "grey.png", "grey_label.png")
    page.upload(*(tmp_path / name for name in names))
    page.wait_for(2)
    expected = dice(mask, Baseline()(decode_png(image.read_bytes())))
    assert page.items()[0][1].endswith(f"Dice {expected:.2f}")
    page.choose("grey.png")
    assert "dice" not in page.facts()
    assert page.text("note").startswith("grey_label.png cannot be compared. This label cannot be")


@needs_browser
def test_image_may_be_chosen_while_its_truth_is_read(page, tmp_path):
    page.run(
        "const real = fetch; const held = new Promise(go => { window.go = go });"
        "window.fetch = async (path, options) => {"
        "  const answer = await real(path, options);"
        "  if (path === 'label') { window.holding = true; await held }"
        "  return answer }"
    )
    page.upload(*draw(tmp_path, 1, truth=True), *draw(tmp_path, 2, truth=True))
    page.until(lambda: page.run("return window.holding"))
    page.choose("patient_002.png")
    page.choose("patient_001.png")
    assert not page.shown("result")
    page.run("go()")
    page.wait_for(2)
    assert "dice" in page.facts()


@needs_browser
def test_doubtful_masks_and_images_come_with_a_warning(page, tmp_path):
    (image,) = draw(tmp_path, 1)
    inverted = tmp_path / "inverted.png"
    inverted.write_bytes(encode_png(255 - decode_png(image.read_bytes())))
    page.upload(image, inverted)
    page.wait_for(2)
    page.facts()
    assert not page.shown("warning")
    page.choose("inverted.png")
    assert "inverted" in page.text("warning")


@needs_browser
def test_image_that_the_model_was_trained_on_is_named(driver, tmp_path):
    known, truth = draw(tmp_path, 1, truth=True)
    (other,) = draw(tmp_path, 2)
    hashes = json.dumps([image_hash(decode_png(known.read_bytes()))])
    model = write_artifact(tmp_path / "m.onnx", metadata={**TINY_METADATA, "trained_on": hashes})
    with serving(model, WORKERS="1") as server:
        page = Page(driver, server.url)
        page.open()
        page.upload(known, truth, other)
        page.wait_for(2)
        page.facts()
        assert page.shown("trained-on")
        assert "over 1 (the model was trained on 1 of them)" in page.text("status")
        page.choose(other.name)
        assert not page.shown("trained-on")
