// The raw samples of the commit that is chosen: each launch with all of its calls, loaded when a reader asks for them.
"use strict";

(() => {
  const { Chart, draw } = velocity.charts;
  const { make } = velocity;
  const WIDE = 200, HIGH = 20, EDGE = 6;
  const NONE = "The site holds no samples of this commit: it has those of the newest 500 commits that mlx-velocity measured. "
    + "All are in the folder of results.";

  /** The samples of a launch as dots between the least and the largest of all launches, with a line at their median. */
  function strip(values, low, high) {
    const svg = draw("svg", { class: "strip", viewBox: `0 0 ${WIDE} ${HIGH}`, width: WIDE, height: HIGH, "aria-hidden": "true" });
    const x = (value) => EDGE + (high > low ? (value - low) / (high - low) : 0.5) * (WIDE - 2 * EDGE);
    draw("line", { class: "grid", x1: 0, x2: WIDE, y1: HIGH / 2, y2: HIGH / 2 }, svg);
    draw("line", { class: "level", x1: x(median(values)), x2: x(median(values)), y1: 2, y2: HIGH - 2 }, svg);
    draw("path", { class: "dots large", d: values.map((value) => `M${x(value).toFixed(1)} ${HIGH / 2}h0`).join("") }, svg);
    return svg;
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  Object.assign(Chart.prototype, {
    showRaw(wanted) {
      this.raw = wanted;
      this.keep();
      this.samples();
    },

    /** Fill the box below the picture, if it is open. */
    async samples() {
      const box = document.querySelector("[data-samples]"), { stop, series } = this;
      this.controls.raw.setAttribute("aria-expanded", String(this.raw));
      box.hidden = !this.raw;
      if (!this.raw) return;
      const say = (text) => box.replaceChildren(make("p", { class: "soft" }, text));
      if (!stop) { say("Choose a commit in the picture to see its samples."); return; }
      const name = `${series.place}/${stop.commit.hash}`;
      let launches;
      try {
        launches = (await velocity.load(`samples/${name}`, `../data/${name}.samples.js`))[series.key];
      } catch { /* There is no such file. */ }
      // Another commit may have been chosen meanwhile.
      if (stop !== this.stop || !this.raw) return;
      if (launches?.length) box.replaceChildren(...this.launches(launches, stop)); else say(NONE);
    },

    launches(launches, stop) {
      const values = launches.flatMap(([, samples]) => samples.map((value) => this.seen(value)));
      const low = Math.min(...values), high = Math.max(...values);
      const [factor, unit] = this.scale(high);
      const digits = Math.max(0, 3 - Math.floor(Math.log10(high / factor || 1)));
      const shown = (value) => (Number.isInteger(value / factor) ? String(value / factor) : (value / factor).toFixed(digits));
      const rows = launches.map(([number, samples, flags]) => {
        const own = samples.map((value) => this.seen(value));
        return make("tr", {}, make("th", { scope: "row", class: "number" }, String(number)), make("td", {}, strip(own, low, high)),
          make("td", { class: "number" }, shown(median(own))), make("td", { class: "text" }, own.map(shown).join("  ")),
          make("td", {}, flags.join(", ")));
      });
      const flagged = launches.some(([, , flags]) => flags.length);
      const head = ["launch", `${shown(low)} … ${shown(high)} ${unit}`, `median, ${unit}`, `samples, ${unit}, in their order`, "machine"];
      const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text, at) => (
        make("th", { scope: "col", class: at === 0 || at === 2 ? "number" : "" }, text))))), make("tbody", {}, ...rows));
      if (!flagged) for (const row of table.rows) row.cells[4].remove();
      const title = `Samples at ${stop.commit.hash.slice(0, 8)}${stop.commit.tag ? ` (${stop.commit.tag})` : ""}`;
      return [make("h3", {}, title),
        make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table)];
    },
  });
})();
