// Tracks: codes of 8 bits at one or two resolutions, and runs of equal values.
const UNKNOWN = 255;

function decode(text) {
  const bytes = atob(text), codes = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) codes[i] = bytes.charCodeAt(i);
  return codes;
}

/** A track of codes. Its first segment covers the whole chromosome, the others are finer. */
class Layer {
  constructor(stored) {
    this.low = stored.low;
    this.high = stored.high;
    this.segments = stored.segments.map((s) => {
      const codes = decode(s.codes);
      return { start: s.start, step: s.step, end: s.start + codes.length * s.step, codes };
    });
  }

  /** Mean, lowest and highest value over bases a to b, from the coarsest segment that is fine enough. */
  over(a, b) {
    const middle = (a + b) / 2;
    let used = this.segments[0];
    if (b - a < used.step) {
      used = this.segments.find((s, i) => i && s.start <= middle && middle < s.end) ?? used;
    }
    const n = used.codes.length;
    const first = Math.min(Math.max(Math.floor((a - used.start) / used.step), 0), n - 1);
    const last = Math.min(Math.max(Math.ceil((b - used.start) / used.step), first + 1), n);
    let sum = 0, count = 0, low = 255, high = 0;
    for (let i = first; i < last; i++) {
      const code = used.codes[i];
      if (code === UNKNOWN) continue;
      sum += code;
      count++;
      if (code < low) low = code;
      if (code > high) high = code;
    }
    if (!count) return null;
    return { mean: this.value(sum / count), low: this.value(low), high: this.value(high) };
  }

  value(code) {
    return this.low + ((this.high - this.low) * code) / (UNKNOWN - 1);
  }
}

/** Stretches of known values; `value` is 1 where none is given. */
class Runs {
  constructor(starts, ends, values = null) {
    this.starts = starts;
    this.ends = ends;
    this.values = values;
  }

  /** The first run that ends after a base. */
  after(base) {
    let low = 0, high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] <= base) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Known bases from a to b, and the sum of their values. */
  over(a, b) {
    let bases = 0, sum = 0;
    for (let i = this.after(a); i < this.starts.length && this.starts[i] < b; i++) {
      const n = Math.min(b, this.ends[i]) - Math.max(a, this.starts[i]);
      bases += n;
      sum += n * (this.values ? this.values[i] : 1);
    }
    return { bases, sum };
  }
}

const VIEW = DATA.view;
const PREDICTED = Object.fromEntries(Object.entries(VIEW.predicted).map(([name, stored]) => [name, new Layer(stored)]));
const OBSERVED = {
  expression: new Runs(VIEW.observed.expression.start, VIEW.observed.expression.end, VIEW.observed.expression.value),
  density: new Layer(VIEW.observed.density),
  operon: new Runs(VIEW.observed.operon.map((r) => r[0]), VIEW.observed.operon.map((r) => r[1])),
};

/** The measured mean over bases a to b; null where nothing is known. */
function observedOver(name, a, b) {
  if (name === "density") return OBSERVED.density.over(a, b)?.mean ?? null;
  const { bases, sum } = OBSERVED[name].over(a, b);
  if (name === "operon") return VIEW.has_operons ? sum / (b - a) : null;
  return bases ? sum / bases : null;
}

/** Which split a region lies in. */
function splitOf(start, end) {
  const found = Object.entries(VIEW.splits).filter(([, regions]) => regions.some(([a, b]) => a < end && b > start));
  return `${found.map(([name]) => name).join(", ")} ${found.length > 1 ? "splits" : "split"}`;
}
