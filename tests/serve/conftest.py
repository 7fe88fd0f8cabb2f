"""One browser for all tests of the page."""

import pytest

from tests.support.browser import Page, open_browser


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(driver, live_server):
    page = Page(driver, live_server)
    page.resize(1280, 900)
    page.open()
    yield page
    assert page.complaints() == []
