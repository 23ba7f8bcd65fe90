"""What the server shows in Chromium."""

from servers import serving


def test_description_is_shown_without_a_network(browser, trained):
    asked, complaints = [], []
    with serving(model_dir=trained / "model") as address:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}/docs")
        page.get_by_text("/v1/models/{name}:predict").wait_for()
        page.close()
    assert not complaints
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
