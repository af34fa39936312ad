"""Opens what `predict` writes in igv.js, in JBrowse 2 and, by igv.js, as a hub of UCSC:

python -m tests.browsers predictions --pictures pictures

in headless Chromium, with npm's packages of the versions below, and complains of what is not drawn.
"""

import argparse
import contextlib
import functools
import http.server
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.support.ui import WebDriverWait

from alphaecoli.outputs.browsers import IGV_JS, IGV_VERSION, TRACK_COLOURS

BROWSER = next(
  filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
NPM = shutil.which("npm")
FLAGS = (
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
  "--no-first-run", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
PACKAGES = Path(__file__).parents[1] / "build" / "browsers"
# Files of npm's packages. They are bundles: nothing that the packages depend on is needed.
JBROWSE = ("@jbrowse/react-app2", "4.3.0", "dist/react-app.umd.production.min.js")
IGV = ("igv", IGV_VERSION, "dist/igv.min.js")
PAGES = ("igv.html", "jbrowse.html", "hub.html")
WAIT_S = 120
JBROWSE_PAGE = """<!doctype html><meta charset="utf-8"><div id="root"></div>
<script src="/packages/react-app.umd.production.min.js"></script>
<script>
const { React, createRoot, JBrowseApp, createViewState } = JBrowseReactApp;
function place(part) {  // as JBrowse Web does: locations are relative to the configuration
  if (part && typeof part === "object") {
    if (part.uri) part.baseUri = location.href;
    Object.values(part).forEach(place);
  }
}
fetch("config.json").then((answer) => answer.json()).then((config) => {
  place(config);
  window.state = createViewState({ config });
  createRoot(document.getElementById("root")).render(
    React.createElement(JBrowseApp, { viewState: window.state }));
  document.documentElement.dataset.ready = "yes";
});
</script>"""
HUB_PAGE = """<!doctype html><meta charset="utf-8"><div id="browser"></div>
<script src="/packages/igv.min.js"></script>
<script>
const url = new URL("hub.txt", location.href).href;
const options = { sessionURL: url, loadDefaultGenomes: false };
igv.createBrowser(document.getElementById("browser"), options).then((browser) => {
  window.browser = browser;
  document.documentElement.dataset.ready = "yes";
});
</script>"""


def start_chromium(profile: Path) -> webdriver.Chrome:
  """Starts a browser that writes down what it is asked to load."""
  options = webdriver.ChromeOptions()
  options.binary_location = BROWSER
  for flag in (*FLAGS, f"--user-data-dir={profile}"):
    options.add_argument(flag)
  options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
  return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def fetch_packages(folder: Path = PACKAGES) -> Path:
  """Fetches the browsers' scripts from npm, unless they are there."""
  folder.mkdir(parents=True, exist_ok=True)
  for package, version, file in (IGV, JBROWSE):
    target, kept = folder / Path(file).name, folder / f"{Path(file).name}.{version}"
    if not kept.exists():
      with tempfile.TemporaryDirectory() as place:
        command = [NPM or "npm", "pack", "--silent", f"{package}@{version}"]
        subprocess.run(command, check=True, cwd=place, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(place).glob("*.tgz"))) as archive:
          data = archive.extractfile(f"package/{file}").read()
      kept.write_bytes(data)
    shutil.copyfile(kept, target)
  return folder


class Handler(http.server.SimpleHTTPRequestHandler):
  """Serves predictions, with ranges; igv.html with the same igv.js from here."""

  def __init__(self, *args, packages: Path, asked: Counter, **kwargs):
    self.packages, self.asked = packages, asked
    super().__init__(*args, **kwargs)

  def log_message(self, *_) -> None:
    pass

  def do_GET(self) -> None:
    name = self.path.partition("?")[0].rpartition("/")[2]
    pages = {"jbrowse.html": JBROWSE_PAGE, "hub.html": HUB_PAGE}
    folder = self.packages if self.path.startswith("/packages/") else Path(self.directory)
    if name == "favicon.ico":
      return self._answer(204, b"")
    if name not in pages and not (folder / name).is_file():
      self.asked[f"absent: {name}"] += 1
      return self._answer(404, b"")
    data = pages[name].encode() if name in pages else (folder / name).read_bytes()
    if name == "igv.html":
      data = data.replace(IGV_JS.encode(), b"/packages/igv.min.js")
    self.asked[name] += 1
    if not (wanted := self.headers.get("Range")):
      return self._answer(200, data)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(data)) + 1, len(data))
    return self._answer(206, data[start:end], f"bytes {start}-{end - 1}/{len(data)}")

  def _answer(self, status: int, data: bytes, part: str = "") -> None:
    self.send_response(status)
    if part:
      self.send_header("Content-Range", part)
    kind = "text/html" if self.path.endswith(".html") else "application/octet-stream"
    kind = "text/javascript" if self.path.endswith(".js") else kind
    for key, value in (("Content-Type", kind), ("Content-Length", len(data))):
      self.send_header(key, str(value))
    self.end_headers()
    with contextlib.suppress(ConnectionError):  # the browser has enough
      self.wfile.write(data)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, Counter]]:
  """Serves predictions; yields the address and what is asked for, by file."""
  asked: Counter = Counter()
  handler = functools.partial(
    Handler, directory=str(folder), packages=fetch_packages(), asked=asked
  )
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
  finally:
    server.shutdown()
    server.server_close()


def seen(driver: webdriver.Chrome) -> np.ndarray:
  """Returns what the window shows, as pixels."""
  picture = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
  return np.asarray(picture.convert("RGB"), np.int16)


def faults(driver: webdriver.Chrome, folder: Path, page: str, picture: Path | None) -> list[str]:
  """Opens a page; returns what is wrong: files that were not read, colours that are not drawn."""
  tracks = json.loads((folder / "config.json").read_text())["tracks"]
  wanted = {key: TRACK_COLOURS[key] for key in TRACK_COLOURS if (folder / f"{key}.bw").exists()}
  names = {t["adapter"].get("bigWigLocation", {}).get("uri") for t in tracks} - {None}
  if any(name.startswith("gene_expression.") for name in names):
    wanted["gene_expression"] = TRACK_COLOURS["gene_expression"]
  driver.set_window_size(1280, 1400)
  driver.get_log("browser")
  with served(folder) as (address, asked):
    driver.get(f"{address}/{page}")

    def missing() -> list[str]:
      ready = driver.execute_script("return document.documentElement.dataset.ready")
      found = [] if ready else ["the page is not ready"]
      found += [f"{name} was not read" for name in sorted(names) if not asked[name]]
      pixels = seen(driver)
      near = {k: (abs(pixels - c).max(axis=2) < 25).sum() for k, c in wanted.items()}
      return found + [f"{key} is not drawn: {n} pixels" for key, n in near.items() if n < 500]

    def is_still(_) -> bool:
      before = seen(driver)
      time.sleep(1)
      return not missing() and np.array_equal(before, seen(driver))

    with contextlib.suppress(TimeoutException):
      WebDriverWait(driver, WAIT_S, poll_frequency=1).until(is_still)
    found = missing()
    found += [name for name in asked if name.startswith("absent")]
    found += [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    if picture:
      driver.save_screenshot(str(picture))
  return found


def main() -> int:
  """Opens all three; returns 1 where something is wrong."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("predictions", type=Path)
  parser.add_argument("--pictures", type=Path, default=Path("pictures"))
  options = parser.parse_args()
  options.pictures.mkdir(parents=True, exist_ok=True)
  wrong = 0
  with tempfile.TemporaryDirectory() as profile:
    driver = start_chromium(Path(profile))
    try:
      for page in PAGES:
        found = faults(driver, options.predictions, page, options.pictures / f"{page}.png")
        print(page, "; ".join(found) or "is drawn")
        wrong += bool(found)
    finally:
      driver.quit()
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
