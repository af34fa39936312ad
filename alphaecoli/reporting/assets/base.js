// Shared by all drawings: elements, numbers, scales, the tooltip, colours.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** An HTML element with text, which is never read as HTML. */
function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** An SVG element inside a parent. */
function draw(parent, tag, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}

/** An SVG drawing that scales with the page. */
function drawing(parent, width, height, label) {
  return draw(parent, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

const grouped = (n) => Math.round(n).toLocaleString("en-US");
const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−"));

/** About `count` round numbers from low to high. */
function ticks(low, high, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const first = Math.ceil(low / step - 1e-9) + 0;
  const found = [];
  for (let i = first; i * step <= high + step * 1e-9; i++) found.push(i * step + 0); // no -0
  return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** Axes with grid, ticks and titles; returns the scales. `box`: left, right, top, bottom. */
function axes(svg, box, x, y) {
  const toX = (v) => box.left + ((v - x.low) / (x.high - x.low || 1)) * (box.right - box.left);
  const toY = (v) => box.bottom - ((v - y.low) / (y.high - y.low || 1)) * (box.bottom - box.top);
  const across = ticks(x.low, x.high, x.count ?? 5), up = ticks(y.low, y.high, y.count ?? 5);
  for (const v of up.values) {
    draw(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: toY(v), y2: toY(v) });
    draw(svg, "text", { x: box.left - 7, y: toY(v) + 4, "text-anchor": "end", "font-size": 12 }, v.toFixed(up.digits));
  }
  for (const v of across.values) {
    draw(svg, "line", { class: "axis", x1: toX(v), x2: toX(v), y1: box.bottom, y2: box.bottom + 5 });
    const text = x.grouped ? grouped(v) : v.toFixed(across.digits);
    draw(svg, "text", { x: toX(v), y: box.bottom + 19, "text-anchor": "middle", "font-size": 12 }, text);
  }
  draw(svg, "line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
  draw(svg, "line", { class: "axis", x1: box.left, x2: box.left, y1: box.top, y2: box.bottom });
  const middle = (box.top + box.bottom) / 2;
  draw(svg, "text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle", "font-size": 13 }, x.title);
  draw(svg, "text", {
    x: 0, y: 0, "text-anchor": "middle", "font-size": 13, transform: `translate(14 ${middle}) rotate(-90)`,
  }, y.title);
  return { toX, toY };
}

/** Shows lines of text beside the pointer; the first may be a gene's name, in italics. */
function showTip(clientX, clientY, name, lines) {
  const tip = byId("tip");
  tip.replaceChildren(...(name ? [element("b", name)] : []), lines.map((l, i) => (i || name ? "\n" : "") + l).join(""));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = clientX + 14 + box.width > innerWidth ? clientX - box.width - 10 : clientX + 14;
  const top = clientY + 14 + box.height > innerHeight ? clientY - box.height - 10 : clientY + 14;
  tip.style.left = `${Math.max(left, 2)}px`;
  tip.style.top = `${Math.max(top, 2)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

/** The colours that the style sheet gives now. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

/** Says why there is no drawing. */
function empty(parent, reason) {
  parent.replaceChildren(element("p", reason, { class: "note" }));
}
