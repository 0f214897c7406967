"use strict";
// Sorts and filters the cards of a gallery, and changes their pictures. Without it, all of them are there.

(() => {
  const find = (id) => document.getElementById(id);
  const cards = [...find("cards").children];

  function sort() {
    const key = find("order").value.replace("-", "");
    const sign = find("order").value.startsWith("-") ? -1 : 1;
    const byName = (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true });
    const byNumber = (a, b) => (a.dataset[key] === "") - (b.dataset[key] === "")
      || sign * (a.dataset[key] - b.dataset[key]) || a.dataset.number - b.dataset.number;
    find("cards").append(...cards.sort(key === "name" ? byName : byNumber));
  }

  function filter() {
    const kind = find("kind").value;
    const text = find("text").value.toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const fits = (!kind || card.dataset.kinds.split("|").includes(kind)) && card.dataset.name.toLowerCase().includes(text);
      card.hidden = !fits;
      shown += fits;
    }
    find("status").textContent = `${shown} of ${cards.length} images shown.`;
  }

  function show(button) {
    const seen = button.closest(".seen");
    seen.querySelector("img").src = button.dataset.shows;
    seen.querySelector("a").href = button.dataset.shows;
    for (const other of seen.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  }

  find("cards").addEventListener("click", ({ target }) => {
    if (target.dataset.shows) show(target);
  });
  find("order").addEventListener("change", sort);
  find("kind").addEventListener("change", filter);
  find("text").addEventListener("input", filter);
  find("controls").hidden = false;
  for (const buttons of document.querySelectorAll(".pictures")) buttons.hidden = buttons.children.length < 2;
  filter();
})();
