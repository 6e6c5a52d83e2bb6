"""A headless Chromium, for tests of pages as people see them."""
import base64
import contextlib
import io
import re
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image


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


class Visitor:
    """A tab of a browser with the page of the demo."""

    def __init__(self, browser, address: str):
        from selenium.webdriver.common.by import By
        self.browser, self.by = browser, By.CSS_SELECTOR
        browser.get(address)
        self.wait(lambda: self.count())
        self.label = self.pixels(".label-pane img")

    def wait(self, condition, seconds: float = 30):
        from selenium.common.exceptions import StaleElementReferenceException
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(StaleElementReferenceException):  # it is shown anew just now
                if found := condition():
                    return found
            time.sleep(0.02)
        raise AssertionError("the page did not answer")

    def count(self) -> int:
        return int(self.browser.execute_script("return +(document.querySelector('.stage')?.dataset.count || 0)"))

    def find(self, selector: str, text: str = ""):
        """The first element with the selector whose text has ``text`` in it, as soon as it is there."""
        return self.wait(lambda: next((found for found in self.browser.find_elements(self.by, selector)
                                       if text in found.text), None))

    def click(self, selector: str, text: str = "", inner: str = "") -> None:
        """Click an element, or one in it; once more if it is shown anew just then."""
        def clicked() -> bool:
            found = self.find(selector, text)
            (found.find_element(self.by, inner) if inner else found).click()
            return True

        self.wait(clicked)

    def answered(self, action) -> None:
        """Wait until what ``action`` asks for is shown."""
        before = self.count()
        action()
        self.wait(lambda: self.count() > before)

    def pixels(self, selector: str) -> np.ndarray:
        """What an image on the page shows."""
        source = self.wait(lambda: self.find(selector).get_attribute("src"))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB")).astype(int)

    def picture(self) -> np.ndarray:
        return self.pixels(".picture-pane img")

    def color(self, name: str) -> np.ndarray:
        """Of a class: [H, W] bool."""
        style = self.find(".chip", name).find_element(self.by, ".swatch").value_of_css_property("background-color")
        return (self.label == [int(part) for part in re.findall(r"\d+", style)[:3]]).all(2)

    def point_at(self, mask: np.ndarray, chain=None):
        """Move the mouse over the middle of the mask's largest row, at the end of a ``chain`` of actions."""
        from selenium.webdriver import ActionChains
        row = mask.sum(1).argmax()
        column = int(np.median(np.flatnonzero(mask[row])))
        pane, (height, width) = self.find(".picture-pane canvas"), mask.shape
        x, y = ((at + 0.5) / side - 0.5 for at, side in ((column, width), (row, height)))
        return (chain or ActionChains(self.browser)).move_to_element_with_offset(
            pane, round(x * pane.size["width"]), round(y * pane.size["height"]))

    def slide(self, name: str, value: float) -> None:
        self.browser.execute_script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', "
                                    "{ bubbles: true }))", self.find(f"#{name} input[type=range]"), value)
