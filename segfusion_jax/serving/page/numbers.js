// Arithmetic and texts of the page: nothing here touches the document.

// The probabilities of classes at another prevalence, as `SegFusion.predict` has it: the odds of malignancy are
// multiplied by those of the new prevalence over those of the model's own. Without one there is nothing to shift.
export function atPrevalence(probabilities, model, prevalence) {
  const own = model.prevalence;
  if (own === null) return probabilities;
  const shifted = model.classes.map(({ name, positive }) =>
    probabilities[name] * (positive ? prevalence / own : (1 - prevalence) / (1 - own)));
  const total = shifted.reduce((sum, value) => sum + value, 0);
  return Object.fromEntries(model.classes.map(({ name }, number) => [name, shifted[number] / total]));
}

export function malignancy(probabilities, model) {
  return model.classes.reduce((sum, { name, positive }) => sum + (positive ? probabilities[name] : 0), 0);
}

export function logit(share) {
  return Math.log(share / (1 - share));
}

export function logistic(value) {
  return 1 / (1 + Math.exp(-value));
}

export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

export function pointName(point) {
  const aimed = point.name.match(/^(\w+)-([\d.]+)$/);
  return aimed ? `aimed at ${percent(Number(aimed[2]), 0)} ${aimed[1]}` : "the model’s own";
}

// What an operating point means: what it reached on the model's own test images.
export function pointNote(point, sought) {
  const stated = (one) => one.low === null || one.high === null ? percent(one.value)
    : `${percent(one.value)} (${percent(one.low)} to ${percent(one.high)})`;
  const { sensitivity, specificity } = point;
  const reached = sensitivity && specificity
    ? `On the model’s own test images it found ${stated(sensitivity)} of ${sought} and left out `
      + `${stated(specificity)} of the others (95 % intervals). `
    : "";
  return `${reached}Threshold ${point.threshold.toFixed(3)}. On images from elsewhere it may do much worse: `
    + "read the model’s card.";
}

const CONTROLS = new RegExp(
  "[\\\\\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]", "gu");
const NUMBER = /^([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf))$/;

// One line in any reader, and no formula in any spreadsheet, as `runtime.sinks.cell` has it.
function cell(value) {
  let text = String(value).replace(CONTROLS, (character) => {
    const code = character.charCodeAt(0);
    if (character === "\\") return "\\\\";
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
  if (/^[=+\-@']/.test(text) && !NUMBER.test(text)) text = `'${text}`;
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A row an image, in the order given; `rows` are objects with the same keys.
export function csv(rows) {
  const lines = [Object.keys(rows[0]), ...rows.map((row) => Object.values(row))];
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}
