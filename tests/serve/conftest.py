"""One browser for all tests of the page."""

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.support.browser import CHROMEDRIVER, CHROMIUM, FLAGS, Page


@pytest.fixture(scope="session")
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
