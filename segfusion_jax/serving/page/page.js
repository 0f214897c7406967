// Images in, cards out: of what is chosen, dropped or pasted the predictor is asked, a few at a time.

import { Card, saveBlob } from "./cards.js";
import { csv, logistic, logit, percent, pointName, pointNote } from "./numbers.js";
import { AT_ONCE, connect, FORMATS, PLACE, predict } from "./predictor.js";

const find = (id) => document.getElementById(id);
const queue = [];
let cards = [];
let model = null;
let running = 0;
let prevalence = 0;

async function begin() {
  find("place").textContent = PLACE;
  try {
    model = await connect(tell);
  } catch (error) {
    tell(error.message);
    return;
  }
  tell("");
  find("controls").hidden = false;
  describe();
  if (model.classes[0].malignant === null) find("sought").textContent = model.decisions[1];
  if (model.prevalence === null) {
    for (const id of ["point", "prevalence"]) find(id).closest("#controls > div").hidden = true;
  }
  setPrevalence(model.prevalence ?? 0.5);
  work();
}

function tell(text) {
  find("status").textContent = text;
}

function describe() {
  const { limits } = model;
  find("point").replaceChildren(...model.operating_points.map((point) => new Option(pointName(point), point.name)));
  find("accepted").textContent = `${FORMATS}; at most `
    + `${Math.floor(limits.bytes / 1e6)} MB and ${Math.floor(limits.pixels / 1e6)} megapixels each.`;
  const data = model.data.map((one) => [one.title, one.licence && `licence ${one.licence}`].filter(Boolean).join(", "));
  find("model").textContent = `Model ${model.digest.slice(0, 12)}, segfusion_jax ${model.version}. `
    + (data.length ? `It learned from ${data.join("; ")}. ` : "") + (model.computed ?? "");
}

function point() {
  return model.operating_points.find((one) => one.name === find("point").value);
}

// What the images are called that are looked for: malignant ones, or those of somebody's own classes.
function soughtName() {
  return model.classes[0].malignant === null ? model.decisions[1] : "the malignant";
}

function setPrevalence(share) {
  prevalence = share;
  find("slider").value = logit(share);
  if (document.activeElement !== find("prevalence")) find("prevalence").value = Number((100 * share).toPrecision(3));
  update();
}

function update() {
  if (point()) find("point-note").textContent = pointNote(point(), soughtName());
  find("slider").setAttribute("aria-valuetext", percent(prevalence));
  for (const card of cards) card.update(model, point(), prevalence);
  sort();
}

function sort() {
  const last = (card) => card.row === undefined;
  const by = {
    added: (a, b) => a.number - b.number,
    falling: (a, b) => b.row.probability - a.row.probability,
    rising: (a, b) => a.row.probability - b.row.probability,
    novelty: (a, b) => b.said.novelty - a.said.novelty,
    name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  }[find("order").value];
  const needsAnswer = !["added", "name"].includes(find("order").value);
  const sorted = [...cards].sort((a, b) =>
    needsAnswer && (last(a) || last(b)) ? last(a) - last(b) || a.number - b.number : by(a, b));
  if (sorted.some((card, place) => find("cards").children[place] !== card.element)) {
    const focused = document.activeElement;
    find("cards").replaceChildren(...sorted.map((card) => card.element));
    if (find("cards").contains(focused)) focused.focus();
  }
  cards = sorted;
  const answered = cards.filter((card) => card.row).length;
  for (const id of ["csv", "print"]) find(id).disabled = answered === 0;
  find("clear").disabled = cards.length === 0;
  const waiting = queue.length + running;
  tell(cards.length === 0 ? ""
    : `${answered} of ${cards.length} images answered${waiting ? `, ${waiting} waiting` : ""}.`);
}

function add(files) {
  for (const file of files) {
    const card = new Card(file, remove);
    cards.push(card);
    find("cards").append(card.element);
    queue.push({ file, card });
  }
  if (model) {
    sort();
    work();
  }
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  cards = cards.filter((one) => one !== card);
  card.element.remove();
  (next?.querySelector("button:enabled") ?? find("files")).focus();
  sort();
}

function work() {
  while (model && running < AT_ONCE && queue.length) {
    const { file, card } = queue.shift();
    if (!cards.includes(card)) continue;
    running++;
    answered(file, card).catch((error) => card.fail(error.message)).finally(() => {
      running--;
      update();
      work();
    });
  }
}

async function answered(file, card) {
  const { bytes } = model.limits;
  if (file.size > bytes) throw new Error(`The file has ${file.size} bytes; at most ${bytes} are taken.`);
  card.answer(await predict(file, () => cards.includes(card)));
}

find("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // or the same file could not be chosen again
});
find("point").addEventListener("change", update);
find("order").addEventListener("change", sort);
find("slider").addEventListener("input", (event) => setPrevalence(logistic(Number(event.target.value))));
find("prevalence").addEventListener("input", (event) => {
  const share = Number(event.target.value) / 100;
  if (share > 0 && share < 1) setPrevalence(share);
});
find("own").addEventListener("click", () => setPrevalence(model.prevalence));
find("print").addEventListener("click", () => window.print());
find("clear").addEventListener("click", () => {
  for (const card of cards) card.element.remove();
  cards = [];
  queue.length = 0;
  sort();
});
find("csv").addEventListener("click", () => {
  const rows = cards.filter((card) => card.row).map((card) => card.tableRow(point(), prevalence));
  saveBlob(new Blob([csv(rows)], { type: "text/csv" }), "predictions.csv");
});

addEventListener("paste", (event) => add(event.clipboardData.files));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragged");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  add(event.dataTransfer.files);
});

begin();
