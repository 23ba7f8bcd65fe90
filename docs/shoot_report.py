"""Make docs/report.png anew: python docs/shoot_report.py tf_files/model/report.html"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1000, 880  # px: the headline and the matrix, no picture

out = Path(__file__).with_name("report.png")
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(Path(sys.argv[1]).absolute().as_uri())
    page.screenshot(path=out)
    browser.close()
Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)
