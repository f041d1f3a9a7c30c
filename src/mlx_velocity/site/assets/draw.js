// How a history looks: axes, bands, levels, points and their marks, and what is said of a point.
"use strict";

(() => {
  const { Chart, SCALES, MANY, LEFT, RIGHT, TOP, BOTTOM, draw, three } = velocity.charts;
  const STATES = { open: "▲", unconfirmed: "◇", improved: "▼", accepted: "●", fixed: "✓" };

  Object.assign(Chart.prototype, {
    // From numbers to words and places

    /** A stored number as it is shown: as it is, or as tokens per second. */
    seen(value) { return this.rate ? this.data.tokens / value : value; },

    scale(largest) {
      if (this.rate) return [1, "tokens/s"];
      const steps = SCALES[this.data.unit] || [[1, this.data.unit]];
      return steps.find(([factor]) => largest >= factor) || steps[steps.length - 1];
    },

    words(value) {
      const seen = this.seen(value), [factor, unit] = this.scale(Math.abs(seen));
      return `${three(seen / factor)} ${unit}`;
    },

    draw() {
      const width = this.width = Math.max(this.canvas.clientWidth, 280);
      const height = this.height = width < 600 ? 280 : 380;
      const svg = this.svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
      const [low, high] = this.shown;
      const inside = this.series.points.filter(({ commit: { place } }) => place >= low && place <= high);
      const size = Math.max(high - low, 1);
      const pad = high > low ? 0 : 0.5;
      this.x = (place) => LEFT + ((place - low) / size + pad) * (width - LEFT - RIGHT);
      this.range(inside);
      const [bottom, top] = this.ends;
      this.y = (value) => height - BOTTOM - ((value - bottom) / (top - bottom)) * (height - TOP - BOTTOM);
      this.axes(svg, inside);
      const clip = draw("svg", { x: LEFT - 6, y: TOP - 6, width: width - LEFT - RIGHT + 12, height: height - TOP - BOTTOM + 12,
        viewBox: `${LEFT - 6} ${TOP - 6} ${width - LEFT - RIGHT + 12} ${height - TOP - BOTTOM + 12}` }, svg);
      if (inside.length > MANY) this.columns(clip, inside); else this.bands(clip, inside);
      this.roofline(clip, svg);
      this.levels(clip);
      this.marks(clip, inside);
      this.chosen = draw("g", {}, svg);
      this.selection = draw("rect", { class: "selection", y: TOP, height: height - TOP - BOTTOM, width: 0 }, svg);
      this.canvas.replaceChildren(svg);
      this.cross(this.stop);
      if (!this.series.points.length) draw("text", { x: width / 2, y: height / 2, class: "tick middle" }, svg, "nothing measured");
    },

    /** The ends of the axis: all that is shown of points, errors and levels, or from zero. */
    range(inside) {
      let [low, high] = [Infinity, -Infinity];
      for (const { value, error } of inside) {
        for (const end of [this.seen(value * (1 + error)), this.seen(value / (1 + error))]) {
          if (end < low) low = end;
          if (end > high) high = end;
        }
      }
      if (!inside.length) [low, high] = [0, 1];
      if (this.zero) low = 0;
      [low, high] = this.withRoofline(low, high);
      const room = (high - low) * 0.06 || Math.abs(high) * 0.02 || 1;
      this.ends = [this.zero ? 0 : Math.max(low - room, 0), high + room];
      const start = this.ends[0];
      const better = this.rate ? "higher is better" : "lower is better";
      const [factor, unit] = this.scale(this.ends[1]);
      this.unit = unit; this.factor = factor;
      this.note.textContent = start > 0
        ? `The axis begins at ${three(start / factor)} ${unit}, not at 0; ${better}.` : `The axis begins at 0; ${better}.`;
    },

    /** The ends with the roofline between them, where the points keep half of the height. */
    withRoofline(low, high) {
      const { least } = this.series;
      if (!least) return [low, high];
      const at = this.seen(least), ends = [Math.min(low, at), Math.max(high, at)];
      return ends[1] - ends[0] <= 2 * (high - low) || (this.zero && !this.rate) ? ends : [low, high];
    },

    roofline(clip, svg) {
      const { least, peaks } = this.series;
      if (!least) return;
      const at = this.seen(least), y = this.y(at);
      const inside = at >= this.ends[0] && at <= this.ends[1];
      this.note.textContent += ` Roofline: ${this.words(least)} (${peaks})${inside ? "." : ", outside of the picture."}`;
      if (!inside) return;
      draw("line", { class: "roofline", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }, clip);
      draw("text", { class: "tick end", x: this.width - RIGHT - 4, y: y - 5 }, svg, "roofline");
    },

    axes(svg, inside) {
      const { width, height } = this, [bottom, top] = this.ends.map((end) => end / this.factor);
      const rough = (top - bottom) / 5, power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= rough);
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      for (let tick = Math.ceil(bottom / step) * step; tick <= top + step / 1e6; tick += step) {
        const y = this.y(tick * this.factor);
        draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }, svg);
        draw("text", { class: "tick end", x: LEFT - 8, y: y + 4 }, svg,
          tick.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
      }
      draw("text", { class: "tick end", x: LEFT - 8, y: 13 }, svg, this.unit);
      this.dates(svg, height);
      this.tags(svg, inside, height);
    },

    dates(svg, height) {
      const [low, high] = this.shown, { commits } = this.data;
      const shown = commits.filter(({ place }) => place >= low && place <= high);
      let before = -Infinity;
      for (const commit of shown) {
        const x = this.x(commit.place);
        if (x - before < 110 || x < LEFT + 30 || x > this.width - 38) continue;
        before = x;
        draw("line", { class: "axis", x1: x, x2: x, y1: height - BOTTOM, y2: height - BOTTOM + 5 }, svg);
        draw("text", { class: "tick middle", x, y: height - BOTTOM + 20 }, svg, commit.day);
      }
      draw("line", { class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: height - BOTTOM, y2: height - BOTTOM }, svg);
    },

    tags(svg, inside, height) {
      const [low, high] = this.shown;
      let end = LEFT - 4;
      for (const { place, tag } of this.data.commits) {
        if (!tag || place < low || place > high) continue;
        const x = this.x(place), name = tag.length > 18 ? `${tag.slice(0, 17)}…` : tag, half = name.length * 3.2;
        draw("line", { class: "tag", x1: x, x2: x, y1: TOP - 4, y2: TOP + 3 }, svg);
        if (x - half < end + 8 || x + half > this.width) continue;
        end = x + half;
        draw("line", { class: "tag long", x1: x, x2: x, y1: TOP - 4, y2: height - BOTTOM }, svg);
        draw("text", { class: "tick middle", x, y: 13 }, svg, name);
      }
    },

    /** Points, each with what is known of its error. */
    bands(clip, inside) {
      let band = "", dots = "";
      const few = inside.length < (this.width - LEFT) / 8;
      for (const { value, error, commit, disturbed } of inside) {
        const x = this.x(commit.place).toFixed(1), y = this.y(this.seen(value)).toFixed(1);
        if (error > 0) {
          const [a, b] = [value * (1 + error), value / (1 + error)].map((end) => this.y(this.seen(end)).toFixed(1));
          band += `M${x} ${a}V${b}`;
        }
        if (!disturbed) dots += `M${x} ${y}h0`;
      }
      draw("path", { class: few ? "band wide" : "band", d: band }, clip);
      draw("path", { class: few ? "dots large" : "dots", d: dots }, clip);
    },

    /** With more points than there is room for: what each column of the picture holds. */
    columns(clip, inside) {
      const columns = new Map();
      for (const { value, commit } of inside) {
        const x = Math.round(this.x(commit.place)), y = this.y(this.seen(value));
        const held = columns.get(x) || [Infinity, -Infinity];
        columns.set(x, [Math.min(held[0], y), Math.max(held[1], y)]);
      }
      const d = [...columns].map(([x, [low, high]]) => `M${x} ${low.toFixed(1)}V${(high + 1).toFixed(1)}`).join("");
      draw("path", { class: "columns", d }, clip);
    },

    levels(clip) {
      const { points, segments } = this.series;
      segments.forEach(([first, last, level, low, high]) => {
        const x1 = this.x(points[first].commit.place) - 3, x2 = this.x(points[last].commit.place) + 3;
        const [a, b] = [this.y(this.seen(low)), this.y(this.seen(high))].sort((one, other) => one - other);
        if (b - a > 0.5) draw("rect", { class: "sure", x: x1, y: a, width: x2 - x1, height: b - a }, clip);
        const y = this.y(this.seen(level));
        draw("line", { class: "level", x1, x2, y1: y, y2: y }, clip);
      });
    },

    /** Changes, borders, disturbed points and failures: each a shape of its own. */
    marks(clip, inside) {
      const bottom = this.height - BOTTOM;
      for (const { commit, value, shift, border, disturbed } of inside) {
        const x = this.x(commit.place), y = this.y(this.seen(value));
        if (disturbed) draw("path", { class: "disturbed", d: `M${x - 4} ${y}L${x} ${y - 4}L${x + 4} ${y}L${x} ${y + 4}Z` }, clip);
        if (border) draw("line", { class: "border", x1: x, x2: x, y1: TOP, y2: bottom }, clip);
        if (!shift) continue;
        draw("line", { class: `shift ${shift.state}`, x1: x, x2: x, y1: TOP + 16, y2: bottom }, clip);
        draw("text", { class: `sign middle ${shift.state}`, x, y: TOP + 12 }, clip, STATES[shift.state]);
      }
      const [low, high] = this.shown;
      for (const { commit: { place } } of this.series.failed) {
        if (place < low || place > high) continue;
        const x = this.x(place), y = bottom - 5;
        draw("path", { class: "failed", d: `M${x - 4} ${y - 4}L${x + 4} ${y + 4}M${x - 4} ${y + 4}L${x + 4} ${y - 4}` }, clip);
      }
    },

    cross(stop) {
      this.chosen.replaceChildren();
      if (!stop) return;
      const x = this.x(stop.commit.place);
      if (x < LEFT - 1 || x > this.width - RIGHT + 1) return;
      draw("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM }, this.chosen);
      if (!stop.failed) draw("circle", { class: "ring", cx: x, cy: this.y(this.seen(stop.value)), r: 6 }, this.chosen);
    },

    select(start = 0, end = 0) {
      this.selection.setAttribute("x", Math.min(start, end));
      this.selection.setAttribute("width", Math.abs(end - start));
    },

    // What is said of a point

    /** Below the picture: what there is to know of a point. What is only pointed at is not read aloud. */
    async tell(stop = this.stop, pointed = false) {
      this.said.setAttribute("aria-live", pointed ? "off" : "polite");
      if (!pointed) this.samples();
      if (!stop) {
        this.said.replaceChildren(this.said.dataset.empty);
        return;
      }
      this.telling = stop;
      const { make } = velocity, { commit } = stop;
      const link = make("a", { href: `../commits/${commit.hash}.html` }, commit.hash.slice(0, 8));
      const subject = make("span", { class: "subject" });
      const lines = [make("p", {}, make("strong", {}, this.number_of(stop)), ` at `, link, ` `, subject)];
      for (const line of this.remarks(stop)) lines.push(make("p", { class: "small" }, line));
      this.said.replaceChildren(...lines);
      subject.textContent = `${commit.tag ? `(${commit.tag}) ` : ""}(${commit.day})`;
      const chunk = Math.floor(commit.place / this.data.chunk);
      try {
        const names = await velocity.load(`commits-${chunk}`, `../data/commits-${chunk}.js`);
        const [text, tags, day] = names[commit.place % this.data.chunk];
        if (this.telling === stop) subject.textContent = `${tags ? `(${tags}) ` : ""}${text} (${day})`;
      } catch { /* The hash and the day say which commit it is. */ }
    },

    number_of(stop) {
      if (stop.failed) return "No number";
      const error = stop.error > 0 ? ` ± ${+(stop.error * 100).toPrecision(2)} %` : "";
      const other = this.data.tokens && !this.rate ? `, ${three(this.data.tokens / stop.value)} tokens/s` : "";
      return `${this.words(stop.value)}${error}${other}`;
    },

    remarks(stop) {
      if (stop.failed) return [stop.failed];
      const { launches, samples, segment, shift, border, disturbed } = stop;
      const counted = `${samples} ${samples === 1 ? "sample" : "samples"} of ${launches} ${launches === 1 ? "launch" : "launches"}`;
      const level = segment ? `; the level here is ${this.words(segment[2])}` : "";
      return [
        shift && `A change begins here, ${shift.words}.`, border && `Something else changed here: ${border}.`,
        disturbed && `Disturbed, so that it says nothing of the commit: ${disturbed}.`, `${counted}${level}${this.reached(stop)}.`,
      ].filter(Boolean);
    },

    /** How much of what the machine can do a point reached. */
    reached({ value }) {
      const { least } = this.series;
      return least ? `; ${+((least / value) * 100).toPrecision(2)} % of the roofline` : "";
    },
  });

  document.addEventListener("DOMContentLoaded", () => {
    const box = document.querySelector("[data-chart]");
    if (box) velocity.chart = new Chart(box);
  });
})();
