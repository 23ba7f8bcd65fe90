"""Studio as a person uses it: Chromium, headless, with a drawn webcam."""

import base64
import re
import shutil
import zipfile
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect
from servers import serving

PHONE = 390  # px
LARGE = 24  # px, of a target for fingers, WCAG 2.5.8
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PICTURES_A_CLASS = 20
HOSTILE = "<img src=x onerror=alert(1)> & \u202e\"'"
TRAINING_MS = 60_000
DROP = """(node, {kind, files}) => {
    const transfer = new DataTransfer();
    for (const [name, data] of files) {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
    }
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
        : new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true});
    node.dispatchEvent(event);
}"""


def _is_wrong(message):
    """A small picture may be asked for in the moment in which it goes to another class."""
    return not ("404" in message.text and "/studio/pictures/" in message.location.get("url", ""))


@pytest.fixture
def open_studio(browser):
    """open_studio(**options of the context): a page on a server of the test's own.  At the end nobody complained."""
    complaints, contexts, servers = [], [], []

    def open_studio(fragment="", token=None, **options):
        if not servers:
            servers.append(serving(token=token))
            addresses.append(servers[0].__enter__())
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text) if _is_wrong(message) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("filechooser", lambda _: None)  # else Playwright catches them too late for a key
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(f"{addresses[0]}/{fragment}")
        return page

    addresses = []
    open_studio.complaints = complaints
    try:
        yield open_studio
    finally:
        for context in contexts:
            context.close()
        for server in servers:
            server.__exit__(None, None, None)
    assert not complaints


@pytest.fixture
def home(data, tmp_path):
    """A tf_files folder with twenty pictures each of fish and trees."""
    (tmp_path / "tf_files").mkdir(exist_ok=True)
    return data.rename(tmp_path / "tf_files" / "data").parent


@pytest.fixture
def taught(home, trained):
    """The same, with a model."""
    shutil.copytree(trained / "model", home / "model")
    return home


def drop(node, paths, kind="drop"):
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    node.evaluate(DROP, {"kind": kind, "files": files})


def drag(page, node, path):
    """Drag a file or folder onto a node, as the mouse does."""
    box = node.bounding_box()
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {
            "type": kind, "x": box["x"] + 20, "y": box["y"] + 20,
            "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1},
        })  # fmt: skip


def drawn(sample, name, count=PICTURES_A_CLASS, start=0):
    return sorted((sample / name).iterdir())[start : start + count]


def card(page, name):
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


def add_class(page, name):
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_role("button", name="Add class").click()
    card(page, name).wait_for()


def add_files(page, name, paths):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=f"Add files: {name}").click()
    chooser.value.set_files(paths)


def try_files(page, paths):
    before = page.locator(".guess").count()
    drop(page.locator(".drop"), paths)
    expect(page.locator(".guess .bars:has(li)")).to_have_count(before + len(paths))


def violations(page):
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    return [(each["id"], each["impact"], [node["html"] for node in each["nodes"]]) for each in found]


def test_person_teaches_two_classes_and_mends_a_guess(open_studio, sample, tmp_path):
    page = open_studio()
    expect(page.get_by_text("Two classes with pictures are needed.")).to_be_visible()
    for name in ("fish", "tree"):
        add_class(page, name)
        drop(card(page, name), drawn(sample, name))
        expect(card(page, name).get_by_text("20 pictures")).to_be_visible()
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator(".headline")).to_contain_text("95 % interval", timeout=TRAINING_MS)
    expect(page.locator("#train")).to_contain_text("Trained on 40 pictures in")

    try_files(page, drawn(sample, "tree", 1, 20))
    guess = page.locator(".guess")
    expect(guess.get_by_role("heading")).to_have_text(re.compile("fish|tree|unknown"))
    heat = guess.get_by_role("img", name="What speaks for")
    assert heat.evaluate("async (image) => (await image.decode(), image.naturalWidth)") > 0
    guess.get_by_label("Wrong? It is").select_option("fish")
    guess.get_by_role("button", name="Add to this class").click()
    expect(card(page, "fish").get_by_text("21 pictures")).to_be_visible()
    expect(page.get_by_text("The pictures have changed since.")).to_be_visible()
    page.get_by_role("button", name="Train again").click()
    expect(page.get_by_text("The pictures have changed since.")).to_be_hidden(timeout=TRAINING_MS)
    expect(page.locator("#train")).to_contain_text("Trained on 41 pictures in")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download: Model folder").click()
    download.value.save_as(tmp_path / "export.zip")
    assert zipfile.ZipFile(tmp_path / "export.zip").namelist()
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Open the report").click()
    expect(opened.value.get_by_role("heading", level=1)).to_have_text("A model of 2 classes")
    assert opened.value.locator("h1").evaluate("node => getComputedStyle(node).fontSize") == "20px"  # of its own sheet


def test_all_of_it_goes_by_keyboard_alone(open_studio, sample):
    page = open_studio()

    def go_to(name, key="Tab"):
        for _ in range(60):
            page.keyboard.press(key)
            told = page.evaluate("[document.activeElement.ariaLabel, document.activeElement.textContent]")
            if name in told:
                return
        raise AssertionError(name)

    for name in ("fish", "tree"):
        go_to("Name")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        card(page, name).wait_for()
        go_to(f"Add files: {name}", "Shift+Tab")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(drawn(sample, name))
        expect(card(page, name).get_by_text("20 pictures")).to_be_visible()
    go_to("Train")
    page.keyboard.press("Enter")
    expect(page.locator(".headline")).to_be_visible(timeout=TRAINING_MS)
    go_to("See the 20 pictures of fish", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="fish: 20 pictures")).to_be_focused()
    page.keyboard.press("Tab")  # Close
    page.keyboard.press("Tab")  # Select all
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    go_to("Take out", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(card(page, "fish").get_by_text("19 pictures")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(card(page, "fish").get_by_text("20 pictures")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="See the 20 pictures of fish")).to_be_focused()


def test_class_is_renamed_and_removed_and_both_are_undone(open_studio, home):
    page = open_studio()
    page.get_by_role("button", name="Rename: fish").click()
    page.keyboard.type("shark")
    page.keyboard.press("Control+z")  # in a field it takes back what was typed
    page.keyboard.type("shark")
    page.keyboard.press("Enter")
    expect(card(page, "shark").get_by_role("heading")).to_be_focused()
    page.get_by_role("button", name="Remove: tree").click()
    expect(page.locator(".card h3")).to_have_text(["shark", "New class"])
    page.get_by_role("button", name="Undo: tree taken out").click()
    expect(page.locator(".card h3")).to_have_text(["shark", "tree", "New class"])
    page.keyboard.press("Control+z")
    expect(page.locator(".card h3")).to_have_text(["fish", "tree", "New class"])
    assert {folder.name for folder in (home / "data").iterdir() if not folder.name.startswith(".")} == {"fish", "tree"}


def test_folder_of_folders_becomes_classes(open_studio, sample, data):
    page = open_studio()
    (data / "fish" / "notes.txt").write_text("no picture")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose folder").click()
    chooser.value.set_files(data)
    for name in ("fish", "tree"):
        expect(card(page, name).get_by_text("20 pictures")).to_be_visible()


def test_folders_dragged_in_by_the_mouse_become_classes(open_studio, data):
    page = open_studio()
    drag(page, card(page, "New class"), data)
    for name in ("fish", "tree"):
        expect(card(page, name).get_by_text("20 pictures")).to_be_visible()
    drag(page, card(page, "fish"), data / "tree")
    expect(card(page, "fish").get_by_text("40 pictures")).to_be_visible()


def test_pasted_picture_goes_where_the_person_is(open_studio, taught, sample):
    page = open_studio()
    page.get_by_role("button", name="Add files: tree").focus()
    drop(page.locator("body"), drawn(sample, "tree", 1, 21), "paste")
    expect(card(page, "tree").get_by_text("21 pictures")).to_be_visible()
    page.locator("#try").get_by_role("button", name="Files").focus()
    drop(page.locator("body"), drawn(sample, "tree", 1, 22), "paste")
    expect(page.locator(".guess .bars li").first).to_be_visible()


def test_what_is_dropped_beside_a_class_is_not_lost_but_said(open_studio, home, sample):
    page = open_studio()
    drop(page.locator("h1"), drawn(sample, "tree", 1))
    expect(page.get_by_role("alert")).to_contain_text("Drop pictures onto a class")


def test_file_that_is_no_picture_is_named_with_its_reason(open_studio, home, sample, tmp_path):
    page = open_studio()
    (tmp_path / "broken.jpg").write_text("words")
    add_files(page, "tree", [tmp_path / "broken.jpg", *drawn(sample, "tree", 2, 19)])
    expect(card(page, "tree").get_by_text("21 pictures")).to_be_visible()
    expect(
        page.get_by_role("status").filter(has_text="1 picture added to tree. 1 picture there already.")
    ).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("broken.jpg: not_an_image")


def test_pictures_are_moved_to_another_class_and_back(open_studio, home):
    page = open_studio()
    page.get_by_role("button", name="See the 20 pictures of fish").click()
    for number in range(3):
        page.locator(".pictures input").nth(number).check()
    page.get_by_label("Move to").focus()
    page.keyboard.press("ArrowDown")  # choosing is not yet doing
    page.get_by_role("button", name="Move", exact=True).click()
    expect(card(page, "tree").get_by_text("23 pictures")).to_be_visible()
    expect(page.locator(".pictures li")).to_have_count(17)
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    expect(page.locator(".pictures li")).to_have_count(20)


def test_webcam_takes_several_while_its_button_is_held(open_studio, home):
    page = open_studio()
    page.get_by_role("button", name="Webcam: tree").click()
    shutter = page.get_by_role("button", name="Hold to take pictures")
    expect(shutter).to_be_focused()
    shutter.hover()
    page.mouse.down()
    page.locator(".strip img").nth(2).wait_for()
    page.mouse.up()
    expect(page.get_by_role("status").filter(has_text="added to tree.")).to_be_visible()
    taken = int(page.locator(".webcam").get_by_text("pictures taken").inner_text().split()[0])
    assert taken >= 3
    expect(card(page, "tree").get_by_text(f"{20 + taken} pictures")).to_be_visible()
    page.keyboard.press("Space")
    expect(card(page, "tree").get_by_text(f"{21 + taken} pictures")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Webcam: tree")).to_be_focused()
    saved = sorted((home / "data" / "tree").glob("webcam-*.jpg"))
    assert len(saved) == taken + 1 and Image.open(saved[0]).width == 640


def test_webcam_is_guessed_live_and_stands_still_while_it_is_corrected(open_studio, taught):
    page = open_studio()
    page.locator("#try").get_by_role("button", name="Webcam").click()
    expect(page.locator(".guess .bars li")).to_have_count(5)
    video = page.locator(".guess video")
    assert not video.evaluate("video => video.paused")
    page.get_by_label("Wrong? It is").focus()
    assert video.evaluate("video => video.paused")
    page.get_by_label("Wrong? It is").select_option("fish")
    page.get_by_role("button", name="Add to this class").click()
    expect(card(page, "fish").get_by_text("21 pictures")).to_be_visible()
    page.get_by_role("button", name="Stop webcam").click()
    expect(video).to_have_count(0)


def test_unknown_thing_is_shown_as_unknown(open_studio, taught, tmp_path):
    page = open_studio()
    Image.effect_noise((200, 200), 100).convert("RGB").save(tmp_path / "noise.jpg")
    page.route("**/guess?*", _as_unknown)
    try_files(page, [tmp_path / "noise.jpg"])
    expect(page.locator(".guess").get_by_role("heading")).to_have_text("unknown")
    expect(page.locator(".guess")).to_contain_text("It looks like none of the classes. Nearest:")


def _as_unknown(route):
    answer = route.fetch()
    told = answer.json()
    told["guesses"][0]["unknown"] = True
    route.fulfill(response=answer, json=told)


def test_copy_is_found_taken_out_and_brought_back(open_studio, home, sample):
    for path in drawn(sample, "tree", 2):
        shutil.copy(path, home / "data" / "tree" / f"copy of {path.name}")
    page = open_studio()
    page.get_by_role("button", name="Look for suspects").click()
    suspects = page.locator(".suspect")
    expect(suspects.filter(has_text="the same bytes 2 times")).not_to_have_count(0, timeout=TRAINING_MS)
    count = suspects.count()
    copies = suspects.filter(has=page.get_by_role("checkbox")).first
    expect(copies.locator("img")).to_have_count(2)
    expect(copies.locator("bdi")).to_have_text([re.compile("^tree/"), re.compile("^tree/")])
    expect(copies.locator(":checked")).to_have_count(1)
    copies.get_by_role("button", name="Take out").click()
    expect(card(page, "tree").get_by_text("21 pictures")).to_be_visible()
    expect(suspects).to_have_count(count - 1)
    page.keyboard.press("Control+z")
    expect(card(page, "tree").get_by_text("22 pictures")).to_be_visible()
    suspects.first.get_by_role("button", name="Keep").click()
    expect(suspects).to_have_count(count - 2)


def test_folder_is_sorted_after_a_preview_and_that_is_undone(open_studio, taught, sample):
    (taught / "inbox").mkdir()
    for path in drawn(sample, "tree", 3):
        shutil.copy(path, taught / "inbox")
    page = open_studio()
    page.get_by_label("The pictures are").select_option("moved")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="What would happen")).to_be_focused(timeout=TRAINING_MS)
    assert len(list((taught / "inbox").glob("*.jpg"))) == 3
    page.get_by_text("Each picture", exact=True).click()
    expect(page.get_by_role("cell", name="tree-000.jpg", exact=True)).to_be_visible()
    page.get_by_role("button", name="Move 3 pictures").click()
    expect(page.locator("#sort").get_by_text("3 pictures sorted into inbox.")).to_be_visible(timeout=TRAINING_MS)
    assert not list((taught / "inbox").glob("*.jpg"))
    page.get_by_role("button", name="Undo: sorted into inbox").click()
    expect(page.get_by_role("status").filter(has_text="Undone: sorted into inbox.")).to_be_visible()
    assert len(list((taught / "inbox").glob("*.jpg"))) == 3


def test_names_by_strangers_are_text_and_nothing_else(open_studio, taught, sample):
    folder = taught / "data" / HOSTILE
    folder.mkdir()
    for number, path in enumerate(drawn(sample, "sun", 3)):
        shutil.copy(path, folder / f"{number} {HOSTILE}.jpg")
    page = open_studio()
    expect(card(page, "fish")).to_be_visible()
    assert HOSTILE in page.locator(".card h3").all_text_contents()
    page.locator(".card").filter(has_text="onerror").get_by_role("button", name="See the 3 pictures").click()
    expect(page.locator(".pictures bdi")).to_have_count(3)
    assert page.locator(".pictures bdi").first.text_content() == f"0 {HOSTILE}.jpg"
    try_files(page, [folder / f"0 {HOSTILE}.jpg"])
    page.get_by_label("Wrong? It is").focus()
    assert HOSTILE in page.get_by_label("Wrong? It is").locator("option").all_text_contents()
    assert page.locator("img[src=x]").count() == 0


def test_pictures_of_a_large_class_come_by_the_page(open_studio, home, sample):
    picture = Image.open(drawn(sample, "tree", 1)[0]).resize((32, 32))
    for number in range(150):
        picture.putpixel((0, 0), (number, 0, 0))
        picture.save(home / "data" / "tree" / f"{number:03}.jpg")
    page, asked = open_studio(viewport={"width": 1000, "height": 600}), []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="See the 170 pictures of tree").click()
    expect(page.locator(".pictures li")).to_have_count(60)
    expect(page.locator(".pictures img[src]").first).to_be_visible()
    assert page.locator(".pictures img[src]").count() < 60  # what is far below the screen has not been fetched
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("61–120 of 170")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".pictures li")).to_have_count(50)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_pictures_wait_for_a_server_that_is_away(open_studio, home, sample):
    page = open_studio()
    expect(card(page, "tree")).to_be_visible()
    page.context.set_offline(True)
    add_files(page, "tree", drawn(sample, "tree", 2, 20))
    expect(page.get_by_text("Waiting for the server.")).to_be_visible()
    page.get_by_role("button", name="Remove: fish").click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    page.context.set_offline(False)
    expect(card(page, "tree").get_by_text("22 pictures")).to_be_visible()
    assert all("ERR_INTERNET_DISCONNECTED" in text for text in open_studio.complaints)
    open_studio.complaints.clear()


def test_page_asks_for_the_token_and_keeps_it_out_of_the_address(open_studio, home):
    page = open_studio(token="a secret")
    page.get_by_label("Token").fill("a secret")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(card(page, "fish")).to_be_visible()
    assert all("401" in text for text in open_studio.complaints)
    open_studio.complaints.clear()
    page = open_studio("#token=a%20secret", token="a secret")
    expect(card(page, "fish")).to_be_visible()
    expect(page.locator(".cover img[src^='blob:']").first).to_be_visible()
    assert "#" not in page.url
    page.reload()
    expect(card(page, "fish")).to_be_visible()


def fill(page, sample):
    """All that the page can show at a time."""
    page.get_by_role("button", name="See the 20 pictures of fish").click()
    page.locator(".pictures input").first.check()
    page.get_by_role("button", name="Rename: tree").click()
    page.get_by_role("button", name="Look for suspects").click()
    page.locator(".suspect").first.wait_for(timeout=TRAINING_MS)
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("Each picture", exact=True).click(timeout=TRAINING_MS)
    try_files(page, drawn(sample, "sun", 1))
    drop(page.locator("h1"), drawn(sample, "tree", 1))
    page.get_by_role("alert").locator(".failure").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_nothing_keeps_anybody_from_using_it(open_studio, taught, sample, scheme, width):
    shutil.copytree(taught / "data" / "fish", taught / "inbox")
    shutil.copy(drawn(sample, "tree", 1)[0], taught / "data" / "tree" / ("long-name-" * 12 + ".jpg"))
    page = open_studio(
        viewport={"width": width, "height": 800}, color_scheme=scheme, is_mobile=width == PHONE, reduced_motion="reduce"
    )
    fill(page, sample)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for target in page.locator("button, select, input, summary").all():
        if target.is_visible():
            assert min(target.bounding_box()[side] for side in ("width", "height")) >= LARGE
    assert violations(page) == []
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_empty_page_is_readable(open_studio):
    page = open_studio(viewport={"width": PHONE, "height": 800})
    page.get_by_text("Two classes with pictures are needed.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE
    assert violations(page) == []
