"""The page in a real browser, from a file, without a network."""

import json
import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from alphaecoli.reporting.page import embed
from tests.browsers import BROWSER, DRIVER, start_chromium
from tests.reporting.conftest import ODD
from tests.reporting.parse import Page

pytestmark = pytest.mark.skipif(
  not (BROWSER and DRIVER), reason="needs chromium and chromedriver on the PATH"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
  driver = start_chromium(tmp_path_factory.mktemp("profile"))
  yield driver
  driver.quit()


def opened(driver, path):
  driver.get(path.as_uri())
  wait(driver, lambda d: d.execute_script("return document.documentElement.dataset.ready"))
  return driver


def wait(driver, condition):
  return WebDriverWait(driver, 20, poll_frequency=0.05).until(condition)


@pytest.fixture
def driver(chromium, odd_page):
  """The page, freshly opened."""
  return opened(chromium, odd_page)


@pytest.fixture(scope="module")
def data(odd_page):
  return Page(odd_page.read_text()).data


def region(driver) -> str:
  return driver.find_element(By.ID, "region").text


def shown(driver) -> tuple[int, int]:
  """First and last base of the browser, from its words."""
  first, last = region(driver).split(":")[1].split(" bp")[0].split(", ")[0].split("-")
  return int(first.replace(",", "")), int(last.replace(",", ""))


def picture(driver) -> str:
  return driver.execute_script("return document.getElementById('canvas').toDataURL()")


def drawn(driver, before: str) -> str:
  """The browser's words, once they are other than before."""
  return wait(driver, lambda d: region(d) != before and region(d))


def click(driver, name):
  before = region(driver)
  driver.find_element(By.ID, name).click()
  drawn(driver, before)


def jump(driver, text):
  before = region(driver)
  field = driver.find_element(By.ID, "place")
  field.clear()
  field.send_keys(text, Keys.ENTER)
  return drawn(driver, before)


def drag(driver, element, pixels):
  chain = ActionChains(driver).move_to_element(element).click_and_hold()
  chain.move_by_offset(pixels, 0).release().perform()


def count(driver, selector) -> int:
  return len(driver.find_elements(By.CSS_SELECTOR, selector))


def test_it_opens_without_errors_and_asks_for_nothing_but_itself(chromium, odd_page):
  chromium.get_log("browser"), chromium.get_log("performance")
  opened(chromium, odd_page)
  for place in ("browser", "circle", "run"):
    chromium.execute_script("document.getElementById(arguments[0]).scrollIntoView()", place)
  assert chromium.get_log("browser") == []
  messages = [json.loads(e["message"])["message"] for e in chromium.get_log("performance")]
  requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
  asked = {  # the tab that a browser starts with asks for its own parts
    r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome:")
  }
  assert {url for url in asked if not url.startswith("data:")} == {odd_page.as_uri()}


def test_every_chart_is_drawn(driver, data):
  assert count(driver, "#scatter circle.gene") == len(data["scatter"][0]["name"]) > 1
  assert (
    count(driver, "#reliability circle.bin") == sum(n > 0 for n in data["calibration"]["n"]) > 2
  )
  assert count(driver, "#curves svg") == len(data["curves"]["panels"]) == 6
  for line in driver.find_elements(By.CSS_SELECTOR, "#curves path.train"):
    assert line.get_attribute("d").count("L") == 3  # four records
  assert count(driver, "#ring path.split") == sum(len(a) for a in data["view"]["splits"].values())
  for kind in ("observed", "predicted"):
    paths = [p.get_attribute("d") for p in driver.find_elements(By.CSS_SELECTOR, f"#ring .{kind}")]
    assert len(paths) == 3 and all(len(d) > 2000 for d in paths)
  wait(driver, region)
  colours = driver.execute_script("""
    const canvas = document.getElementById("canvas"), pen = canvas.getContext("2d");
    const pixels = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const counts = {};
    for (const p of pixels) counts[p] = (counts[p] ?? 0) + 1;
    return Object.values(counts).filter((n) => n > 300).length;
  """)
  assert colours >= 6  # ground, genes of two strands, observed, predicted, rules
  assert count(driver, ".chart p.note, #curves p.note, #ring-legend p.note") == 0


def test_no_name_became_markup(driver):
  assert count(driver, "b") == 0
  names = [
    o.get_attribute("value") for o in driver.find_elements(By.CSS_SELECTOR, "#places option")
  ]
  assert ODD in names
  assert driver.find_element(By.CSS_SELECTOR, "#loci button").text == ODD


def test_pointing_at_a_gene_of_the_scatter_shows_its_name(driver, data):
  track = data["scatter"][0]
  name = track["name"][len(track["name"]) // 2]
  field = driver.find_element(By.ID, "scatter-gene")
  field.send_keys(name)
  assert driver.find_element(By.CSS_SELECTOR, "#tip b").text == name
  mark = driver.find_element(By.CSS_SELECTOR, "#scatter circle:last-of-type")
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
  ActionChains(driver).move_to_element(driver.find_element(By.TAG_NAME, "h1")).perform()
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
  ActionChains(driver).move_to_element(mark).perform()
  tip = wait(driver, lambda d: d.find_element(By.ID, "tip").text)
  at = (float(mark.get_attribute("cx")), float(mark.get_attribute("cy")))
  assert tip.split("\n")[0] in track["name"]
  row = track["name"].index(tip.split("\n")[0])
  assert f"observed {track['observed'][row]:.2f}" in tip and at
  assert f"predicted {track['predicted'][row]:.2f}" in tip


def test_arrow_keys_step_through_the_genes_and_enter_opens_one(driver, data):
  click(driver, "whole")
  svg = driver.find_element(By.CSS_SELECTOR, "#scatter svg")
  driver.execute_script("arguments[0].focus()", svg)
  svg.send_keys(Keys.ARROW_RIGHT)
  tip = driver.find_element(By.ID, "tip").text
  assert f"observed {min(data['scatter'][0]['observed']):.2f}" in tip
  before = region(driver)
  svg.send_keys(Keys.ENTER)
  drawn(driver, before)
  genes = data["view"]["genes"]
  row = genes["tag"].index(tip.split("\n")[1])
  first, last = shown(driver)
  assert first <= genes["end"][row] and last >= genes["start"][row]


def test_pointing_at_a_gene_of_the_browser_shows_its_name_and_values(driver, data):
  genes = data["view"]["genes"]
  row = next(
    i for i, value in enumerate(genes["observed"])
    if value is not None and 20_000 < genes["start"][i] < 60_000 and genes["name"][i] != ODD
    and genes["end"][i] - genes["start"][i] > 300
  )  # fmt: skip
  jump(driver, genes["tag"][row])
  canvas = driver.find_element(By.ID, "canvas")
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
  first, last = shown(driver)
  middle = (genes["start"][row] + genes["end"][row]) / 2
  width = canvas.rect["width"] - 72 - 10
  x = 72 + (middle - first) / (last - first + 1) * width - canvas.rect["width"] / 2
  y = (49 if genes["strand"][row] > 0 else 87) - canvas.rect["height"] / 2
  ActionChains(driver).move_to_element_with_offset(canvas, int(x), int(y)).perform()
  tip = wait(driver, lambda d: d.find_element(By.ID, "tip").text)
  assert tip.startswith(f"{genes['name'][row]}\n{genes['tag'][row]}\n")
  assert f"{genes['start'][row] + 1:,}-{genes['end'][row]:,}" in tip
  assert f"observed {genes['observed'][row]:.2f}" in tip
  assert f"predicted {genes['predicted'][row]:.2f}" in tip


def test_buttons_keys_and_the_wheel_move_and_zoom(driver):
  jump(driver, "30,001-40,000")
  assert shown(driver) == (30_001, 40_000)
  still = picture(driver)
  click(driver, "in")
  assert shown(driver) == (32_501, 37_500) and picture(driver) != still
  click(driver, "right")
  assert shown(driver) == (35_001, 40_000)
  click(driver, "left")
  click(driver, "out")
  assert shown(driver) == (30_001, 40_000) and picture(driver) == still
  canvas = driver.find_element(By.ID, "canvas")
  driver.execute_script("arguments[0].focus()", canvas)
  before = region(driver)
  canvas.send_keys(Keys.ARROW_RIGHT)
  drawn(driver, before)
  assert shown(driver) == (32_001, 42_000)
  before = region(driver)
  canvas.send_keys("-")
  drawn(driver, before)
  assert shown(driver) == (27_001, 47_000)
  before = region(driver)
  canvas.send_keys(Keys.HOME)
  drawn(driver, before)
  assert shown(driver) == (1, 20_000)
  before = region(driver)
  driver.execute_script("""
    const canvas = document.getElementById("canvas"), options = { bubbles: true, cancelable: true };
    canvas.dispatchEvent(new WheelEvent("wheel", { ...options, deltaY: -300, ctrlKey: true }));
  """)
  drawn(driver, before)
  first, last = shown(driver)
  assert last - first + 1 == pytest.approx(20_000 / 2.71828, abs=2)
  click(driver, "whole")
  assert shown(driver) == (1, 80_000)
  click(driver, "in")
  assert shown(driver) == (20_001, 60_000)


def test_dragging_moves_and_the_ends_hold(driver):
  jump(driver, "1,001-9,000")
  canvas = driver.find_element(By.ID, "canvas")
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
  per_pixel = 8000 / (canvas.rect["width"] - 72 - 10)
  before = region(driver)
  ActionChains(driver).move_to_element(canvas).click_and_hold().move_by_offset(
    -100, 0
  ).release().perform()
  drawn(driver, before)
  first, last = shown(driver)
  assert first == pytest.approx(1001 + 100 * per_pixel, abs=2) and last - first == 7999
  before = region(driver)
  ActionChains(driver).move_to_element(canvas).click_and_hold().move_by_offset(
    500, 0
  ).release().perform()
  drawn(driver, before)
  assert shown(driver) == (1, 8000)


def test_loci_and_names_jump_and_what_is_nowhere_is_said(driver, data):
  view = data["view"]
  second = driver.find_elements(By.CSS_SELECTOR, "#loci button")[1]
  assert shown(driver) == (view["loci"][0]["start"] + 1, view["loci"][0]["end"])
  before = region(driver)
  second.click()
  drawn(driver, before)
  assert shown(driver) == (1001, 9000)
  row = view["genes"]["name"].index(ODD)
  jump(driver, ODD)
  start, end = shown(driver)
  assert start <= view["genes"]["start"][row] + 1 and view["genes"]["end"][row] <= end
  said = jump(driver, "noSuchGene")
  assert said.startswith("“noSuchGene” is no gene")
  assert jump(driver, f"{view['contig']}:501-1500").startswith(f"{view['contig']}:501-1,500, 1,000")


def test_the_circle_reads_values_and_opens_the_browser(driver):
  svg = driver.find_element(By.CSS_SELECTOR, "#ring svg")
  driver.execute_script("arguments[0].focus()", svg)
  svg.send_keys(Keys.PAGE_DOWN, Keys.ARROW_RIGHT)
  text = driver.find_element(By.ID, "ring-value").text
  assert text.startswith("4.4–4.7 kb") and "expression, ln(1 + TPM): observed" in text
  before = region(driver)
  svg.send_keys(Keys.ENTER)
  drawn(driver, before)
  assert shown(driver) == (1, 40_000)


def test_the_methods_paragraph_is_copied_or_selected(driver):
  driver.find_element(By.ID, "copy").click()
  said = driver.find_element(By.ID, "copied")
  WebDriverWait(driver, 10).until(lambda _: said.text)
  assert said.text.startswith(("Copied", "Selected"))
  if said.text.startswith("Selected"):
    chosen = driver.execute_script("return getSelection().toString()")
    assert chosen == driver.find_element(By.ID, "methods-text").text


def test_dark_and_light_follow_the_system_or_the_button(driver):
  def ground():
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")

  def corner():
    script = (
      "return [...document.getElementById('canvas').getContext('2d').getImageData(1,1,1,1).data]"
    )
    return driver.execute_script(script)

  def prefer(value):
    features = [{"name": "prefers-color-scheme", "value": value}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

  wait(driver, region)
  prefer("light")
  assert ground() == "rgb(255, 255, 255)"
  prefer("dark")
  assert ground() == "rgb(21, 24, 27)"
  wait(driver, lambda d: corner()[:3] == [21, 24, 27])
  button = driver.find_element(By.ID, "theme")
  button.click()
  assert button.text == "Theme: light" and ground() == "rgb(255, 255, 255)"
  wait(driver, lambda d: corner()[:3] == [255, 255, 255])
  prefer("light")


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_no_width_needs_sideways_scrolling(driver, width):
  size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
  driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
  time.sleep(0.1)
  inner, outer = driver.execute_script(
    "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
  )
  driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
  assert inner <= outer


def rewritten(odd_page, path, change):
  """The page with other data in it."""
  before, rest = odd_page.read_text().split('id="data">', 1)
  text, after = rest.split("</script>", 1)
  value = json.loads(text)
  change(value)
  path.write_text(f'{before}id="data">{embed(value)}</script>{after}', encoding="utf-8")
  return path


def test_heads_without_data_leave_the_rest_of_the_page_whole(chromium, odd_page, tmp_path):
  def change(value):
    view = value["view"]
    view["has_expression"] = view["has_operons"] = False
    view["observed"]["expression"] = {"start": [], "end": [], "value": []}
    view["observed"]["operon"], view["operons"] = [], []
    view["genes"]["observed"] = [None] * len(view["genes"]["name"])
    view["circular"] = False
    del view["predicted"]["expression"], view["predicted"]["operon"]
    value["reasons"] |= {"gene_expression": "no TPM", "operon_membership": "no operons"}
    value["scatter"], value["calibration"], value["curves"]["panels"] = [], None, []

  chromium.get_log("browser")
  driver = opened(chromium, rewritten(odd_page, tmp_path / "page.html", change))
  before = region(driver)
  driver.find_element(By.ID, "whole").click()
  drawn(driver, before)
  assert driver.get_log("browser") == []
  assert count(driver, "#ring .observed") == count(driver, "#ring .predicted") == 1  # density
  notes = driver.find_element(By.ID, "ring-legend").text
  assert "no TPM" in notes and "no operons" in notes
  assert "has not logged a step" in driver.find_element(By.ID, "curves").text
  for place in ("scatter", "reliability"):
    assert driver.find_element(By.ID, place).text


def test_the_scatter_shows_the_track_that_is_chosen(chromium, odd_page, tmp_path):
  heat = {"track": "heat", "r2": None, "pearson": 0.5, "spearman": -0.25, "name": ["a", "b", "c"]}
  heat |= {"tag": ["b1", "b2", "b3"], "observed": [1, 2, 3], "predicted": [-1.5, 2, 4]}
  path = rewritten(odd_page, tmp_path / "page.html", lambda value: value["scatter"].append(heat))
  driver = opened(chromium, path)
  Select(driver.find_element(By.ID, "scatter-track")).select_by_visible_text("heat")
  assert count(driver, "#scatter circle.gene") == 3
  caption = driver.find_element(By.ID, "scatter-caption").text
  assert caption.startswith("3 genes") and "R² –, Pearson’s r 0.50, Spearman’s ρ −0.25" in caption
  driver.find_element(By.ID, "scatter-gene").send_keys("B2")
  assert "observed 2.00" in driver.find_element(By.ID, "tip").text


def test_a_page_without_predictions_says_why_where_they_would_be(chromium, started):
  from alphaecoli import report

  assert report.main(["--workdir", str(started)]) == 0
  chromium.get_log("browser")
  driver = opened(chromium, started / "report.html")
  assert driver.get_log("browser") == []
  for place in ("scatter", "reliability"):
    assert "has not been measured" in driver.find_element(By.ID, place).text
  assert "no checkpoint" in driver.find_element(By.ID, "ring-legend").text
  assert count(driver, "#ring .observed") == 3
  assert wait(driver, region).startswith("toy:")
