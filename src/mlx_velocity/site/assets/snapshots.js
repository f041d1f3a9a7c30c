// Numbers of commits: loads them when they are asked for, sets two beside each other, and says them in words.
"use strict";

(() => {
  /** What the file data/<name>.js of the page's track holds; a promise that fails where there is no such file. */
  const stored = (name) => velocity.load(name, `${document.body.dataset.here}data/${name}.js`);

  // Words: as units.py has them.

  /** Digits behind the point, a half to the even neighbour as Python has it. */
  function fixed(value, digits) {
    const below = Math.floor(Math.abs(value) * 10 ** digits);
    const half = (Math.abs(value) * 2 ** (digits + 1)) % 2 === 1;
    return (half && below % 2 === 0 ? (Math.sign(value) * below) / 10 ** digits : value).toFixed(digits);
  }
  function threeDigits(value) {
    if (Number.isNaN(value)) return "–";
    if (Math.abs(value) >= 100 || Number.isInteger(value)) return fixed(value, 0);
    return fixed(value, Math.abs(value) >= 10 ? 1 : 2);
  }
  const STEPS = {
    seconds: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]],
    bytes: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
    joules: [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]],
  };
  function quantity(value, unit) {
    const steps = STEPS[unit];
    if (!steps) return `${threeDigits(value)} ${unit}`;
    const [factor, name] = steps.find(([least]) => Math.abs(value) >= least) || steps.at(-1);
    return `${threeDigits(value / factor)} ${name}`;
  }
  const whole = (value) => fixed(value, 0).replace(/\B(?=(\d{3})+$)/g, ",");
  const rate = (value) => (value >= 1000 ? whole(value) : threeDigits(value));
  const share = (value) => `${fixed(value * 100, value * 100 >= 10 ? 0 : 1)} %`;
  const change = (ratio) => {
    if (ratio >= 10) return ratio < 1e6 ? `×${whole(ratio)}` : "∞";
    const words = fixed((ratio - 1) * 100, 1);
    return Number(words) === 0 ? "0.0 %" : `${ratio >= 1 ? "+" : ""}${words} %`;
  };
  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  // Two commits.

  /** Student's t at the track's confidence for any number of degrees of freedom ≥ 1. */
  function student(track, freedom) {
    const place = Math.min(1, 1 / freedom) * (track.t.length - 1);
    const below = Math.min(Math.floor(place), track.t.length - 2);
    const [low, high] = [Math.log(track.t[below]), Math.log(track.t[below + 1])];
    return Math.exp(low + (high - low) * (place - below));
  }

  /** The ratio b / a of two rows with its interval, as stats.welch has it; null bounds where a launch stands alone. */
  function ratio(track, a, b, counted) {
    if (!(a.value > 0 && b.value > 0)) return null;
    const plain = b.value / a.value;
    if (counted) return { value: plain, low: plain, high: plain };
    if (a.error === null || b.error === null) return { value: plain, low: null, high: null };
    const difference = b.mean - a.mean;
    const [before, after] = [a.error ** 2, b.error ** 2];
    const error = Math.sqrt(before + after);
    let reach = 0;
    if (error > 0) {
      const freedom = (before + after) ** 2 / (before ** 2 / (a.launches - 1) + after ** 2 / (b.launches - 1));
      reach = student(track, freedom) * error;
    }
    return { value: Math.exp(difference), low: Math.exp(difference - reach), high: Math.exp(difference + reach) };
  }

  /** A snapshot's rows by the number of their case; what failed is there with its reason. */
  function rows(snapshot) {
    const found = new Map();
    snapshot.case.forEach((number, place) => found.set(number, {
      value: snapshot.value[place], mean: snapshot.mean[place], error: snapshot.error[place],
      launches: snapshot.launches[place], samples: snapshot.samples[place],
      flags: snapshot.flags[place] || [], joules: snapshot.joules[place] ?? null,
      disturbed: snapshot.disturbed.includes(place), reason: "",
    }));
    let whole = "";
    for (const [number, outcome, reason] of snapshot.failures) {
      if (number === null) whole = `${outcome}: ${reason}`;
      else if (!found.has(number)) found.set(number, { value: null, reason: `${outcome}: ${reason}`, flags: [] });
    }
    return { found, whole };
  }

  /** Every case of two snapshots: what it was, what it is, and whether that is more than noise; those that matter first. */
  function between(track, a, b) {
    const [before, after] = [rows(a), rows(b)];
    const made = [];
    track.cases.number.forEach((number, place) => {
      const [was, is] = [before.found.get(number), after.found.get(number)];
      if (!was && !is) return;
      const nothing = (side, other) => ({ value: null, reason: other.whole || "not measured", flags: [] });
      const row = { place, label: track.cases.label[place], unit: track.cases.unit[place],
        tokens: track.cases.tokens[place], page: track.cases.page[place],
        a: was || nothing(was, before), b: is || nothing(is, after), certain: false, ratio: null };
      const counted = !!track.cases.counted[place];
      row.disturbed = !!(row.a.disturbed || row.b.disturbed);
      if (row.a.value !== null && row.b.value !== null) {
        row.ratio = ratio(track, row.a, row.b, counted);
        const { low = null, high = null } = row.ratio || {};
        row.certain = !row.disturbed && (counted ? row.a.value !== row.b.value
          : low !== null && (low > 1 + track.relevant || high < 1 - track.relevant));
        row.vague = !row.certain && low !== null && high > track.tooWide * low;
      }
      made.push(row);
    });
    const size = (row) => (row.ratio ? Math.abs(Math.log(row.ratio.value)) : -1);
    return made.sort((x, y) => (y.certain - x.certain) || (size(y) - size(x)));
  }

  /** What differs between two environments, a sentence each. */
  function surroundings(a, b) {
    const [was, is] = [a.environment, b.environment];
    if (!was || !is) return [];
    const said = [];
    for (const key of ["backend", "python"]) if (was[key] !== is[key]) said.push(`${key} ${was[key]} → ${is[key]}`);
    const names = [...new Set([...Object.keys(was.packages), ...Object.keys(is.packages)])].sort();
    for (const name of names) {
      const [old, now] = [was.packages[name] || "none", is.packages[name] || "none"];
      if (old !== now) said.push(`${name} ${old} → ${now}`);
    }
    return said;
  }

  // Choosing.

  const name = ([hash, , , tags]) => tags[0] || hash.slice(0, 8);
  const words = ([hash, day, subject, tags]) => (
    `${tags.length && !subject.includes(tags[0]) ? `${tags[0]} · ` : ""}${subject} · ${day} · ${hash.slice(0, 8)}`);

  /** Fill a select with the commits of a place, newest first, those with tags in front where others have none. */
  function listCommits(select, track, place, chosen) {
    const option = (number) => {
      const made = velocity.make("option", { value: track.commits[number][0] }, words(track.commits[number]));
      made.selected = track.commits[number][0] === chosen;
      return made;
    };
    const numbers = [...place.commits].reverse();
    const tagged = numbers.filter((number) => track.commits[number][3].length);
    if (!tagged.length || tagged.length === numbers.length) {
      select.replaceChildren(...numbers.map(option));
      return;
    }
    const rest = numbers.filter((number) => !track.commits[number][3].length);
    select.replaceChildren(velocity.make("optgroup", { label: "Tagged" }, ...tagged.map(option)),
      velocity.make("optgroup", { label: "Others" }, ...rest.map(option)));
  }

  // Who follows a link to the same page with another choice behind # wants that one.
  addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); });

  Object.assign(velocity, {
    stored, quantity, rate, share, change, count, ratio, rows, between, surroundings, name, words, listCommits,
  });
})();
