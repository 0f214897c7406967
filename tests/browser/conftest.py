import json
import shutil

import pytest

from segfusion_jax.report import contents, page
from tests.report import sample


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """A page with everything that a report can show."""
    folder = tmp_path_factory.mktemp("report")
    page.write(folder / "index.html", contents.page(sample.run(folder)))
    return folder / "index.html"


class Browser:
    """A headless Chromium."""

    def __init__(self):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
            options.add_argument(f"--{argument}")
        options.binary_location = shutil.which("chromium") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)

    def command(self, name: str, **parameters):
        """Sends a command of the Chrome DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def open(self, path, *, width: int = 1280, scheme: str = "light", media: str = "") -> None:
        """Opens a page afresh, and forgets what was logged before."""
        colours = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", media=media, features=[colours])
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.driver.get("about:blank")
        self.logged(), self.requested()
        self.driver.get(path.as_uri())

    def run(self, script: str, *arguments):
        """What a script, run in the page, returns."""
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Keys, at whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def logged(self) -> list[str]:
        """Messages of the console since the last call: errors, refusals by the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Addresses asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        requests = (m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent")
        return list(requests)


@pytest.fixture(scope="session")
def browser():
    browser = Browser()
    yield browser
    browser.driver.quit()
