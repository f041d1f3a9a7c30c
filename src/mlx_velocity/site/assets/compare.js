// Two commits beside each other: the page Compare, and a commit's page against its ancestor.
"use strict";

(() => {
  const { make } = velocity;
  const MOST = 2000;
  const NOTHING = { case: [], failures: [], environment: null };

  /** One row of the table. */
  function rowOf(row) {
    const cell = (kind, ...inside) => make("td", kind ? { class: kind } : {}, ...inside);
    const value = (side) => (side.value === null ? make("span", { class: "soft" }, "–")
      : velocity.quantity(side.value, row.unit));
    const label = row.page ? make("a", { href: document.body.dataset.here + row.page }, row.label) : row.label;
    let [change, interval] = ["", ""];
    if (row.ratio) {
      const { low, high } = row.ratio;
      change = velocity.change(row.ratio.value);
      if (low === null) interval = "one launch";
      else if (row.disturbed) interval = "disturbed";
      else if (row.vague) interval = "says nothing";
      else if (low === high) interval = "counted";
      else interval = `${velocity.change(low)} … ${velocity.change(high)}`;
    } else if (row.a.value !== null && row.b.value !== null) interval = row.a.value === row.b.value ? "same" : "was nothing";
    else interval = row.b.reason || row.a.reason;
    const worse = row.ratio && row.ratio.value > 1;
    const shown = row.certain
      ? make("strong", { class: worse ? "worse" : "better" }, `${worse ? "▲" : "▼"} ${change}`) : change;
    const per = (side) => (side.value > 0 ? velocity.rate(row.tokens / side.value) : "–");
    const flags = [...new Set([...row.a.flags, ...row.b.flags])].join(", ");
    const made = make("tr", {},
      make("th", { scope: "row", class: "text" }, label), cell("number", value(row.a)), cell("number", value(row.b)),
      cell("number", shown), cell(row.a.value !== null && row.b.value !== null ? "number" : "text", interval),
      cell("number", row.tokens ? `${per(row.a)} → ${per(row.b)}` : ""), cell("", flags));
    // On a phone a row is a card: what its head says elsewhere stands before its cells.
    made.cells[2].dataset.label = "→";
    if (row.tokens) made.cells[5].dataset.label = "tokens/s";
    made.cells[1].dataset.value = row.a.value ?? "";
    made.cells[2].dataset.value = row.b.value ?? "";
    made.cells[3].dataset.value = row.ratio ? row.ratio.value : "";
    made.certain = row.certain;
    return made;
  }

  /** Fill a table with the cases of two snapshots and say in a sentence what that comes to. */
  function fill(box, track, a, b) {
    const found = velocity.between(track, a, b);
    const made = found.slice(0, MOST).map(rowOf);
    box.querySelector("tbody").replaceChildren(...made);
    // A column in which nothing stands is left out.
    for (const at of [5, 6]) {
      const empty = made.every((row) => !row.cells[at].textContent);
      for (const row of box.querySelector("table").rows) row.cells[at].hidden = empty;
    }
    box.querySelectorAll("th[aria-sort]").forEach((head) => head.removeAttribute("aria-sort"));
    const certain = found.filter((row) => row.certain);
    const grew = certain.filter((row) => row.b.value > row.a.value).length;
    const lone = found.filter((row) => row.ratio && row.ratio.low === null).length;
    const gone = found.filter((row) => (row.a.value === null) !== (row.b.value === null)).length;
    let said = `${velocity.count(found.length, "case")}: ${grew} grew and ${certain.length - grew} shrank by more than `
      + `noise and ${track.relevant * 100} %; lower is better.`;
    if (lone) said += ` Of ${velocity.count(lone, "case")} one side has a single launch, which tells nothing of noise.`;
    if (gone) said += ` ${velocity.count(gone, "case")} ${gone === 1 ? "is" : "are"} on one side only.`;
    if (found.length > MOST) said += ` The first ${MOST} are shown.`;
    box.querySelector("[data-said]").textContent = said;
    const list = box.querySelector("[data-surroundings]");
    const differ = velocity.surroundings(a, b);
    list.textContent = differ.length ? `Environments differ: ${differ.join(", ")}.` : "";
    filter(box);
  }

  function filter(box) {
    const text = box.querySelector("[data-text]").value.toLowerCase();
    const certain = box.querySelector("[data-certain]").checked;
    const rows = [...box.querySelectorAll("tbody tr")];
    let shown = 0;
    for (const row of rows) {
      row.hidden = (certain && !row.certain) || (text && !row.cells[0].textContent.toLowerCase().includes(text));
      shown += !row.hidden;
    }
    box.querySelector("[data-count]").textContent = `${shown} of ${velocity.count(rows.length, "case")} shown`;
  }

  /** The last of several choices counts, whichever loads first. */
  let turn = 0;
  async function show(box, track, sides) {
    const mine = ++turn;
    box.setAttribute("aria-busy", "true");
    try {
      const [a, b] = await Promise.all(sides.map(({ place, commit }) => (
        commit ? velocity.stored(`${place.key}/${commit}`) : NOTHING)));
      if (mine !== turn) return;
      fill(box, track, a, b);
      box.hidden = false;
    } catch (error) {
      box.querySelector("[data-said]").textContent = error.message;
    } finally {
      box.removeAttribute("aria-busy");
    }
  }

  /** The page Compare: two selects a side. */
  function choose(box, track, form) {
    const field = form.elements;
    const place = (side) => track.places.find(({ key }) => key === field[`${side}-place`].value);
    const known = velocity.state.get();
    for (const side of ["a", "b"]) {
      const [key, commit] = (known[side] || "").split("/");
      const select = field[`${side}-place`];
      select.replaceChildren(...track.places.map((item) => {
        const option = make("option", { value: item.key }, item.label);
        option.selected = item.key === key;
        return option;
      }));
      let wanted = commit;
      if (!wanted) {
        const { commits, before } = place(side);
        const last = side === "a" && before.at(-1) >= 0 ? before.at(-1) : commits.at(-1);
        [wanted] = track.commits[last];
      }
      velocity.listCommits(field[`${side}-commit`], track, place(side), wanted);
      select.addEventListener("change", () => {
        velocity.listCommits(field[`${side}-commit`], track, place(side), field[`${side}-commit`].value);
        update();
      });
      field[`${side}-commit`].addEventListener("change", update);
    }
    field.swap.addEventListener("click", () => {
      const [a, b] = ["a", "b"].map((side) => [place(side), field[`${side}-commit`].value]);
      field["a-place"].value = b[0].key;
      field["b-place"].value = a[0].key;
      velocity.listCommits(field["a-commit"], track, b[0], b[1]);
      velocity.listCommits(field["b-commit"], track, a[0], a[1]);
      update();
    });
    function update() {
      const sides = ["a", "b"].map((side) => ({ place: place(side), commit: field[`${side}-commit`].value }));
      velocity.state.set(Object.fromEntries(["a", "b"].map((side, n) => [side, `${sides[n].place.key}/${sides[n].commit}`])));
      const records = sides.map(({ commit }) => track.commits.find(([hash]) => hash === commit));
      const note = document.querySelector("[data-note]");
      const command = document.querySelector("[data-command]");
      command.hidden = true;
      if (sides[0].place !== sides[1].place) {
        note.textContent = "These are two machines or two environments: what differs may be theirs and not the commits'.";
      } else if (sides[0].commit === sides[1].commit) {
        note.textContent = "Both sides are the same commit: choose another one.";
      } else {
        note.textContent = `The two were measured one after the other and not turn by turn, so take a few per cent as a `
          + `hint. On ${sides[0].place.machine} this decides it:`;
        const quoted = records.map(velocity.name).map((word) => (/^[\w.@%+=:,/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`));
        command.textContent = `mlx-velocity compare ${quoted.join(" ")}${command.dataset.options}`;
        command.hidden = false;
      }
      box.querySelector("[data-a]").textContent = velocity.name(records[0]);
      box.querySelector("[data-b]").textContent = velocity.name(records[1]);
      show(box, track, sides);
    }
    form.hidden = false;
    update();
  }

  /** A commit's page: one machine at a time, against its nearest measured ancestor. */
  function ancestor(box, track, commit) {
    const select = document.querySelector("select[data-place]");
    const update = () => {
      const place = track.places.find(({ key }) => key === select.value);
      const at = place.commits.findIndex((number) => track.commits[number][0] === commit);
      const before = place.before[at];
      const base = before >= 0 ? track.commits[before][0] : "";
      box.querySelector("[data-a]").textContent = before >= 0 ? velocity.name(track.commits[before]) : "–";
      box.querySelector("[data-b]").textContent = "this commit";
      document.querySelectorAll("[data-at]").forEach((part) => { part.hidden = part.dataset.at !== place.key; });
      velocity.state.set({ machine: place.key });
      show(box, track, [{ place, commit: base }, { place, commit }]);
    };
    const wanted = velocity.state.get().machine;
    if ([...select.options].some(({ value }) => value === wanted)) select.value = wanted;
    select.addEventListener("change", update);
    select.parentElement.hidden = select.options.length < 2;
    update();
  }

  document.addEventListener("DOMContentLoaded", async () => {
    const box = document.querySelector("[data-changes]");
    if (!box) return;
    box.querySelector("[data-text]").addEventListener("input", () => filter(box));
    box.querySelector("[data-certain]").addEventListener("input", () => filter(box));
    const track = await velocity.stored("track");
    const form = document.querySelector("form[data-choose]");
    if (form) {
      form.addEventListener("submit", (event) => event.preventDefault());
      choose(box, track, form);
    } else ancestor(box, track, box.dataset.changes);
  });
})();
