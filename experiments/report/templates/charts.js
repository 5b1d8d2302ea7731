// The plots: draws every figure with Plotly, and handles its legend and its downloads.
"use strict";
(() => {
  const { figures } = JSON.parse(document.getElementById("data").textContent);
  const config = { displayModeBar: false, responsive: true, displaylogo: false, scrollZoom: false, doubleClick: false };
  const dashes = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" };

  for (const card of document.querySelectorAll("[data-figure]")) {
    const figure = figures[card.dataset.figure];
    const plots = [...card.querySelectorAll(".plot")];
    draw_when_near(plots, figure);
    for (const chip of card.querySelectorAll(".chip")) {
      chip.prepend(swatch(chip.dataset));
      chip.addEventListener("click", () => toggle(chip, plots));
    }
    card.querySelector("[data-download=csv]").addEventListener("click", () =>
      save(new Blob([figure.csv], { type: "text/csv" }), `${card.dataset.figure}.csv`));
    card.querySelector("[data-download=svg]").addEventListener("click", async () =>
      save(new Blob([await picture(card, plots, figure)], { type: "image/svg+xml" }), `${card.dataset.figure}.svg`));
  }

  // A plot is drawn when it comes near the window, so that the first screen does not wait for the last figure.
  function draw_when_near(plots, figure) {
    const watcher = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        draw(target, figure.panels[target.dataset.panel]);
      }
    }, { rootMargin: "600px" });
    for (const plot of plots) {
      plot.style.height = `${figure.panels[plot.dataset.panel].layout.height}px`;
      watcher.observe(plot);
    }
  }

  function draw(plot, panel) {
    const hidden = new Set([...plot.closest("[data-figure]").querySelectorAll(".chip[aria-pressed=false]")]
      .map((chip) => chip.dataset.policy));
    const data = panel.data.map((trace) => ({ ...trace, visible: !hidden.has(trace.meta) }));
    return Plotly.newPlot(plot, data, { ...panel.layout }, config);
  }

  function toggle(chip, plots) {
    const shown = chip.getAttribute("aria-pressed") !== "true";
    chip.setAttribute("aria-pressed", shown);
    for (const plot of plots) {
      const mine = (plot.data ?? []).flatMap((trace, at) => (trace.meta === chip.dataset.policy ? [at] : []));
      if (mine.length) Plotly.restyle(plot, { visible: shown }, mine);
    }
  }

  function swatch({ colour, dash }) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    for (const [name, value] of Object.entries({ width: 26, height: 10, "aria-hidden": "true" })) svg.setAttribute(name, value);
    const stroke = document.createElementNS(space, "line");
    const attributes = { x1: 1, x2: 25, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dashes[dash] ?? dash.replaceAll("px", "") };
    for (const [name, value] of Object.entries(attributes)) stroke.setAttribute(name, value);
    svg.append(stroke);
    return svg;
  }

  // All panels of a figure side by side, each with its title and its legend (paper has no row of buttons).
  async function picture(card, plots, figure) {
    const [width, space] = [460, "http://www.w3.org/2000/svg"];
    const sheet = document.createElementNS(space, "svg");
    const parser = new DOMParser();
    let height = 0;
    for (const [place, plot] of plots.entries()) {
      const panel = figure.panels[place];
      if (!plot.data) await draw(plot, panel);
      const layout = { ...panel.layout, showlegend: true, legend: { orientation: "h", y: -0.3, x: 0 },
        paper_bgcolor: "#ffffff", margin: { ...panel.layout.margin, t: 40 },
        title: { text: panel.title, font: { size: 14 }, x: 0.02, y: 0.98 } };
      const size = { width, height: panel.layout.height + 90 };
      height = Math.max(height, size.height);
      const url = await Plotly.toImage({ data: plot.data, layout: { ...layout, ...size } }, { format: "svg", ...size });
      const drawn = parser.parseFromString(decodeURIComponent(url.slice(url.indexOf(",") + 1)), "image/svg+xml").documentElement;
      drawn.setAttribute("x", place * width);
      sheet.append(document.importNode(drawn, true));
    }
    const whole = { width: width * plots.length, height, viewBox: `0 0 ${width * plots.length} ${height}` };
    for (const [name, value] of Object.entries(whole)) sheet.setAttribute(name, value);
    return new XMLSerializer().serializeToString(sheet);
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
})();
