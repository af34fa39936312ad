// Puts the page together: the drawings, the browser's controls, light and dark, printing.
const WORDS = {
  observed: ["observed", "observed-fill"], predicted: ["predicted from sequence", "predicted"],
  forward: ["gene on + strand", "forward"], reverse: ["gene on − strand", "reverse"],
  operon: ["operon of several genes", "operon"],
  train: ["training", "train"], validation: ["held-out validation", "validation"], test: ["held-out test", "test"],
};

/** Swatches with words. */
function legend(names, title = "") {
  const made = element("div", title ? `${title}:` : "", { class: "legend" });
  for (const name of names) {
    const [words, colour] = WORDS[name], item = element("span"), swatch = element("i");
    if (name === "predicted") {
      swatch.className = "line";
      swatch.style.borderColor = `var(--${colour})`;
    } else {
      swatch.style.background = `var(--${colour})`;
    }
    item.append(swatch, words);
    made.append(item);
  }
  return made;
}

const browser = new Browser(byId("canvas"));

function addControls() {
  const actions = {
    left: () => browser.move(-0.5), right: () => browser.move(0.5),
    in: () => browser.zoom(0.5), out: () => browser.zoom(2), whole: () => browser.show(0, VIEW.length_bp),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
  byId("jump").addEventListener("submit", (event) => {
    event.preventDefault();
    browser.go(byId("place").value);
  });
  const names = new Set([...GENES.name, ...GENES.tag].filter(Boolean));
  byId("places").append(...[...names].map((name) => element("option", "", { value: name })));
  for (const locus of VIEW.loci) {
    const button = element("button", locus.label, { type: "button" });
    button.addEventListener("click", () => browser.show(locus.start, locus.end));
    byId("loci").append(button);
  }
  byId("legend").replaceWith(
    legend(["observed", "predicted", "forward", "reverse", "operon"]), legend(["train", "validation", "test"], "splits"),
  );
}

/** Light or dark by the system, or as chosen; a page on paper is light. */
function addTheme() {
  const root = document.documentElement, button = byId("theme"), choices = ["system", "light", "dark"];
  let choice = 0;
  const apply = (name) => {
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
  };
  button.addEventListener("click", () => {
    choice = (choice + 1) % choices.length;
    apply(choices[choice]);
    button.textContent = `Theme: ${choices[choice]}`;
    browser.redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => browser.redraw());
  addEventListener("beforeprint", () => {
    apply("light");
    browser.sharp = true;
    browser.draw();
  });
  addEventListener("afterprint", () => {
    apply(choices[choice]);
    browser.sharp = false;
    browser.draw();
  });
}

/** Copies the methods paragraph; where that is not allowed, selects it. */
function addCopy() {
  const text = byId("methods-text");
  byId("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      byId("copied").textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(text);
      byId("copied").textContent = "Selected: copy it with Ctrl+C.";
    }
  });
}

drawScatter();
drawCalibration();
drawCircle();
drawCurves();
addControls();
addTheme();
addCopy();
const [first] = VIEW.loci;
browser.show(first?.start ?? 0, first?.end ?? VIEW.length_bp);
document.documentElement.dataset.ready = "true";
