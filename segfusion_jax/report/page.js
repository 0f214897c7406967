
"use strict";

// A heading becomes a button that sorts its table; what is empty stays last.
function compare(first, second) {
  if (first.dataset.value !== undefined && second.dataset.value !== undefined) {
    return Number(first.dataset.value) - Number(second.dataset.value);
  }
  return first.textContent.localeCompare(second.textContent, "en", { numeric: true });
}

function isEmpty(cell) {
  return ["", "–"].includes(cell.textContent.trim());
}

function sort(table, heading) {
  const column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [first, second] = [a.cells[column], b.cells[column]];
    if (isEmpty(first) || isEmpty(second)) return isEmpty(first) - isEmpty(second);
    return descending ? compare(second, first) : compare(first, second);
  });
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  if (table.tBodies[0].rows.length < 2) continue;
  for (const heading of table.tHead.rows[0].cells) {
    if (heading.textContent === "" || heading.classList.contains("drawn")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
}

// A figure opens in its own size, and closes by a click or Escape.
const large = document.createElement("dialog");
large.setAttribute("aria-label", "Figure in its own size");
large.addEventListener("click", () => large.close());
document.body.append(large);
for (const image of document.querySelectorAll("figure img")) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", "Enlarge: " + image.alt);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const copy = image.cloneNode();
    copy.removeAttribute("width");
    copy.removeAttribute("height");
    large.replaceChildren(copy);
    large.showModal();
  });
}

// A box that scrolls must be reachable by keyboard.
for (const box of document.querySelectorAll(".scroll")) {
  new ResizeObserver(() => box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1).observe(box);
}

// On paper nothing can be opened.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
