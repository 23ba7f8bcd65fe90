"""Make docs/studio.png anew: python docs/shoot_studio.py.  Of drawn pictures, nobody's photos."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from retrain.options import SampleOptions
from retrain.recipes.sampling import draw_sample

WIDTH, HEIGHT = 1000, 1440  # px
OUT = Path(__file__).with_name("studio.png")
SERVE = [sys.executable, "-c", "from retrain.cli import main; main()", "serve", "--port", "0"]

with tempfile.TemporaryDirectory() as scratch:
    draw_sample(Path(scratch) / "data", SampleOptions(per_class=24))
    draw_sample(Path(scratch) / "new", SampleOptions(per_class=1, seed=9))
    environment = os.environ | {"TF_FILES": scratch}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with (
        subprocess.Popen(SERVE, env=environment, **pipes) as server,
        sync_playwright() as playwright,
    ):
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("kept back from training").wait_for(timeout=60_000)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Files", exact=True).click()
        chooser.value.set_files(next((Path(scratch) / "new" / "fish").iterdir()))
        page.get_by_text("wrong", exact=False).first.wait_for(timeout=60_000)
        page.wait_for_timeout(12_000)  # until the last message has gone
        page.screenshot(path=OUT)
        browser.close()
        server.terminate()
Image.open(OUT).convert("RGB").quantize(128).save(OUT, optimize=True)
