// The history of one case, drawn from the data in its page. Everything can be done by keyboard and read aloud.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const DAY_MS = 86400000;
  const LEFT = 74, RIGHT = 14, TOP = 26, BOTTOM = 30;
  const NEAREST = 3;  // Commits that a view shows at least.
  const DOUBLE_MS = 400;
  const MANY = 1500;  // Points from which on a column of the picture shows a range instead of each.
  const SCALES = {
    seconds: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]],
    bytes: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
    joules: [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]],
  };

  const floats = (text) => {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  };
  const summed = (steps) => { let at = 0; return steps.map((step) => (at += step)); };
  const repeated = (runs) => runs.flatMap(([value, count]) => Array(count).fill(value));
  const three = (value) => {
    if (!Number.isFinite(value)) return "–";
    return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3));
  };
  const draw = (name, attributes, parent, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent?.append(element);
    return element;
  };

  /** The data of the page, unpacked: commits, and series of points in places along the branch. */
  function unpack(held) {
    const place = summed(held.place), day = summed(held.day);
    const commits = place.map((at, index) => ({
      place: at, day: new Date(day[index] * DAY_MS).toISOString().slice(0, 10),
      hash: held.hash.slice(index * held.short, (index + 1) * held.short),
    }));
    for (const [index, tag] of held.tags) commits[index].tag = tag;
    const series = held.series.map((item) => {
      const value = floats(item.value), error = floats(item.error);
      const launches = repeated(item.launches), samples = repeated(item.samples);
      const points = summed(item.at).map((at, index) => ({
        index, commit: commits[at], value: value[index], error: error[index],
        launches: launches[index], samples: samples[index],
      }));
      for (const [index, reason] of item.disturbed) points[index].disturbed = reason;
      for (const [index, state, words] of item.shifts) points[index].shift = { state, words };
      for (const [index, reason] of item.borders) points[index].border = reason;
      for (const segment of item.segments) {
        for (let index = segment[0]; index <= segment[1]; index += 1) points[index].segment = segment;
      }
      const failed = item.failed.map(([at, reason]) => ({ commit: commits[at], failed: item.reasons[reason] }));
      // What a reader steps through: points and failures in the order of the branch.
      const stops = [...points, ...failed].sort((a, b) => a.commit.place - b.commit.place);
      return { name: item.name, place: item.place, key: item.key, least: item.least, peaks: item.peaks, points, failed, stops, segments: item.segments };
    });
    return { ...held, commits, series };
  }

  class Chart {
    constructor(box) {
      this.box = box;
      this.data = unpack(velocity.held("history"));
      this.canvas = box.querySelector("[data-canvas]");
      this.said = document.querySelector("[data-readout]");
      this.note = document.querySelector("[data-axis]");
      this.controls = Object.fromEntries([...document.querySelectorAll("[data-control]")].map(
        (control) => [control.dataset.control, control]));
      this.read();
      this.listen();
      this.draw();
      this.tell();
    }

    // The state, and the address that holds it

    /** Take the state from the address; what it does not say is the default. */
    read() {
      const asked = velocity.state.get();
      const named = this.data.series.findIndex((item) => item.name === asked.machine);
      this.number = Math.max(named, 0);
      this.rate = asked.view === "rate" && !!this.data.tokens;
      this.zero = asked.zero === "1";
      this.raw = asked.raw === "1";
      const at = (hash) => this.data.commits.find((commit) => hash && commit.hash.startsWith(hash));
      const [from, to] = [at(asked.from), at(asked.to)];
      this.span = from && to && from.place < to.place ? [from.place, to.place] : null;
      const chosen = at(asked.at);
      this.at = chosen ? this.series.stops.findIndex((stop) => stop.commit === chosen) : -1;
      if (this.controls.machine) this.controls.machine.value = String(this.number);
      if (this.controls.view) this.controls.view.value = this.rate ? "rate" : "";
      if (this.controls.zero) this.controls.zero.checked = this.zero;
    }

    keep() {
      const hash = (place) => this.data.commits.find((commit) => commit.place >= place)?.hash;
      velocity.state.set({
        machine: this.number ? this.series.name : "", view: this.rate ? "rate" : "", zero: this.zero ? "1" : "",
        from: this.span ? hash(this.span[0]) : "", to: this.span ? hash(this.span[1]) : "",
        at: this.stop?.commit.hash, raw: this.raw ? "1" : "",
      });
    }

    get series() { return this.data.series[this.number]; }
    get stop() { return this.series.stops[this.at]; }

    /** The places of the first and the last commit that are shown. */
    get shown() {
      if (this.span) return this.span;
      const { stops } = this.series;
      return stops.length ? [stops[0].commit.place, stops[stops.length - 1].commit.place] : [0, 1];
    }

    show(span) {
      const { stops } = this.series;
      if (!stops.length) return;
      const [first, last] = [stops[0].commit.place, stops[stops.length - 1].commit.place];
      if (span) {
        const size = Math.min(Math.max(span[1] - span[0], NEAREST - 1), last - first);
        const low = Math.round(Math.min(Math.max(span[0], first), last - size));
        this.span = size >= last - first ? null : this.onCommits(low, Math.round(low + size));
      } else this.span = null;
      this.keep();
      this.draw();
    }

    /** The nearest places that are commits of the data, so that the address can name them. */
    onCommits(low, high) {
      const { commits } = this.data;
      const start = Math.max(0, commits.findIndex((commit) => commit.place >= low));
      let end = commits.findIndex((commit) => commit.place >= high);
      if (end < 0) end = commits.length - 1;
      if (end <= start) return [commits[Math.max(0, start - 1)].place, commits[Math.min(commits.length - 1, start + 1)].place];
      return [commits[start].place, commits[end].place];
    }

    zoom(factor) {
      const [low, high] = this.shown;
      const here = this.stop?.commit.place;
      const middle = here >= low && here <= high ? here : (low + high) / 2;
      const half = ((high - low) * factor) / 2;
      this.show([middle - half, middle + half]);
    }

    pan(share) {
      const [low, high] = this.shown;
      const by = Math.sign(share) * Math.max(1, Math.round((high - low) * Math.abs(share)));
      this.show([low + by, high + by]);
    }

    /** Choose a point or a failure by its number, and see to it that it is in the picture. */
    choose(number) {
      const { stops } = this.series;
      if (!stops.length) return;
      this.at = Math.min(Math.max(number, 0), stops.length - 1);
      const [low, high] = this.shown, here = this.stop.commit.place;
      if (here < low || here > high) {
        const half = Math.round((high - low) / 2);
        this.show([here - half, here + half]);
      } else { this.keep(); this.draw(); }
      this.tell();
    }

    /** The next change in a direction. */
    chooseChange(way) {
      const { stops } = this.series;
      for (let at = this.at < 0 && way < 0 ? stops.length - 1 : this.at + way; stops[at]; at += way) {
        if (stops[at].shift) { this.choose(at); return; }
      }
    }

    // What a reader does

    listen() {
      const { box, controls } = this;
      box.addEventListener("keydown", (event) => this.key(event));
      controls.machine?.addEventListener("change", () => {
        const hash = this.stop?.commit.hash;
        this.number = Number(controls.machine.value);
        this.at = this.series.stops.findIndex((stop) => stop.commit.hash === hash);
        this.keep(); this.draw(); this.tell();
      });
      controls.view?.addEventListener("change", () => {
        this.rate = controls.view.value === "rate";
        this.keep(); this.draw(); this.tell();
      });
      controls.zero?.addEventListener("change", () => { this.zero = controls.zero.checked; this.keep(); this.draw(); });
      controls.raw?.addEventListener("click", () => this.showRaw(!this.raw));
      controls.in?.addEventListener("click", () => this.zoom(0.5));
      controls.out?.addEventListener("click", () => this.zoom(2));
      controls.all?.addEventListener("click", () => this.show(null));
      this.pointer();
      new ResizeObserver(() => { if (this.canvas.clientWidth !== this.width) this.draw(); }).observe(this.canvas);
      window.addEventListener("hashchange", () => { this.read(); this.draw(); this.tell(); });
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { stops } = this.series;
      const from = this.at < 0 ? stops.length : this.at;
      const actions = {
        ArrowLeft: () => (event.shiftKey ? this.pan(-0.25) : this.choose(from - 1)),
        ArrowRight: () => (event.shiftKey ? this.pan(0.25) : this.choose(this.at < 0 ? 0 : this.at + 1)),
        Home: () => this.choose(0), End: () => this.choose(stops.length - 1),
        "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), "0": () => this.show(null),
        n: () => this.chooseChange(1), p: () => this.chooseChange(-1),
        r: () => this.showRaw(!this.raw),
        Escape: () => { this.at = -1; this.keep(); this.draw(); this.tell(); },
      };
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    }

    pointer() {
      const { canvas } = this;
      let start = null, before = -Infinity;
      const x = (event) => event.clientX - canvas.getBoundingClientRect().left;
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        start = x(event);
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (start !== null && Math.abs(x(event) - start) > 8) this.select(start, x(event));
        else if (event.pointerType === "mouse" && start === null) this.hover(this.nearest(x(event)));
      });
      canvas.addEventListener("pointerup", (event) => {
        if (start === null) return;
        const [low, high] = [Math.min(start, x(event)), Math.max(start, x(event))];
        start = null;
        this.select();
        if (high - low > 8) this.show([this.placeAt(low), this.placeAt(high)]);
        // The picture is drawn anew with each click, so that the browser itself sees no double one.
        else if (event.timeStamp - before < DOUBLE_MS) this.show(null);
        else this.choose(this.nearest(low));
        before = event.timeStamp;
      });
      canvas.addEventListener("pointercancel", () => { start = null; this.select(); });
      canvas.addEventListener("pointerleave", () => this.hover(-1));
    }

    placeAt(x) {
      const [low, high] = this.shown;
      const share = (x - LEFT) / (this.width - LEFT - RIGHT);
      return low + Math.min(Math.max(share, 0), 1) * (high - low);
    }

    nearest(x) {
      const { stops } = this.series, place = this.placeAt(x);
      let best = -1;
      stops.forEach((stop, index) => {
        if (best < 0 || Math.abs(stop.commit.place - place) < Math.abs(stops[best].commit.place - place)) best = index;
      });
      return best;
    }

    /** Say what is under the pointer without choosing it. */
    hover(number) {
      const stop = number < 0 ? this.stop : this.series.stops[number];
      this.cross(stop);
      this.tell(stop, true);
    }
  }

  window.velocity.charts = { Chart, SCALES, MANY, LEFT, RIGHT, TOP, BOTTOM, draw, three };
})();
