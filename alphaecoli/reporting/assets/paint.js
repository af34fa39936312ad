// What the browser draws: one canvas with the chromosome, genes, operons and three tracks.
const GENES = VIEW.genes;
const LANES = { overview: [0, 20], genes: [38, 110], operons: [118, 146], expression: [162, 282], density: [302, 382], operon: [402, 482] };
const GENE_TOP = { forward: 40, reverse: 78 }, GENE_HEIGHT = 18;
const AXIS = 482, HEIGHT = 524, LEFT = 72, RIGHT = 10, MIN_WIDTH_BP = 200;
const SANS = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif';

const PANELS = [
  { name: "expression", head: "gene_expression", title: ["expression", "ln(1 + TPM)"] },
  { name: "density", head: "gene_density", title: ["gene density", "genes / 128 bp"] },
  { name: "operon", head: "operon_membership", title: ["in an operon", "probability"], high: 1 },
];

/** Draws the bases from `start` to `end`. */
class Tracks {
  constructor(canvas) {
    this.canvas = canvas;
    this.start = 0;
    this.end = VIEW.length_bp;
    this.sharp = false; // on paper
    this.waiting = false;
    for (const panel of PANELS) this.scale(panel);
    new ResizeObserver(() => this.redraw()).observe(canvas.parentElement);
  }

  /** The range of a panel: of all that was measured and predicted. */
  scale(panel) {
    const predicted = PREDICTED[panel.name], measured = OBSERVED[panel.name];
    let top = Math.max(predicted?.high ?? 0, measured.high ?? 0);
    for (const value of measured.values ?? []) top = Math.max(top, value);
    panel.high ??= Math.max(Math.ceil(top), 1);
    panel.low = panel.name === "expression" ? Math.min(0, Math.floor(predicted?.low ?? 0)) : 0;
  }

  get width() {
    return Math.max(this.canvas.clientWidth - LEFT - RIGHT, 50);
  }

  get perPixel() {
    return (this.end - this.start) / this.width;
  }

  toX(base) {
    return LEFT + (base - this.start) / this.perPixel;
  }

  toBase(x) {
    return this.start + (x - LEFT) * this.perPixel;
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const ratio = this.sharp ? 3 : devicePixelRatio || 1, canvas = this.canvas;
    const width = canvas.parentElement.clientWidth;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    canvas.style.height = `${HEIGHT}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    this.pen = pen;
    this.colour = colours();
    pen.fillStyle = this.colour("ground");
    pen.fillRect(0, 0, width, HEIGHT);
    this.drawOverview();
    this.clipped(() => {
      this.drawHeldOut();
      this.drawGenes();
      this.drawOperons();
    });
    this.label("genes +", 49);
    this.label("genes −", 87);
    this.label("operons", 130);
    for (const panel of PANELS) this.drawPanel(panel);
    this.drawAxis();
    this.say();
  }

  /** Draws within the tracks' width. */
  clipped(work) {
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(LEFT, 0, this.width, HEIGHT);
    this.pen.clip();
    work();
    this.pen.restore();
  }

  text(text, x, y, { size = 12, align = "left", style = "", colour = "text" } = {}) {
    this.pen.font = `${style} ${size}px ${SANS}`;
    this.pen.textAlign = align;
    this.pen.textBaseline = "middle";
    this.pen.fillStyle = this.colour(colour);
    this.pen.fillText(text, x, y);
  }

  label(words, y) {
    this.text(words, LEFT - 8, y, { align: "right" });
  }

  /** The whole chromosome by split, with a frame about what is shown. */
  drawOverview() {
    const [top, bottom] = LANES.overview, pen = this.pen, bp = VIEW.length_bp / this.width;
    for (const [split, regions] of Object.entries(VIEW.splits)) {
      pen.fillStyle = this.colour(split);
      for (const [a, b] of regions) pen.fillRect(LEFT + a / bp, top + 5, (b - a) / bp, bottom - top - 9);
    }
    pen.strokeStyle = this.colour("text");
    pen.lineWidth = 2;
    const left = LEFT + this.start / bp, width = Math.max((this.end - this.start) / bp, 3);
    pen.strokeRect(left, top + 2, width, bottom - top - 3);
    this.label("whole", (top + bottom) / 2);
  }

  /** A strip along the top of the tracks where the chromosome is held out. */
  drawHeldOut() {
    for (const split of ["validation", "test"]) {
      this.pen.fillStyle = this.colour(split);
      for (const [a, b] of VIEW.splits[split]) {
        if (a < this.end && b > this.start) this.pen.fillRect(this.toX(a), 28, (b - a) / this.perPixel, 4);
      }
    }
  }

  drawGenes() {
    const pen = this.pen, near = this.perPixel < 150;
    const below = { forward: [], reverse: [] }; // names that do not fit into their arrows
    pen.lineWidth = 0.75;
    pen.strokeStyle = this.colour("gene-edge");
    for (const row of this.visible()) {
      const forward = GENES.strand[row] >= 0, side = forward ? "forward" : "reverse", top = GENE_TOP[side];
      for (const offset of GENES.end[row] > VIEW.length_bp ? [0, -VIEW.length_bp] : [0]) {
        const left = this.toX(GENES.start[row] + offset), right = this.toX(GENES.end[row] + offset);
        const width = Math.max(right - left, near ? 1.5 : 0.5);
        pen.fillStyle = this.colour(side);
        if (!near || GENES.strand[row] === 0) {
          pen.fillRect(left, top, width, GENE_HEIGHT);
          continue;
        }
        this.arrow(left, width, top, GENE_HEIGHT, forward);
        this.nameGene(row, left, right, top, below[side]);
      }
    }
  }

  arrow(left, width, top, height, forward) {
    const pen = this.pen, head = Math.min(7, width), right = left + width, middle = top + height / 2;
    const [tail, neck, tip] = forward ? [left, right - head, right] : [right, left + head, left];
    pen.beginPath();
    pen.moveTo(tail, top);
    pen.lineTo(neck, top);
    pen.lineTo(tip, middle);
    pen.lineTo(neck, top + height);
    pen.lineTo(tail, top + height);
    pen.closePath();
    pen.fill();
    if (width > 4) pen.stroke();
  }

  /** A name within its arrow, else below it where there is room. */
  nameGene(row, left, right, top, below) {
    const from = Math.max(left, LEFT), to = Math.min(right, LEFT + this.width), middle = (from + to) / 2;
    const name = GENES.name[row] || GENES.tag[row];
    this.pen.font = `italic 11px ${SANS}`;
    const half = this.pen.measureText(name).width / 2;
    if (half * 2 <= to - from - 9) {
      this.text(name, middle, top + GENE_HEIGHT / 2, { align: "center", size: 11, style: "italic", colour: "on-gene" });
    } else if (right - left > 2.5 && middle - half > LEFT && below.every(([a, b]) => middle + half + 3 < a || middle - half - 3 > b)) {
      this.text(name, middle, top + GENE_HEIGHT + 8, { align: "center", size: 11, style: "italic" });
      below.push([middle - half, middle + half]);
    }
  }

  /** Rows of the genes that touch what is shown. */
  visible() {
    const rows = [];
    for (let i = 0; i < GENES.start.length; i++) {
      const wraps = GENES.end[i] > VIEW.length_bp && GENES.end[i] - VIEW.length_bp > this.start;
      if ((GENES.start[i] < this.end && GENES.end[i] > this.start) || wraps) rows.push(i);
    }
    return rows;
  }

  drawOperons() {
    const pen = this.pen;
    let last = -Infinity;
    for (const operon of VIEW.operons) {
      if (operon.start >= this.end || operon.end <= this.start) continue;
      const left = Math.max(this.toX(operon.start), LEFT), right = Math.min(this.toX(operon.end), LEFT + this.width);
      pen.fillStyle = this.colour("operon");
      pen.fillRect(left, 124, Math.max(right - left, 0.5), 5);
      if (this.perPixel > 150) continue;
      pen.font = `italic 11px ${SANS}`;
      const width = pen.measureText(operon.label).width;
      const from = Math.min(Math.max((left + right - width) / 2, LEFT), LEFT + this.width - width);
      if (from < last + 8) continue;
      this.text(operon.label, from, 139, { size: 11, style: "italic" });
      last = from + width;
    }
  }

  /** Grid, observed and predicted values of one track. */
  drawPanel(panel) {
    const [top, bottom] = LANES[panel.name], pen = this.pen;
    const toY = (v) => bottom - ((v - panel.low) / (panel.high - panel.low)) * (bottom - top);
    const marks = ticks(panel.low, panel.high, 3);
    for (const v of marks.values) {
      pen.fillStyle = this.colour("rule");
      pen.fillRect(LEFT, Math.round(toY(v)), this.width, 1);
      this.text(v.toFixed(marks.digits), LEFT - 6, toY(v), { align: "right", size: 11, colour: "faint" });
    }
    pen.save();
    pen.translate(14, (top + bottom) / 2);
    pen.rotate(-Math.PI / 2);
    this.text(panel.title[0], 0, -6, { align: "center", size: 11 });
    this.text(panel.title[1], 0, 8, { align: "center", size: 11 });
    pen.restore();
    this.clipped(() => {
      this.drawObserved(panel, toY);
      if (PREDICTED[panel.name]) this.drawPredicted(PREDICTED[panel.name], toY);
    });
    if (!PREDICTED[panel.name]) {
      this.text(DATA.reasons[panel.head] ?? "", LEFT + this.width / 2, top + 12, { align: "center", size: 11, colour: "faint" });
    }
  }

  /** Pixels that share one value: several where a pixel stands for many genes, which would only flicker. */
  get grain() {
    return this.perPixel > 1000 ? 4 : 1;
  }

  drawObserved(panel, toY) {
    const pen = this.pen, base = toY(panel.low);
    if (panel.name === "expression" && this.perPixel < 150) return this.drawBars(toY);
    pen.fillStyle = this.colour("observed-fill");
    for (let x = LEFT; x < LEFT + this.width; x += this.grain) {
      const value = observedOver(panel.name, this.toBase(x), this.toBase(x + this.grain));
      if (value !== null) pen.fillRect(x, toY(value), this.grain + 0.02, base - toY(value));
    }
  }

  /** Measured expression: a bar at the height of each gene's value. */
  drawBars(toY) {
    const { starts, ends, values } = OBSERVED.expression;
    this.pen.fillStyle = this.colour("observed");
    for (let i = OBSERVED.expression.after(this.start); i < starts.length && starts[i] < this.end; i++) {
      const left = this.toX(starts[i]), width = Math.max((ends[i] - starts[i]) / this.perPixel, 0.7);
      this.pen.fillRect(left, toY(values[i]) - 2, width, 4);
    }
  }

  drawPredicted(layer, toY) {
    const pen = this.pen, line = [], band = new Path2D();
    for (let x = LEFT; x < LEFT + this.width; x += this.grain) {
      const value = layer.over(this.toBase(x), this.toBase(x + this.grain));
      line.push(value ? [x + this.grain / 2, toY(value.mean)] : null);
      if (value && this.grain === 1) band.rect(x, toY(value.high), 1, toY(value.low) - toY(value.high));
    }
    pen.fillStyle = this.colour("predicted-fill");
    pen.fill(band);
    pen.strokeStyle = this.colour("predicted");
    pen.lineWidth = 1.5;
    pen.beginPath();
    line.forEach((point, i) => {
      if (point && line[i - 1]) pen.lineTo(...point);
      else if (point) pen.moveTo(...point);
    });
    pen.stroke();
  }

  drawAxis() {
    const span = this.end - this.start, mega = span > 2e6;
    const [unit, size] = mega ? ["Mb", 1e6] : ["kb", 1e3];
    const marks = ticks(this.start / size, this.end / size, Math.max(Math.floor(this.width / 110), 2));
    this.pen.fillStyle = this.colour("faint");
    this.pen.fillRect(LEFT, AXIS, this.width, 1);
    for (const v of marks.values) {
      const x = this.toX(v * size);
      this.pen.fillRect(x, AXIS, 1, 5);
      const text = v.toLocaleString("en-US", { minimumFractionDigits: marks.digits, maximumFractionDigits: marks.digits });
      this.text(text, Math.min(x, LEFT + this.width - 16), AXIS + 14, { align: "center", size: 11 });
    }
    this.text(`position on ${VIEW.contig} (${unit})`, LEFT + this.width / 2, AXIS + 33, { align: "center" });
  }

  /** Puts what is shown into words. */
  say() {
    const start = Math.round(this.start), end = Math.round(this.end);
    byId("region").textContent =
      `${VIEW.contig}:${grouped(start + 1)}-${grouped(end)}, ${grouped(end - start)} bp, ${splitOf(start, end)}`;
  }
}
