// Draws the figure, and above it a lane for each kind of region. All names go through textContent.
"use strict";
(() => {
  const figure = JSON.parse(document.getElementById("figure").textContent);
  const plot = document.getElementById("plot");
  const lanes = document.getElementById("lanes");
  const here = document.getElementById("here");
  const box = document.getElementById("regions");
  const colours = ["#cfd8dc", "#bdbdbd", "#e3f2fd", "#fff3e0"];
  const at = (times) => times.map((time) => (time === null ? null : time + figure.base));
  const common = at(figure.x);
  const traces = figure.traces.map((trace) => ({ ...trace, x: trace.x ? at(trace.x) : common }));
  const LEFT = 64, RIGHT = 220, AXIS = 62;
  // Legends stand right of the right axis, whatever the width.
  const legends = () => {
    const x = 1 + AXIS / Math.max(100, plot.clientWidth - LEFT - RIGHT);
    const names = Object.keys(figure.layout).filter((name) => name.startsWith("legend"));
    return Object.fromEntries(names.map((name) => [name, { ...figure.layout[name], x }]));
  };
  const laneSpace = figure.lanes.length * figure.laneHeight;
  const whole = at([0, Math.max(1, figure.end)]);
  const layout = {
    ...figure.layout,
    height: figure.rows * figure.rowHeight + laneSpace + 130,
    margin: { l: LEFT, r: RIGHT, t: laneSpace + 8, b: 20 },
    ...legends(),
    xaxis: { ...figure.layout.xaxis, range: whole, rangeslider: { ...figure.layout.xaxis.rangeslider, range: whole } },
  };
  const config = { responsive: true, scrollZoom: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"] };
  const byLane = figure.lanes.map((_, lane) => figure.regions.filter((region) => region.lane === lane));

  // Elapsed time as h:mm:ss.
  const clock = (ms) => {
    const s = Math.floor(ms / 1000);
    const two = (n) => String(n).padStart(2, "0");
    return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  };

  const bar = (text, title, left, width, top, colour) => {
    const made = document.createElement("div");
    made.textContent = text;
    made.title = title;
    made.className = text ? "named" : "";
    made.style.cssText = `left:${left}px;width:${width}px;top:${top}px;background:${colour}`;
    return made;
  };

  // Bars that share a pixel are drawn once: a bar without room for its name shows it when it is pointed at.
  const drawLanes = () => {
    const axis = plot._fullLayout && plot._fullLayout.xaxis;
    if (!axis) return;
    lanes.style.left = `${axis._offset}px`;
    lanes.style.width = `${axis._length}px`;
    lanes.style.height = `${laneSpace}px`;
    lanes.style.display = box.checked ? "block" : "none";
    const range = axis.range.map((end) => axis.r2l(end) - figure.base);
    const scale = axis._length / (range[1] - range[0]);
    const made = [];
    byLane.forEach((regions, lane) => {
      let drawn = -1;
      for (const region of regions) {
        if (region.end < range[0] || region.start > range[1]) continue;
        const left = Math.max(0, (region.start - range[0]) * scale);
        const right = Math.min(axis._length, (region.end - range[0]) * scale);
        // Whatever lies below what was drawn already: two processes may hold a model each.
        if (right <= drawn) continue;
        const start = Math.max(left, drawn);
        const width = Math.max(2, right - start);
        const name = `${figure.lanes[lane]}: ${region.name}\n${clock(region.start)} – ${clock(region.end)}`;
        made.push(bar(width > 26 ? region.name : "", region.note ? `${name}\n${region.note}` : name, start, width,
          lane * figure.laneHeight, colours[lane % colours.length]));
        drawn = start + width;
      }
    });
    lanes.replaceChildren(...made);
  };

  const underWay = (time) => figure.lanes.map((what, lane) => {
    const names = new Set();
    for (const region of byLane[lane]) {
      if (region.start > time) break;
      if (time < region.end) names.add(region.name);
    }
    return names.size ? `${what}: ${[...names].join(", ")}` : "";
  }).filter(Boolean);

  Plotly.newPlot(plot, traces, layout, config).then(() => {
    plot.prepend(lanes);
    drawLanes();
    plot.on("plotly_afterplot", drawLanes);
    plot.on("plotly_relayouting", drawLanes);
    plot.on("plotly_unhover", () => lanes.classList.remove("under"));
    plot.on("plotly_hover", (event) => {
      // What is said of a moment may cover the lanes.
      lanes.classList.add("under");
      const time = plot._fullLayout.xaxis.r2l(event.points[0].x) - figure.base;
      const utc = new Date(figure.start + time).toISOString().slice(0, 19).replace("T", " ");
      here.textContent = [clock(time), `${utc} UTC`, ...underWay(time)].join(" · ");
    });
    box.addEventListener("change", () => {
      const which = traces.flatMap((trace, index) => (trace.meta === "regions" ? [index] : []));
      if (which.length) Plotly.restyle(plot, { visible: box.checked }, which);
      drawLanes();
    });
    window.addEventListener("resize", () => Plotly.relayout(plot, legends()));
    document.body.dataset.drawn = "yes";
  });
})();
