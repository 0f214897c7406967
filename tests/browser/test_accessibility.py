"""The pages under axe-core, which tells what WCAG 2.2 asks for; its package comes from npm when the tests run."""

import tarfile

import pytest

from segfusion_jax.runtime import caches, downloads
from tests.browser.test_gallery import gallery  # noqa: F401
from tests.browser.test_served_page import address, choose, files  # noqa: F401

pytestmark = pytest.mark.browser

PACKAGE = downloads.Remote(
    "https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz",
    sha512="1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
    "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5",
    size=708_405,
)


@pytest.fixture(scope="module")
def axe() -> str:
    """The script that judges a page."""
    try:
        path = downloads.fetch(PACKAGE, caches.folder("web"))
    except OSError as error:
        pytest.skip(f"needs the package axe-core of npm: {error}")
    assert not downloads.fault_of(PACKAGE, path)
    with tarfile.open(path, "r:gz") as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def violations(browser, axe: str) -> list[str]:
    """What is wrong with the page that is open: rules, and the first element that breaks each."""
    browser.driver.set_script_timeout(120)
    browser.run(axe)
    script = """const done = arguments[0];
      axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
        .then(({ violations }) => done(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 150)}`)));"""
    return browser.driver.execute_async_script(script)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_the_server(browser, axe, address, files, scheme):  # noqa: F811
    browser.open(address, scheme=scheme)
    choose(browser, files.values())
    assert violations(browser, axe) == []


def test_the_gallery(browser, axe, gallery):  # noqa: F811
    browser.open(gallery)
    browser.run("[...document.querySelectorAll('.card')].slice(10).forEach((one) => one.remove());")  # all are alike
    assert violations(browser, axe) == []


def test_the_report(browser, axe, report):
    browser.open(report)
    assert violations(browser, axe) == []


def test_a_picture_without_a_text_is_found(browser, axe, report):
    browser.open(report)
    browser.run("document.querySelector('img').removeAttribute('alt');")
    assert any(one.startswith("image-alt") for one in violations(browser, axe))
