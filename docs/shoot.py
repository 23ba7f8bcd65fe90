"""Make docs/report.png or docs/learn.png anew from a page.

python docs/shoot.py tf_files/model/report.html report
python docs/shoot.py results/index.html learn          of drawn pictures: `retrain sample`
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1000, 880  # px: of a report the headline and the matrix, nobody's photos

out = Path(__file__).with_name(f"{sys.argv[2]}.png")
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(Path(sys.argv[1]).absolute().as_uri())
    page.screenshot(path=out)
    browser.close()
Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)
