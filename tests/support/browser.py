"""The page for people in a real browser, as a person uses it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tumour_segmenter.contract import encode_png
from tumour_segmenter.phantom import phantom

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver on the PATH"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
# Answers that are no 2xx, and corrections that a test leaves without a file.
EXPECTED_FAULTS = re.compile("/(predict|label|image|key) - Failed to load|'beforeunload'")
PATIENCE = 60  # seconds; a machine may be busy


@contextmanager
def open_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser without a window, with a profile of its own."""
    options = Options()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


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

    def shown(self, id: str) -> bool:
        return self.driver.find_element(By.ID, id).is_displayed()

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
            "return Object.fromEntries([...document.querySelectorAll('.facts dl div')].map(d => "
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

    def legend(self) -> list[tuple[list[int], str]]:
        """Return colour and words of each entry."""
        entries = self.run(
            "return [...document.querySelectorAll('#legend li')].map(li => "
            "[getComputedStyle(li.querySelector('.swatch')).backgroundColor, li.textContent])"
        )
        return [([int(n) for n in re.findall("[0-9]+", css)], words) for css, words in entries]

    def fits(self) -> bool:
        return self.run("return document.documentElement.scrollWidth <= innerWidth")

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """Return what the browser complained of, beside answers that are no 2xx."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if not EXPECTED_FAULTS.search(str(entry))]


@contextmanager
def opened(page: Page) -> Iterator[Page]:
    """Open the page on a screen, and see that the browser had nothing to complain of."""
    page.resize(1280, 900)
    page.open()
    yield page
    assert page.complaints() == []


def draw(folder: Path, number: int, truth: bool = False, height: int = 120) -> list[Path]:
    """Write a phantom, and its truth, as the challenge names them."""
    pixels, mask = phantom(height, 100, 2, seed=number)
    paths = [folder / f"patient_{number:03d}.png"]
    paths[0].write_bytes(encode_png(pixels))
    if truth:
        paths.append(folder / f"segmentation_{number:03d}.png")
        paths[1].write_bytes(encode_png(mask))
    return paths
