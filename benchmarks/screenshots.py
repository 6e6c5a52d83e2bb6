"""Pictures of pages as people see them, taken in a headless Chromium:

    python -m benchmarks.screenshots demo docs/demo.jpg
    python -m benchmarks.screenshots results/ccp/test_latest/index.html docs/page.jpg
    python -m benchmarks.screenshots demo people.png --tab people --width 390 --height 844 --dark

Of the demo: six looks of the hair, of which the third was taken. Of another page: with the pointer on the middle of its
third picture, which outlines what is there.
"""
import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.visitors import demo
from tests.browser import Visitor, chromium
from util.arguments import ArgumentParser, integer
from util.errors import UserError, command
from util.files import check_writable
from util.images import save_image


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("page", help="demo, or a page of test.py, gallery.py or train.py")
    add("out", help="picture to write: .jpg, .png or .webp")
    add("--tab", default="", help="words of a model's tab in the demo (default: the first model)")
    add("--width", type=integer(200, 4000), default=1200, help="pixels, below 500 of a phone (default 1200)")
    add("--height", type=integer(200, 4000), default=960, help="pixels (default 960)")
    add("--dark", action="store_true", help="as whoever prefers dark pages sees it")
    args = parser.parse_args()
    check_writable(args.out)
    if args.page != "demo" and not Path(args.page).is_file():
        raise UserError(f"{args.page}: no such page; give demo, or an index.html")
    return args


@command
def main() -> None:
    args = parse()
    with chromium(args.width, args.height, args.dark) as browser:
        if args.page == "demo":
            with demo() as (host, _):
                show_demo(Visitor(browser, f"http://{host}/"), args.tab)
                shot = browser.get_screenshot_as_png()
        else:
            browser.get(Path(args.page).resolve().as_uri())
            show_page(browser)
            shot = browser.get_screenshot_as_png()
    save_image(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")), args.out)


def show_demo(page: Visitor, tab: str) -> None:
    """Six looks of the hair, and the third of them taken."""
    if tab:
        page.answered(lambda: page.click("#layouts .tabs button", tab))
    page.click("button[data-tool=offer]")
    page.answered(lambda: page.click(".chip[data-name=hair] .style"))
    page.answered(lambda: page.click("#offers .strip button:nth-child(3)"))
    page.browser.execute_script("scrollTo(0, 0)")


def show_page(browser) -> None:
    from selenium.webdriver import ActionChains
    picture = browser.find_elements("css selector", "figure")[2]
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", picture)
    ActionChains(browser).move_to_element(picture).perform()


if __name__ == "__main__":
    main()
