"""What predict writes for genome browsers, opened in them: igv.js and JBrowse 2 in Chromium."""

import hashlib
import subprocess
from base64 import b64encode

import numpy as np
import pytest

from alphaecoli.genomics.sequence import random_genome
from alphaecoli.outputs.bigwig import BigWigFile
from alphaecoli.outputs.browsers import IGV_HASH, gene_features, write_bed, write_browser_files
from tests.browsers import BROWSER, DRIVER, NPM, PAGES, faults, fetch_packages, start_chromium
from tests.outputs.test_browsers import TRACKS, gene

pytestmark = pytest.mark.skipif(
  not (BROWSER and DRIVER and NPM), reason="needs chromium, chromedriver and npm on the PATH"
)
LENGTH = 30_000
DENSITY = {"file": "gene_density.bw", "head": "gene_density", "track": "gene_density", "units": ""}


@pytest.fixture(scope="module")
def packages():
  try:
    return fetch_packages()
  except subprocess.CalledProcessError:
    pytest.skip("npm's registry can not be reached")


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
  """A genome of two contigs with tracks as predict names them."""
  folder = tmp_path_factory.mktemp("predictions")
  contigs = [("chr", random_genome(LENGTH, 1).codes), ("p1", random_genome(3000, 2).codes)]
  lengths = {name: len(codes) for name, codes in contigs}
  rows = [gene(500 + 900 * n, 1200 + 900 * n, n % 7, name=f"toy{n}") for n in range(30)]
  features = {"genes": gene_features(rows, lengths), "operons": gene_features(rows[:2], lengths)}
  tracks, largest = [], {}
  for track in (*TRACKS, DENSITY):
    stem = track["head"] + (".heat" if track["track"] == "heat" else "")
    tracks.append(track | {"file": f"{stem}.bw"})
    file = BigWigFile(folder / f"{stem}.bw", list(lengths.items()))
    for name, length in lengths.items():
      file.write(name, np.cos(np.arange(length) / 2000).astype(np.float32) / 2 + 0.4)
    file.close()
    largest[f"{stem}.bw"] = file.largest
  write_bed(folder / "genes.bed", features["genes"])
  write_browser_files(folder, "toy", contigs, tracks, largest, features)
  return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
  browser = start_chromium(tmp_path_factory.mktemp("profile"))
  yield browser
  browser.quit()


def test_igv_js_is_the_file_whose_hash_the_page_demands(packages):
  digest = hashlib.sha384((packages / "igv.min.js").read_bytes()).digest()
  assert "sha384-" + b64encode(digest).decode() == IGV_HASH


@pytest.mark.parametrize("page", PAGES)
def test_browsers_read_every_file_and_draw_every_track(driver, packages, predictions, page):
  assert faults(driver, predictions, page, None) == []
  if page == "jbrowse.html":
    shown = driver.execute_script("return window.state.session.views[0].tracks.length")
    assert shown == 6  # genes, operons, four BigWigs
  else:
    script = "return window.browser.trackViews.map((view) => view.track.name)"
    assert {"genes", "operons"} <= set(driver.execute_script(script))
