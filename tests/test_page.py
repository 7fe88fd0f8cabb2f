"""The page for people in a real browser, asking a real server."""

import io
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from serve.contract import decode_png, dice, encode_png
from serve.page import EXAMPLES
from serve.phantom import phantom
from serve.segmenter import Baseline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver on the PATH"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
PATIENCE = 60  # seconds; a machine may be busy


class Page:
    """The page as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self) -> None:
        self.driver.get(self.url)
        self.until(lambda: "Version" in self.text("about"))

    def until(self, condition) -> None:
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())

    def run(self, script: str, *values):
        return self.driver.execute_script(script, *values)

    def text(self, id: str) -> str:
        return self.driver.find_element(By.ID, id).text

    def click(self, selector: str) -> None:
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        self.run("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", element)

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        ActionChains(self.driver).send_keys(key).perform()

    def upload(self, *paths: Path) -> None:
        self.driver.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))

    def items(self) -> list[tuple[str, str]]:
        """Return name and state of each image in the list."""
        return self.run(
            "return [...document.querySelectorAll('#cases li')].map(li => "
            "[li.querySelector('.case-name').textContent, "
            "li.querySelector('.case-state').textContent])"
        )

    def finished(self, count: int) -> bool:
        states = self.run(
            "return [...document.querySelectorAll('#cases li')].map(li => li.dataset.state)"
        )
        return len(states) == count and set(states) <= {"done", "failed"}

    def wait_for(self, count: int) -> None:
        self.until(lambda: self.finished(count))

    def choose(self, name: str) -> None:
        names = [item[0] for item in self.items()]
        self.click(f"#cases li:nth-child({names.index(name) + 1}) button")
        self.until(lambda: self.text("name") == name)

    def facts(self) -> dict[str, str]:
        """Return what stands beside the picture, by its key; waits until the picture is drawn."""
        self.until(lambda: self.run("return document.getElementById('image').width") != 300)
        return self.run(
            "return Object.fromEntries([...document.querySelectorAll('#facts div')].map(d => "
            "[d.dataset.fact, d.querySelector('dd').textContent]))"
        )

    def overlay(self) -> np.ndarray:
        """Return the overlay's pixels, uint8 H×W×4."""
        width, height, pixels = self.run(
            "const c = document.getElementById('overlay');"
            "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d');"
            "copy.drawImage(c, 0, 0);"
            "return [c.width, c.height, [...copy.getImageData(0, 0, c.width, c.height).data]]"
        )
        return np.array(pixels, np.uint8).reshape(height, width, 4)

    def fits(self) -> bool:
        return self.run("return document.documentElement.scrollWidth <= innerWidth")

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """Return what the browser complained of, beside answers that are no 2xx."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if "/predict - Failed to load" not in str(entry)]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = Options()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, live_server):
    page = Page(driver, live_server)
    page.resize(1280, 900)
    page.open()
    yield page
    assert page.complaints() == []


def draw(folder: Path, number: int, truth: bool = False, height: int = 120) -> list[Path]:
    """Write a drawn patient, and its truth, as the challenge names them."""
    pixels, mask = phantom(height, 100, 2, seed=number)
    paths = [folder / f"patient_{number:03d}.png"]
    paths[0].write_bytes(encode_png(pixels))
    if truth:
        paths.append(folder / f"segmentation_{number:03d}.png")
        paths[1].write_bytes(encode_png(mask))
    return paths


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
def test_examples_are_drawn_patients(client, number):
    pixels, truth = phantom(**EXAMPLES[number - 1])
    np.testing.assert_array_equal(decode_png(client.get(f"/examples/{number}.png").data), pixels)
    answer = client.get(f"/examples/{number}_truth.png")
    assert answer.mimetype == "image/png"
    np.testing.assert_array_equal(decode_png(answer.data), truth)


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
    assert facts["time"].endswith(" ms")
    assert facts["dice"] == f"{dice(truth, mask):.3f}"
    assert page.text("size") == "400 × 489 pixels"
    assert page.items() == [["example_1.png", f"{lesions} lesions, Dice {dice(truth, mask):.2f}"]]
    np.testing.assert_array_equal(page.overlay()[..., 3] > 0, marked)

    page.click("input[value=truth]")
    overlay = page.overlay()
    colours = {"hit": (1, marked & wanted), "extra": (0, marked & ~wanted)}
    for fact, (channel, where) in {**colours, "missed": (2, ~marked & wanted)}.items():
        strongest = (overlay[..., :3].argmax(axis=2) == channel) & (overlay[..., 3] > 0)
        np.testing.assert_array_equal(strongest, where)
        assert facts[fact] == f"{where.sum():,} pixels"


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
        "const real = fetch; window.flying = window.most = window.sent = 0;"
        "window.fetch = async (...all) => {"
        "  flying++; sent++; most = Math.max(most, flying);"
        "  try { return await real(...all) } finally { flying-- } }"
    )
    page.upload(*(path for number in range(40) for path in draw(tmp_path, number)))
    page.wait_for(40)
    assert page.run("return [most, sent]") == [2, 40]
    assert all("lesion" in state for _, state in page.items())
    assert page.text("status") == "40 images"


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
def test_server_that_is_gone_is_named_and_can_be_tried_again(page, tmp_path):
    page.run("window.real = fetch; window.fetch = async () => { throw new TypeError('failed') }")
    page.upload(*draw(tmp_path, 1))
    page.wait_for(1)
    assert page.text("fault").startswith("The server cannot be reached.")
    page.run("window.fetch = real")
    page.click("#retry")
    page.until(lambda: "lesion" in page.items()[0][1])


@needs_browser
def test_key_is_asked_for_where_the_server_wants_one(page, tmp_path):
    page.run(
        "const real = fetch; window.fetch = async (path, options) =>"
        "  options.headers.Authorization === 'Bearer open sesame' ? real(path, options) :"
        '  new Response(\'{"error": {"message": "send the key"}}\', {status: 401})'
    )
    page.upload(*draw(tmp_path, 1), *draw(tmp_path, 2))
    page.wait_for(2)
    assert page.text("fault") == "Send the key."
    page.driver.find_element(By.ID, "key-text").send_keys("open sesame", Keys.ENTER)
    page.until(lambda: all("lesion" in state for _, state in page.items()))
    assert page.text("status") == "2 images"


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
    for _ in range(25):
        page.press(Keys.TAB)
        reached.append(page.run("return document.activeElement.id"))
    assert {"files", "clear", "opacity", "zoom-in", "stage", "download-mask"} <= set(reached)
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
