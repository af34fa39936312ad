// Loss curves, expression by gene, calibration.

/** One panel a head: training and validation losses over steps. */
function drawCurves() {
  const parent = byId("curves"), { panels, best } = DATA.curves;
  if (!panels.length) return empty(parent, DATA.reasons.curves);
  for (const panel of panels) {
    const holder = element("figure", "", { class: "chart" });
    holder.append(element("h3", panel.name));
    parent.append(holder);
    const box = { left: 62, right: 430, top: 12, bottom: 200 };
    const svg = drawing(holder, 440, 246, `Loss of ${panel.name} over steps`);
    const all = [...panel.train, ...panel.validation];
    const losses = all.map((p) => p[1]), low = Math.min(...losses), high = Math.max(...losses);
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    const { toX, toY } = axes(
      svg, box,
      { low: 0, high: Math.max(...all.map((p) => p[0]), 1), title: "step", grouped: true },
      { low: Math.max(low - room, low < 0 ? -Infinity : 0), high: high + room, title: panel.units, count: 6 },
    );
    if (best !== null) {
      draw(svg, "line", { x1: toX(best), x2: toX(best), y1: box.top, y2: box.bottom, stroke: "var(--faint)", "stroke-dasharray": "4 3" });
    }
    const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${toX(p[0]).toFixed(1)} ${toY(p[1]).toFixed(1)}`).join("");
    draw(svg, "path", { d: path(panel.train), fill: "none", stroke: "var(--observed)", "stroke-width": 1.5, class: "train" });
    draw(svg, "path", { d: path(panel.validation), fill: "none", stroke: "var(--predicted)", "stroke-width": 2 });
    for (const [step, loss] of panel.validation) {
      draw(svg, "circle", { cx: toX(step), cy: toY(loss), r: 4, fill: "var(--predicted)", class: "validation" });
    }
    hoverNearest(svg, all.map((p, i) => ({
      x: toX(p[0]), y: toY(p[1]), name: "",
      lines: [`${i < panel.train.length ? "training" : "validation"}, step ${grouped(p[0])}`, `${p[1].toFixed(4)} ${panel.units}`],
    })), 30);
  }
  byId("curves-caption").textContent =
    "Grey line: training, mean since the record before. Blue points: validation." +
    (best === null ? "" : ` Dashed: step ${grouped(best)}, the checkpoint behind the predictions of this page.`);
}

/** A tooltip for the nearest of some points; returns a function that marks one of them. */
function hoverNearest(svg, points, reach) {
  const mark = draw(svg, "circle", { r: 7, fill: "none", stroke: "var(--mark)", "stroke-width": 2, visibility: "hidden" });
  const show = (point, clientX, clientY) => {
    mark.setAttribute("cx", point.x);
    mark.setAttribute("cy", point.y);
    mark.setAttribute("visibility", "visible");
    showTip(clientX, clientY, point.name, point.lines);
  };
  const hide = () => {
    mark.setAttribute("visibility", "hidden");
    hideTip();
  };
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let nearest = null, least = reach * reach;
    for (const point of points) {
      const distance = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
      if (distance < least) [nearest, least] = [point, distance];
    }
    if (nearest) show(nearest, event.clientX, event.clientY);
    else hide();
  });
  svg.addEventListener("pointerleave", hide);
  const place = (point) => {
    const at = new DOMPoint(point.x, point.y).matrixTransform(svg.getScreenCTM());
    show(point, at.x, at.y);
  };
  return { place, hide };
}

/** Predicted over observed expression, a point a gene. */
function drawScatter() {
  const parent = byId("scatter"), select = byId("scatter-track"), search = byId("scatter-gene");
  if (!DATA.scatter.length) return empty(parent, DATA.reasons.scatter);
  byId("scatter-tools").hidden = false;
  DATA.scatter.forEach((entry, i) => select.append(element("option", entry.track, { value: i })));
  let marks = null, points = [];
  const show = () => {
    const entry = DATA.scatter[Number(select.value)];
    ({ marks, points } = drawPoints(parent, entry));
    byId("scatter-genes").replaceChildren(...entry.name.map((name) => element("option", "", { value: name })));
    byId("scatter-caption").textContent =
      `${entry.name.length} genes of the ${DATA.split} split with a measurement, track ${entry.track}: ` +
      `R² ${fixed(entry.r2, 2)}, Pearson’s r ${fixed(entry.pearson, 2)}, Spearman’s ρ ${fixed(entry.spearman, 2)}. ` +
      "A prediction is the mean over the gene’s bases. Line: equality. Arrow keys step through the genes by observed " +
      "expression; a click or Enter opens the gene in the browser.";
  };
  select.addEventListener("change", show);
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    const found = points.find((p) => p.name.toLowerCase() === wanted || p.tag.toLowerCase() === wanted);
    if (found) marks.place(found);
    else marks.hide();
  });
  show();
}

function drawPoints(parent, entry) {
  parent.replaceChildren();
  const box = { left: 58, right: 470, top: 12, bottom: 424 };
  const svg = drawing(parent, 480, 470, "Predicted over observed expression by gene");
  svg.setAttribute("tabindex", "0");
  const all = [...entry.observed, ...entry.predicted];
  const low = Math.min(0, ...all), high = Math.ceil(Math.max(...all));
  const range = (title) => ({ low, high, title: `${title} expression, ln(1 + TPM)`, count: 6 });
  const { toX, toY } = axes(svg, box, range("observed"), range("predicted"));
  draw(svg, "line", { x1: toX(low), y1: toY(low), x2: toX(high), y2: toY(high), stroke: "var(--faint)", "stroke-dasharray": "5 4" });
  const points = entry.name.map((name, i) => ({
    x: toX(entry.observed[i]), y: toY(entry.predicted[i]), name: name || entry.tag[i], tag: entry.tag[i],
    lines: [entry.tag[i], `observed ${entry.observed[i].toFixed(2)}`, `predicted ${entry.predicted[i].toFixed(2)}`],
  })).sort((a, b) => a.x - b.x);
  for (const point of points) {
    draw(svg, "circle", { cx: point.x.toFixed(1), cy: point.y.toFixed(1), r: 3, fill: "var(--predicted)", "fill-opacity": 0.55, class: "gene" });
  }
  const marks = hoverNearest(svg, points, 14);
  let at = -1;
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) {
      at = Math.min(Math.max(at + step, 0), points.length - 1);
      marks.place(points[at]);
      event.preventDefault();
    } else if (event.key === "Enter" && at >= 0) {
      openPlace(points[at].tag || points[at].name);
    }
  });
  svg.addEventListener("blur", marks.hide);
  svg.addEventListener("click", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const near = points.filter((p) => (p.x - place.x) ** 2 + (p.y - place.y) ** 2 < 100)
      .sort((a, b) => (a.x - place.x) ** 2 + (a.y - place.y) ** 2 - (b.x - place.x) ** 2 - (b.y - place.y) ** 2);
    if (near.length) openPlace(near[0].tag || near[0].name);
  });
  return { marks, points };
}

/** Shows a gene in the browser and brings that into view. */
function openPlace(text) {
  browser.go(text);
  byId("browser").scrollIntoView();
}

/** Observed share of operon bases over predicted probability, and how many bases stand behind it. */
function drawCalibration() {
  const parent = byId("reliability"), curve = DATA.calibration;
  if (!curve) return empty(parent, DATA.reasons.calibration);
  const svg = drawing(parent, 480, 470, "Observed share of operon bases over predicted probability");
  const low = { left: 58, right: 470, top: 346, bottom: 424 }, box = { left: 58, right: 470, top: 12, bottom: 320 };
  const { toX, toY } = axes(svg, box, { low: 0, high: 1, title: "" }, { low: 0, high: 1, title: "observed share in operons" });
  draw(svg, "line", { x1: toX(0), y1: toY(0), x2: toX(1), y2: toY(1), stroke: "var(--faint)", "stroke-dasharray": "5 4" });
  const total = curve.n.reduce((a, b) => a + b, 0), most = Math.max(...curve.n) / total;
  const scale = axes(
    svg, low, { low: 0, high: 1, title: "predicted probability that a base lies in an operon" },
    { low: 0, high: most, title: "share of bases", count: 2 },
  );
  const points = [], width = (low.right - low.left) / curve.n.length;
  curve.n.forEach((n, k) => {
    const left = low.left + k * width;
    draw(svg, "rect", { x: left + 1, width: width - 2, y: scale.toY(n / total), height: low.bottom - scale.toY(n / total), fill: "var(--observed-fill)" });
    if (!n) return;
    points.push({
      x: toX(curve.probability[k]), y: toY(curve.label[k]), name: "",
      lines: [`predicted ${curve.probability[k].toFixed(3)}`, `observed ${curve.label[k].toFixed(3)}`, `${grouped(n)} bases`],
    });
  });
  draw(svg, "path", { d: points.map((p, i) => `${i ? "L" : "M"}${p.x} ${p.y}`).join(""), fill: "none", stroke: "var(--predicted)", "stroke-width": 2 });
  for (const p of points) draw(svg, "circle", { cx: p.x, cy: p.y, r: 4.5, fill: "var(--predicted)", class: "bin" });
  hoverNearest(svg, points, 30);
  byId("reliability-caption").textContent =
    `${grouped(total)} bases of the ${DATA.split} split in ${curve.n.length} equal bins of probability. ` +
    `Calibration error ${fixed(curve.error, 3)}, Brier score ${fixed(curve.brier, 3)}. Dashed: perfectly calibrated; ` +
    "points below it were predicted too confidently.";
}
