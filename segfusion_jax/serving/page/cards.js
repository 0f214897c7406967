// A card: what is said of one image, and the image under what is drawn on it.

import { atPrevalence, malignancy, percent } from "./numbers.js";

const VIEWS = {
  outline: "Outline",
  mask: "Mask",
  bridged: "Bridged",
  evidence: "Evidence",
  image: "Image",
};
const LEGENDS = {
  outline: "The outline of the lesion, as the model finds it.",
  mask: "The mask: white is lesion.",
  bridged: "What the bridge shows to the classifier.",
  evidence: "Red speaks for what is looked for (where nothing is, for what the image is called), blue against it; the "
    + "strongest is the least transparent.",
  image: "The image, upright and in sRGB.",
};
const FALLBACKS = {
  empty: "no lesion was found",
  tiny: "what was found is too small for a lesion",
  border: "what was found is most of the image’s border",
};
const YELLOW = "#f0e442";
const SIDE = 900; // pixels that the longer side of a smaller image is drawn with, so that its outline is fine

let made = 0;

export class Card {
  constructor(file, removed) {
    this.name = file.name;
    this.number = made++;
    this.element = document.querySelector("#card").content.firstElementChild.cloneNode(true);
    this.find("h2").textContent = this.name;
    this.find("h2").id = `card-${this.number}`;
    this.element.setAttribute("aria-labelledby", `card-${this.number}`);
    this.addViews();
    const actions = {
      mask: () => save(this.mask.canvas, `${stem(this.name)}-mask.png`),
      overlay: () => save(this.drawn("outline"), `${stem(this.name)}-overlay.png`),
      print: () => this.print(),
      remove: () => removed(this),
    };
    for (const button of this.element.querySelectorAll("[data-save]")) {
      button.addEventListener("click", actions[button.dataset.save]);
    }
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  addViews() {
    for (const [view, title] of Object.entries(VIEWS)) {
      const label = document.createElement("label");
      const [input, span] = [document.createElement("input"), document.createElement("span")];
      Object.assign(input, { type: "radio", name: `view-${this.number}`, value: view, checked: view === "outline" });
      input.addEventListener("change", () => this.show(view));
      span.textContent = title;
      label.append(input, span);
      this.find(".views").append(label);
    }
  }

  // Takes what is said of the image; its pictures and mask are what can be drawn, which the card then keeps.
  answer(said) {
    this.said = said;
    Object.assign(this, said.pictures);
    this.mask = onCanvas(said.width, said.height, (context) => context.drawImage(said.mask, 0, 0));
    this.warn(warnings(said));
    this.find(".waiting").hidden = true;
    this.find(".said").hidden = false;
    this.list();
    this.show("outline");
  }

  fail(problem) {
    this.find(".waiting").hidden = true;
    this.warn([problem]);
    this.find(".warnings strong").textContent = "There is no answer";
  }

  warn(lines) {
    this.find(".warnings").hidden = lines.length === 0;
    this.find(".warnings ul").replaceChildren(...lines.map((line) => element("li", line)));
  }

  // Brings the numbers to a prevalence and the decision to an operating point.
  update(model, point, prevalence) {
    if (!this.said) return;
    const { said } = this;
    const probabilities = atPrevalence(said.probabilities, model, prevalence);
    const named = Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));
    const probability = point ? malignancy(probabilities, model) : probabilities[named];
    const isPositive = Boolean(point) && malignancy(said.probabilities, model) >= point.threshold;
    this.row = { probability, decision: point ? model.decisions[Number(isPositive)] : named, probabilities };
    this.find(".probability strong").textContent = percent(probability);
    this.find(".decision").textContent = `called ${this.row.decision}`;
    this.find(".decision").classList.toggle("positive", isPositive);
    this.find(".at").textContent = point
      ? `Probability of ${model.decisions[1]} at a prevalence of ${percent(prevalence)}.`
      : `Probability of ${named}, the most probable class.`;
    const rows = model.classes.map((one) => ({ ...one, share: probabilities[one.name] }));
    rows.sort((first, second) => second.share - first.share);
    this.find("tbody").replaceChildren(...rows.map(diagnosis));
    this.find(".printed span").textContent = `Model ${model.digest.slice(0, 12)}, segfusion_jax ${model.version}, `
      + `${point ? `threshold ${point.threshold.toFixed(3)}, ` : ""}${new Date().toISOString().slice(0, 10)}.`;
  }

  // What a table has of the image.
  tableRow(point, prevalence) {
    const { said, row } = this;
    return {
      image: this.name,
      ...(point ? { probability: row.probability.toFixed(6) } : {}),
      decision: row.decision,
      ...(point ? { prevalence: prevalence.toFixed(6), operating_point: point.name } : {}),
      ...Object.fromEntries(Object.entries(row.probabilities).map(([name, share]) =>
        [`probability of ${name}`, share.toFixed(6)])),
      mask_share: said.mask_share.toFixed(5),
      area: said.measurements?.area ?? "",
      diameter: said.measurements?.diameter.toFixed(1) ?? "",
      fallback: said.fallback,
      novelty: said.novelty.toFixed(4),
      familiar: Number(said.familiar),
    };
  }

  list() {
    const { said } = this;
    const measured = said.measurements;
    const facts = [
      ["Lesion", said.fallback ? "no usable mask" : `${percent(said.mask_share)} of the image`],
      ...(measured ? [["Area", `${measured.area.toLocaleString("en")} pixels`],
        ["Longest diameter", `${measured.diameter.toFixed(0)} pixels`]] : []),
      ["Image", `${said.width} × ${said.height} pixels`],
      ["Novelty", `${said.novelty.toFixed(2)}${said.familiar ? "" : ", above the limit of 1"}`],
    ];
    this.find(".facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  }

  show(view) {
    const [canvas, drawn] = [this.find("canvas"), this.drawn(view)];
    Object.assign(canvas, { width: drawn.width, height: drawn.height });
    canvas.getContext("2d").drawImage(drawn, 0, 0);
    const isWhole = this.said.fallback && ["outline", "mask"].includes(view);
    const legend = isWhole ? "There is no usable mask: the whole image was classified." : LEGENDS[view];
    this.find(".legend").textContent = legend;
    canvas.setAttribute("aria-label", `${this.name}. ${legend}`);
  }

  drawn(view) {
    const { image } = this;
    const scale = Math.max(1, SIDE / Math.max(image.width, image.height));
    const [width, height] = [image.width, image.height].map((side) => Math.round(scale * side));
    if (view === "mask") return this.mask.canvas;
    if (view === "bridged") {
      const { bridged } = this;
      return onCanvas(bridged.width, bridged.height, (context) => context.drawImage(bridged, 0, 0)).canvas;
    }
    return onCanvas(width, height, (context) => {
      context.filter = view === "evidence" ? "grayscale(1)" : "none";
      context.drawImage(image, 0, 0, width, height);
      context.filter = "none";
      if (view === "evidence") context.drawImage(this.evidence, 0, 0, width, height);
      if (view !== "image" && !this.said.fallback) outline(context, this.mask.canvas);
    }).canvas;
  }

  print() {
    document.body.classList.add("single");
    this.element.classList.add("chosen");
    window.print();
    document.body.classList.remove("single");
    this.element.classList.remove("chosen");
  }
}

function warnings(said) {
  const lines = [];
  if (!said.familiar) {
    lines.push("This image is unlike those that the model was trained on: nobody knows what the rest is worth.");
  }
  if (said.fallback) {
    lines.push(`There is no usable mask (${FALLBACKS[said.fallback] ?? said.fallback}): the whole image was classified.`);
  }
  return lines;
}

function diagnosis({ name, malignant, share }) {
  const [row, title, bar, number] = ["tr", "th", "td", "td"].map((tag) => document.createElement(tag));
  title.scope = "row";
  title.textContent = name;
  if (malignant && name !== "malignant") title.append(element("small", "malignant"));
  const meter = document.createElement("meter");
  Object.assign(meter, { value: share, max: 1 });
  meter.setAttribute("aria-label", name);
  bar.append(meter);
  number.className = "number";
  number.textContent = percent(share);
  row.append(title, bar, number);
  return row;
}

// Draws a contour bright on a dark seam, so that it is seen on any skin and any lesion.
function outline(context, mask) {
  const { width, height } = context.canvas;
  const { data } = onCanvas(width, height, (scaled) => scaled.drawImage(mask, 0, 0, width, height))
    .getImageData(0, 0, width, height);
  const isLesion = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[4 * (y * width + x)] >= 128;
  const edge = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (isLesion(x, y) && !(isLesion(x - 1, y) && isLesion(x + 1, y) && isLesion(x, y - 1) && isLesion(x, y + 1))) {
        edge.push([x, y]);
      }
    }
  }
  const line = Math.max(1, Math.round(Math.max(width, height) / 350));
  for (const [colour, size] of [["#000000", 3 * line], [YELLOW, line]]) {
    context.fillStyle = colour;
    for (const [x, y] of edge) context.fillRect(x - (size - 1) / 2, y - (size - 1) / 2, size, size);
  }
}

function onCanvas(width, height, draw) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  draw(context);
  return context;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "image";
}

function save(canvas, name) {
  canvas.toBlob((blob) => saveBlob(blob, name), "image/png");
}

export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
