"use strict";

/* Sorting and filtering of tables marked with data-sortable. Without this file they are complete tables. */
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const rows = [...table.tBodies[0].rows];
  const filters = new Map();

  const shown = (row, at) => row.cells[at].textContent.trim();

  const value = (row, at) => {
    const cell = row.cells[at];
    return heads[at].classList.contains("number")
      ? Number.parseFloat(cell.dataset.value ?? cell.textContent)
      : shown(row, at);
  };

  /* Cells without a number stay last in both directions; equal ones keep their order. */
  const compare = (a, b, sign) => {
    if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  };

  const sort = (at) => {
    const first = heads[at].classList.contains("number") ? "descending" : "ascending";
    const before = heads[at].getAttribute("aria-sort");
    const other = first === "descending" ? "ascending" : "descending";
    const order = before === first ? other : first;
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[at].setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    table.tBodies[0].append(...[...rows].sort((a, b) => compare(value(a, at), value(b, at), sign)));
  };

  const bar = document.createElement("form");
  bar.className = "filters";
  const count = document.createElement("output");

  const apply = () => {
    let visible = 0;
    for (const row of rows) {
      row.hidden = [...filters].some(([at, select]) => select.value !== "" && shown(row, at) !== select.value);
      visible += row.hidden ? 0 : 1;
    }
    count.textContent = `${visible} of ${rows.length} rows`;
  };

  const option = (text, key) => {
    const made = document.createElement("option");
    made.textContent = text;
    made.value = key;
    return made;
  };

  const addFilter = (at) => {
    const found = [...new Set(rows.map((row) => shown(row, at)))];
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.name = heads[at].dataset.key;
    select.append(option("all", ""));
    for (const text of found.sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) {
      select.append(option(text, text));
    }
    select.addEventListener("change", apply);
    label.append(heads[at].textContent.trim(), " ", select);
    filters.set(at, select);
    bar.append(label);
  };

  heads.forEach((head, at) => {
    if ("filter" in head.dataset) addFilter(at);
    if (!("key" in head.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(at));
    head.append(button);
  });

  const reset = document.createElement("button");
  reset.type = "button";
  reset.textContent = "Show all, first order";
  reset.addEventListener("click", () => {
    for (const select of filters.values()) select.value = "";
    for (const head of heads) head.removeAttribute("aria-sort");
    table.tBodies[0].append(...rows);
    apply();
  });
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.append(reset, count);
  table.parentElement.before(bar);
  apply();
}
