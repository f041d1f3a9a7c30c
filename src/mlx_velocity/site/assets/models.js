// The table of models: a machine's commit, beside another one, and as Markdown.
"use strict";

(() => {
  const { make } = velocity;
  const GIB = 2 ** 30;
  const NONE = "none";

  /** A cell's number in the column's view, and in words. */
  function view(column, row, tokens, least) {
    if (!row || row.value === null) return null;
    switch (column.view) {
      case "rate": return tokens && row.value > 0 ? [tokens / row.value, velocity.rate(tokens / row.value)] : null;
      case "time": return [row.value, velocity.quantity(row.value, "seconds")];
      case "memory": return [row.value, row.value >= GIB / 10 ? `${(row.value / GIB).toFixed(2)} GiB` : velocity.quantity(row.value, "bytes")];
      case "share": return least && row.value > 0 ? [least / row.value, velocity.share(least / row.value)] : null;
      default: return tokens && row.joules !== null ? [row.joules / tokens, velocity.quantity(row.joules / tokens, "joules")] : null;
    }
  }

  /** The table as data: a head, and per model a line of [now, before, change, certain, reason]. */
  function lines(held, track, key, now, base) {
    const cases = new Map(track.cases.number.map((number, place) => [number, place]));
    const changes = new Map((base ? velocity.between(track, base, now) : []).map((row) => [row.place, row]));
    const rows = velocity.rows(now);
    const before = base && velocity.rows(base);
    const { least } = held.places[key];
    const found = held.models.map(([name, shape, dtype], model) => ({ name, shape, dtype,
      cells: held.columns.map((column) => {
        const number = column.cases[model];
        const place = cases.get(number);
        if (number < 0 || place === undefined) return null;
        const tokens = track.cases.tokens[place];
        const row = rows.found.get(number);
        const shown = view(column, row, tokens, least[number]);
        const then = before && view(column, before.found.get(number), tokens, least[number]);
        if (!shown && !then) return row && row.reason ? { reason: row.reason } : null;
        const change = changes.get(place);
        const both = shown && then && then[0] > 0 ? shown[0] / then[0] : null;
        return { shown: shown && shown[1], then: then && then[1], change: both,
          certain: !!(change && change.certain && column.view !== "joules"), better: column.better,
          reason: shown ? "" : (row && row.reason) || "not measured",
          disturbed: !!(row && row.disturbed) };
      }) }));
    // Columns and models of which nothing is known here are left out.
    const used = held.columns.map((_, at) => found.some(({ cells }) => cells[at] && (cells[at].shown || cells[at].then)));
    const kept = used.some(Boolean) ? found.filter(({ cells }) => cells.some((cell) => cell)) : [];
    return { columns: held.columns.filter((_, at) => used[at]),
      rows: kept.map((row) => ({ ...row, cells: row.cells.filter((_, at) => used[at]) })) };
  }

  function draw({ columns, rows }, table) {
    const typed = rows.some(({ dtype }) => dtype);
    const head = make("tr", {}, make("th", { scope: "col" }, "model"), ...(typed ? [make("th", { scope: "col" }, "dtype")] : []),
      ...columns.map(({ label, hint }) => make("th", { scope: "col", class: "number", title: hint }, label)));
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...rows.map((row) => make("tr", {},
      make("th", { scope: "row", class: "nowrap" }, row.shape), ...(typed ? [make("td", {}, row.dtype)] : []),
      ...row.cells.map((cell) => {
        if (!cell) return make("td", { class: "number soft" }, "");
        const made = make("td", { class: "number" }, cell.shown || make("span", { class: "soft", title: cell.reason }, "–"));
        if (!cell.shown && cell.reason) made.append(make("span", { class: "hidden" }, cell.reason));
        if (cell.disturbed) made.append(make("span", { title: "another program computed on the same core" }, " *"));
        if (cell.change !== null && cell.change !== undefined) {
          const good = (cell.change > 1) === (cell.better === "more");
          const words = velocity.change(cell.change);
          made.append(make("br"), cell.certain
            ? make("strong", { class: `small ${good ? "better" : "worse"}` }, `${good ? "▼ better" : "▲ worse"} ${words}`)
            : make("span", { class: "small soft" }, words));
        }
        return made;
      }))));
  }

  const safe = (text) => String(text).replace(/[\\|`<>*_[\]#&!]/g, "\\$&");

  function markdown({ columns, rows }, title, against) {
    const typed = rows.some(({ dtype }) => dtype);
    const line = (cells) => `| ${cells.join(" | ")} |`;
    const head = ["model", ...(typed ? ["dtype"] : []), ...columns.map(({ label }) => label)];
    const text = [safe(title), "", line(head), line(head.map((_, at) => (at > typed ? "---:" : "---")))];
    for (const row of rows) {
      text.push(line([safe(row.shape), ...(typed ? [safe(row.dtype)] : []), ...row.cells.map((cell) => {
        if (!cell) return "";
        const change = cell.change !== null && cell.change !== undefined ? ` (${velocity.change(cell.change)}${cell.certain ? " \\*" : ""})` : "";
        return (cell.shown || "–") + (against ? change : "");
      })]));
    }
    if (against) text.push("", `In brackets the change against ${safe(against)}; \\* where it is more than noise.`);
    return text.join("\n");
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = make("textarea", { class: "hidden", "aria-hidden": "true", tabindex: "-1" });
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  document.addEventListener("DOMContentLoaded", async () => {
    const form = document.querySelector("form[data-models]");
    if (!form) return;
    const field = form.elements;
    const held = velocity.held("models");
    const said = document.querySelector("[data-said]");
    const track = await velocity.stored("track");
    const place = () => track.places.find(({ key }) => key === field.place.value);
    const record = (hash) => track.commits.find(([own]) => own === hash);
    let turn = 0;

    /** Against what a commit is held unless somebody says otherwise: its nearest measured ancestor. */
    function usual(commit) {
      const { commits, before } = place();
      const at = before[commits.findIndex((number) => track.commits[number][0] === commit)];
      return at >= 0 ? track.commits[at][0] : "";
    }
    function listBase(chosen) {
      velocity.listCommits(field.base, track, place(), chosen);
      const none = make("option", { value: "" }, "nothing");
      none.selected = !chosen;
      field.base.prepend(none);
    }
    function listPlace(commit) {
      const last = track.commits[place().commits.at(-1)][0];
      velocity.listCommits(field.commit, track, place(), commit || last);
    }
    async function update() {
      const mine = ++turn;
      const { key, label } = place();
      const [commit, base] = [field.commit.value, field.base.value];
      velocity.state.set({ machine: key, commit, against: base || NONE });
      try {
        const [now, before] = await Promise.all([
          velocity.stored(`${key}/${commit}`), base && base !== commit ? velocity.stored(`${key}/${base}`) : null]);
        if (mine !== turn) return;
        const table = lines(held, track, key, now, before);
        draw(table, document.querySelector("table.models"));
        const against = before ? velocity.words(record(base)) : "";
        const title = `${track.track} at ${velocity.words(record(commit))} on ${label}`;
        const differ = before ? velocity.surroundings(before, now) : [];
        said.textContent = table.rows.length ? (differ.length ? `Environments differ: ${differ.join(", ")}.` : "")
          : "Nothing of any model is measured at this commit on this machine.";
        const { peaks, why } = held.places[key];
        document.querySelector("[data-roofline]").textContent = peaks ? `Roofline: ${peaks}.` : `% of roofline is missing: ${why}.`;
        document.querySelector("[data-markdown]").textContent = markdown(table, title, against);
        document.querySelector("[data-copied]").textContent = "";
      } catch (error) {
        said.textContent = error.message;
      }
    }
    document.querySelector("[data-copy]").addEventListener("click", async () => {
      const done = await copy(document.querySelector("[data-markdown]").textContent);
      document.querySelector("[data-copied]").textContent = done ? "Copied." : "Your browser forbids it: take it from below.";
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    field.place.replaceChildren(...track.places.map(({ key, label }) => make("option", { value: key }, label)));
    const asked = velocity.state.get();
    if (track.places.some(({ key }) => key === asked.machine)) field.place.value = asked.machine;
    listPlace(asked.commit);
    listBase(asked.against === NONE ? "" : asked.against || usual(field.commit.value));
    field.place.addEventListener("change", () => { listPlace(field.commit.value); listBase(usual(field.commit.value)); update(); });
    field.commit.addEventListener("change", () => { listBase(usual(field.commit.value)); update(); });
    field.base.addEventListener("change", update);
    form.hidden = false;
    update();
  });
})();
