// The circle: splits, then observed and predicted tracks as rings, the origin at the top.
const SLICES = 360, GAP = VIEW.circular ? 0 : 0.02 * Math.PI;
const RINGS = [
  { name: "expression", head: "gene_expression", title: "expression, ln(1 + TPM)", inner: 196, outer: 264 },
  { name: "density", head: "gene_density", title: "gene density, genes per 128 bp", inner: 130, outer: 186 },
  { name: "operon", head: "operon_membership", title: "in an operon, share or probability", inner: 64, outer: 120 },
];

/** The angle of a base, clockwise from the top. */
const angleOf = (base) => GAP + (base / VIEW.length_bp) * (2 * Math.PI - 2 * GAP);
const around = (angle, radius) => [radius * Math.sin(angle), -radius * Math.cos(angle)];
const joined = (points) => points.map((p, i) => `${i ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");

function drawCircle() {
  const svg = draw(byId("ring"), "svg", {
    viewBox: "-356 -330 712 660", role: "img", tabindex: "0",
    "aria-label": `Circular overview of ${VIEW.contig}: splits, expression, gene density and operons. Arrow keys read values, Enter opens the browser.`,
  });
  drawScale(svg);
  for (const [split, regions] of Object.entries(VIEW.splits)) {
    for (const [a, b] of regions) draw(svg, "path", { d: wedge(a, b, 272, 286), fill: `var(--${split})`, class: "split" });
  }
  const size = VIEW.length_bp / SLICES;
  const slices = Array.from({ length: SLICES }, (_, i) => {
    const [a, b] = [i * size, (i + 1) * size], slice = { start: a, end: b };
    for (const { name } of RINGS) {
      slice[name] = [observedOver(name, a, b), PREDICTED[name]?.over(a, b)?.mean ?? null];
    }
    return slice;
  });
  for (const ring of RINGS) drawRing(svg, ring, slices);
  draw(svg, "text", { y: -6, "text-anchor": "middle", "font-size": 15, "font-weight": 600 }, VIEW.contig);
  draw(svg, "text", { y: -6, dy: "1.5em", "text-anchor": "middle", "font-size": 13 }, `${grouped(VIEW.length_bp / 1000)} kb`);
  explainRings();
  readSlices(svg, slices);
}

/** A piece of a ring. */
function wedge(start, end, inner, outer) {
  const n = Math.max(Math.ceil(((end - start) / VIEW.length_bp) * SLICES), 1);
  const angles = Array.from({ length: n + 1 }, (_, i) => angleOf(start + ((end - start) * i) / n));
  return `${joined([...angles.map((t) => around(t, outer)), ...angles.reverse().map((t) => around(t, inner))])}Z`;
}

/** Ticks and kb around the outside. */
function drawScale(svg) {
  const whole = VIEW.length_bp / 1000, marks = ticks(0, whole, 10).values, gap = marks[1] - marks[0];
  for (let i = 0; (i * gap) / 5 < whole; i++) {
    const kb = (i * gap) / 5, t = angleOf(kb * 1000), major = i % 5 === 0;
    const [x1, y1] = around(t, 289), [x2, y2] = around(t, major ? 298 : 293);
    draw(svg, "line", { class: "axis", x1, y1, x2, y2 });
    if (!major || (VIEW.circular && whole - kb < gap * 0.3 && i)) continue;
    const [x, y] = around(t, 304), side = Math.sin(t);
    draw(svg, "text", { x, y: y + 4, "font-size": 12, "text-anchor": side > 0.25 ? "start" : side < -0.25 ? "end" : "middle" }, kb ? grouped(kb) : "0 kb");
  }
}

/** One ring: observed as an area, predicted as a line, on one scale. */
function drawRing(svg, ring, slices) {
  const values = slices.flatMap((s) => s[ring.name]).filter((v) => v !== null);
  for (const r of [ring.inner, ring.outer]) draw(svg, "circle", { r, fill: "none", class: "grid" });
  if (!values.length) return;
  ring.low = ring.name === "density" ? Math.min(...values) : 0;
  ring.high = ring.name === "operon" ? 1 : Math.max(...values);
  const radius = (v) => ring.inner + ((v - ring.low) / (ring.high - ring.low || 1)) * (ring.outer - ring.inner);
  const area = slices.filter((s) => s[ring.name][0] !== null)
    .map((s) => wedge(s.start, s.end, ring.inner, radius(s[ring.name][0])));
  draw(svg, "path", { d: area.join(""), fill: "var(--observed-fill)", class: "observed" });
  let line = "", before = false;
  for (const s of slices) {
    const v = s[ring.name][1];
    if (v !== null) line += joined([around(angleOf((s.start + s.end) / 2), radius(v))]).replace("M", before ? "L" : "M");
    before = v !== null;
  }
  const whole = VIEW.circular && slices.every((s) => s[ring.name][1] !== null);
  draw(svg, "path", { d: line + (whole ? "Z" : ""), fill: "none", stroke: "var(--predicted)", "stroke-width": 1.2, class: "predicted" });
}

/** What the rings are, from the outside in. */
function explainRings() {
  const table = element("table");
  table.append(element("caption", `From the outside in; means over ${(VIEW.length_bp / SLICES / 1000).toFixed(1)} kb`));
  const head = element("tr");
  for (const text of ["ring", "inner edge", "outer edge"]) head.append(element("th", text));
  table.append(head);
  const row = (cells) => {
    const tr = element("tr");
    cells.forEach((c, i) => tr.append(element("td", c, i ? { class: "num" } : {})));
    table.append(tr);
  };
  row(["splits", "", ""]);
  for (const ring of RINGS) {
    row([ring.title, ring.high === undefined ? "no data" : fixed(ring.low, 2), ring.high === undefined ? "" : fixed(ring.high, 2)]);
  }
  byId("ring-legend").append(table, legend(["observed", "predicted"]), legend(["train", "validation", "test"], "splits"));
  for (const ring of RINGS) {
    if (!PREDICTED[ring.name]) byId("ring-legend").append(element("p", DATA.reasons[ring.head] ?? "", { class: "note" }));
  }
}

/** Values under the pointer, or one slice after the other with the arrow keys. */
function readSlices(svg, slices) {
  const hand = draw(svg, "line", { stroke: "var(--mark)", "stroke-width": 1.5, visibility: "hidden" });
  let at = -1;
  const read = (i) => {
    at = (i + SLICES) % SLICES;
    const slice = slices[at], t = angleOf((slice.start + slice.end) / 2);
    const [x1, y1] = around(t, 60), [x2, y2] = around(t, 286);
    for (const [name, value] of Object.entries({ x1, y1, x2, y2, visibility: "visible" })) hand.setAttribute(name, value);
    const parts = RINGS.map((r) => `${r.title}: observed ${fixed(slice[r.name][0], 2)}, predicted ${fixed(slice[r.name][1], 2)}`);
    byId("ring-value").innerText =
      [`${(slice.start / 1000).toFixed(1)}–${(slice.end / 1000).toFixed(1)} kb, ${splitOf(slice.start, slice.end)}`, ...parts].join("\n");
  };
  const find = (event) => {
    const p = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const radius = Math.hypot(p.x, p.y), angle = (Math.atan2(p.x, -p.y) + 2 * Math.PI) % (2 * Math.PI);
    if (radius < 56 || radius > 300) return -1;
    return Math.min(Math.max(Math.floor(((angle - GAP) / (2 * Math.PI - 2 * GAP)) * SLICES), 0), SLICES - 1);
  };
  const open = () => {
    const middle = (slices[at].start + slices[at].end) / 2;
    browser.show(middle - 20000, middle + 20000);
    byId("browser").scrollIntoView();
  };
  svg.addEventListener("pointermove", (event) => {
    const i = find(event);
    if (i >= 0) read(i);
  });
  svg.addEventListener("click", (event) => {
    const i = find(event);
    if (i < 0) return;
    read(i);
    open();
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 20, PageUp: -20 }[event.key];
    if (step) read(at + step);
    else if (event.key === "Enter" && at >= 0) open();
    else return;
    event.preventDefault();
  });
  byId("ring-value").textContent = "Point at the rings, or use the arrow keys, to read values; a click or Enter opens the browser there.";
}
