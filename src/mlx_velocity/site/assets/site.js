// The site's one script. Every page also says what it says without it.
"use strict";

(() => {
  const memory = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* a private window */ } },
  };
  const make = (name, attributes = {}, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inside);
    return element;
  };
  /** The data that a page holds in a script element of type application/json. */
  const held = (id) => JSON.parse(document.getElementById(id).textContent);

  /** Data of a file that calls velocity.take(name, data): a script of this site, since fetch() does not read files. */
  const taken = new Map();
  const load = (name, address) => {
    if (!taken.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      taken.set(name, entry);
      const script = make("script", { src: address });
      script.addEventListener("error", () => { taken.delete(name); entry.reject(new Error(`${address} can't be loaded`)); });
      document.head.append(script);
    }
    return taken.get(name).promise;
  };
  const take = (name, data) => taken.get(name)?.resolve(data);

  /** What stands behind # in the address: the state of a page, so that it can be sent to somebody. */
  const state = {
    get: () => Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
    set: (values) => {
      const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
      const hash = new URLSearchParams(kept).toString();
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    },
  };

  // Light or dark: before anything is drawn.
  const theme = memory.get("velocity-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

  function themeButton() {
    const dark = () => (document.documentElement.dataset.theme
      || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const button = make("button", { type: "button" });
    const say = () => { button.textContent = dark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = dark() ? "light" : "dark";
      memory.set("velocity-theme", document.documentElement.dataset.theme);
      say();
    });
    say();
    document.querySelector(".tools").append(button);
  }

  /** assets/tracks.js says which tracks there are, so that a new one changes no page. */
  function trackSwitch() {
    const { root, track } = document.body.dataset;
    const tracks = window.velocityTracks || [];
    if (!track || tracks.length < 2) return;
    const select = make("select", { "aria-label": "Track" });
    for (const { name, folder } of tracks) {
      const option = make("option", { value: `${root}${folder}/index.html` }, name);
      option.selected = name === track;
      select.append(option);
    }
    select.addEventListener("change", () => { location.href = select.value; });
    document.querySelector(".here").replaceWith(select);
  }

  /** A column of a table with data-sort on its head can be sorted; a cell's data-value counts before its text. */
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.dataset.sort) return;
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = head.dataset.sort;
        const way = head.getAttribute("aria-sort") === first
          ? (first === "descending" ? "ascending" : "descending") : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way);
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          const numbers = x !== "" && y !== "" && !Number.isNaN(+x) && !Number.isNaN(+y);
          return numbers ? x - y : x.localeCompare(y, "en", { numeric: true });
        };
        const rows = [...table.tBodies[0].rows].sort(compare);
        table.tBodies[0].append(...(way === "descending" ? rows.reverse() : rows));
      });
    });
  }

  /** Rows whose data-<name> is not what a select[data-filter=name] or input[data-filter=text] of the page says are hidden. */
  function filters() {
    const controls = [...document.querySelectorAll("[data-filter]")];
    if (!controls.length) return;
    const rows = [...document.querySelectorAll("[data-row]")];
    const apply = () => {
      let shown = 0;
      for (const row of rows) {
        row.hidden = controls.some(({ value, dataset: { filter } }) => value && (filter === "text"
          ? !row.textContent.toLowerCase().includes(value.toLowerCase()) : row.dataset[filter] !== value));
        shown += !row.hidden;
      }
      const said = document.querySelector("[data-shown]");
      if (said) said.textContent = `${shown} of ${rows.length} shown`;
    };
    const asked = state.get();
    for (const control of controls) {
      const { filter } = control.dataset;
      if (asked[filter] !== undefined) control.value = asked[filter];
      control.addEventListener("input", () => {
        apply();
        state.set({ ...state.get(), [filter]: control.value });
      });
    }
    apply();
  }

  // Other scripts of a page, and the tests, find these here.
  window.velocity = { make, memory, held, load, take, state };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-scripted]").forEach((element) => { element.hidden = false; });
    themeButton();
    trackSwitch();
    document.querySelectorAll("table[data-sortable]").forEach(sortable);
    filters();
  });
})();
