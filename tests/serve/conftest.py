"""One browser for all tests of the page."""

import pytest

from tests.support.browser import Page, open_browser, opened


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(driver, live_server):
    with opened(Page(driver, live_server)) as page:
        yield page
