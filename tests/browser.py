"""A headless Chromium, for tests of pages as people see them."""
import contextlib
import shutil
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def chromium(width: int = 1200, height: int = 900, dark: bool = False) -> Iterator:
    """A browser of selenium; a test is skipped where there is none. Errors on its console fail the test."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -r requirements-dev.txt")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        resize(browser, width, height, dark)
        yield browser
        assert not (errors := browser.get_log("browser")), errors
    finally:
        browser.quit()


def resize(browser, width: int, height: int = 900, dark: bool = False) -> None:
    """The size of the page (below 500 pixels: of a phone), and the colours that its reader prefers."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height,
                                                                   "deviceScaleFactor": 1, "mobile": width < 500})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
