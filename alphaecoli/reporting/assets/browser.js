// How the browser moves: buttons, keys, pointer, names.

class Browser extends Tracks {
  constructor(canvas) {
    super(canvas);
    this.listen();
  }

  /** Shows a region, kept within the chromosome. */
  show(start, end) {
    const width = Math.min(Math.max(end - start, MIN_WIDTH_BP), VIEW.length_bp);
    const middle = (start + end) / 2;
    this.start = Math.min(Math.max(middle - width / 2, 0), VIEW.length_bp - width);
    this.end = this.start + width;
    this.redraw();
  }

  move(share) {
    const step = share * (this.end - this.start);
    this.show(this.start + step, this.end + step);
  }

  /** Zooms about a base by a factor; below 1 comes nearer. */
  zoom(factor, about = (this.start + this.end) / 2) {
    const width = Math.min(Math.max((this.end - this.start) * factor, MIN_WIDTH_BP), VIEW.length_bp);
    const start = about - ((about - this.start) / (this.end - this.start)) * width;
    this.show(start, start + width);
  }

  /** Goes to a gene, a locus tag, start-end or contig:start-end (1-based, inclusive); says so where there is none. */
  go(text) {
    const wanted = text.trim(), lower = wanted.toLowerCase();
    const region = wanted.slice(wanted.lastIndexOf(":") + 1).match(/^([\d,]+)\s*[-–]\s*([\d,]+)$/);
    const named = wanted.includes(":") ? wanted.slice(0, wanted.lastIndexOf(":")) === VIEW.contig : true;
    if (region && named) {
      const [start, end] = [1, 2].map((i) => Number(region[i].replaceAll(",", "")));
      if (1 <= start && start <= end && end <= VIEW.length_bp) return this.show(start - 1, end);
    }
    const row = GENES.name.findIndex((name, i) => name.toLowerCase() === lower || GENES.tag[i].toLowerCase() === lower);
    if (row >= 0 && wanted) {
      const room = Math.max(10000 - (GENES.end[row] - GENES.start[row]) / 2, 2000);
      return this.show(GENES.start[row] - room, GENES.end[row] + room);
    }
    byId("region").textContent = `“${wanted}” is no gene, locus tag or region of ${VIEW.contig} (1-${VIEW.length_bp}).`;
  }

  /** The gene under a point of the canvas, or -1. */
  geneAt(x, y) {
    const [top, bottom] = LANES.genes;
    if (y < top || y > bottom) return -1;
    const base = this.toBase(x), strand = y < (top + bottom) / 2 ? 1 : -1, reach = 2 * this.perPixel;
    const rows = this.visible().filter((i) => {
      const at = base < GENES.start[i] - reach ? base + VIEW.length_bp : base;
      return (GENES.strand[i] < 0 ? -1 : 1) === strand && GENES.start[i] - reach <= at && at <= GENES.end[i] + reach;
    });
    const length = (i) => GENES.end[i] - GENES.start[i];
    return rows.length ? rows.reduce((a, b) => (length(a) <= length(b) ? a : b)) : -1;
  }

  hover(event) {
    const box = this.canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    if (x < LEFT || x > LEFT + this.width || y < LANES.genes[0]) return hideTip();
    const row = this.geneAt(x, y);
    if (row >= 0) return showTip(event.clientX, event.clientY, GENES.name[row], geneLines(row));
    const a = this.toBase(x), b = this.toBase(x + 1);
    const lines = [`position ${grouped(Math.floor(a) + 1)}`];
    for (const panel of PANELS) {
      const measured = observedOver(panel.name, a, b), guessed = PREDICTED[panel.name]?.over(a, b);
      lines.push(`${panel.title[0]}: observed ${fixed(measured, 1)}, predicted ${fixed(guessed?.mean ?? null, panel.name === "expression" ? 1 : 2)}`);
    }
    showTip(event.clientX, event.clientY, "", lines);
  }

  listen() {
    const canvas = this.canvas;
    let grip = null;
    canvas.addEventListener("pointerdown", (event) => {
      const y = event.clientY - canvas.getBoundingClientRect().top;
      grip = { x: event.clientX, start: this.start, end: this.end, overview: y < LANES.overview[1] + 6 };
      canvas.setPointerCapture(event.pointerId);
      if (grip.overview) this.centre(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grip) return this.hover(event);
      hideTip();
      if (grip.overview) return this.centre(event);
      const step = (grip.x - event.clientX) * ((grip.end - grip.start) / this.width);
      this.show(grip.start + step, grip.end + step);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (grip = null));
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("dblclick", (event) => this.zoom(0.4, this.toBase(event.offsetX)));
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || event.metaKey) {
        this.zoom(Math.exp(event.deltaY / 300), this.toBase(event.offsetX));
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        this.move((event.deltaX || event.deltaY) / this.width);
      } else {
        return;
      }
      event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const width = this.end - this.start;
      const actions = {
        ArrowLeft: () => this.move(-0.2), ArrowRight: () => this.move(0.2),
        "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
        Home: () => this.show(0, width), End: () => this.show(VIEW.length_bp - width, VIEW.length_bp),
      };
      if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
      actions[event.key]();
      event.preventDefault();
    });
  }

  /** Centres on the place of the overview under the pointer. */
  centre(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left - LEFT;
    const base = (x / this.width) * VIEW.length_bp, half = (this.end - this.start) / 2;
    this.show(base - half, base + half);
  }
}

/** What is known of a gene, in lines. */
function geneLines(row) {
  const strand = { 1: "+ strand", "-1": "− strand", 0: "strand unknown" }[GENES.strand[row]];
  const lines = [
    GENES.tag[row] || "no locus tag",
    `${grouped(GENES.start[row] + 1)}-${grouped(GENES.end[row])}, ${strand}`,
    `${GENES.split[row] === "border" ? "over a border of the splits" : `${GENES.split[row]} split`}`,
    `observed ${fixed(GENES.observed[row], 2)} ln(1 + TPM)`,
  ];
  if (PREDICTED.expression) lines.push(`predicted ${fixed(GENES.predicted[row], 2)} ln(1 + TPM)`);
  if (PREDICTED.operon) lines.push(`in an operon: probability ${fixed(GENES.probability[row], 2)}`);
  return lines;
}
