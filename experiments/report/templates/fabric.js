// The fabric at work: two runs of one scene on the same clock. Each picture depends on the time alone.
"use strict";
(() => {
  const { scenes, node_colours } = JSON.parse(document.getElementById("data").textContent);
  const player = document.getElementById("player");
  if (!player) return;
  const find = (selector) => player.querySelector(selector);
  const [slider, clock, play, speed] = ["#time", "#clock", "#play", "#speed"].map(find);
  const [width, height, left, right, top, bottom] = [500, 352, 70, 8, 22, 20];
  const ramp = [[0, [219, 225, 231]], [0.2, [253, 212, 158]], [0.5, [252, 141, 89]], [0.78, [196, 50, 10]], [1, [95, 15, 15]]];
  const less_motion = matchMedia("(prefers-reduced-motion: reduce)");
  let scene, sides, ticking = null;

  find("#scene")?.addEventListener("change", (event) => open(scenes[event.target.value]));
  for (const choice of player.querySelectorAll(".choice")) {
    choice.addEventListener("change", () => { choose(choice.dataset.side, scene.runs[choice.value]); show(); });
  }
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => (ticking ? stop() : start()));
  find("#moves").addEventListener("toggle", (event) => { if (event.target.open) list(); });
  open(scenes[0]);

  function open(next) {
    stop();
    scene = next;
    sides = [];
    slider.max = scene.end_s;
    slider.value = first_peak(scene.runs);
    find("#cut").hidden = !scene.cut;
    const pair = opening_pair(scene.runs);
    for (const choice of player.querySelectorAll(".choice")) {
      choice.replaceChildren(...scene.runs.map((run, at) => new Option(run.label, at)));
      choice.value = pair[choice.dataset.side];
      choose(choice.dataset.side, scene.runs[choice.value]);
    }
    show();
  }

  // Round-robin (or the first run) on the left, NetKV-Full (or the last) of the same world on the right.
  function opening_pair(runs) {
    const one = Math.max(runs.findIndex((run) => run.policy === "round_robin"), 0);
    const others = runs.map((run, at) => at).filter((at) => at !== one && runs[at].world === runs[one].world);
    return [one, others.find((at) => runs[at].policy === "netkv_full") ?? others.at(-1) ?? runs.length - 1];
  }

  function first_peak(runs) {
    const starts = runs.flatMap((run) => run.transfers.map((transfer) => (transfer.start + transfer.end) / 2)).sort((a, b) => a - b);
    return starts.length ? starts[Math.floor(starts.length / 3)] : 0;
  }

  function choose(side, run) {
    const panel = player.querySelector(`.side[data-side="${side}"]`);
    panel.querySelector(".about").textContent = run.about;
    panel.querySelector(".tree").setAttribute("aria-label", `Fabric under ${run.label}; the text below it describes it`);
    sides[side] = { run, panel, ...draw_tree(panel.querySelector(".tree")) };
    draw_activity();
    if (find("#moves").open) list();
  }

  function element(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function place(node) {
    const rows = scene.levels.length - 1;
    return [left + node.x * (width - left - right), height - bottom - (node.y / rows) * (height - top - bottom)];
  }

  function draw_tree(svg) {
    const at = Object.fromEntries(scene.nodes.map((node) => [node.name, place(node)]));
    const steps = scene.levels.map(({ y }) => (width - left - right) / scene.nodes.filter((node) => node.y === y).length);
    const shift = Math.min(2.2, steps[0] / 5);
    const ends = scene.links.map(([source, target]) => {
      const [[x0, y0], [x1, y1]] = [at[source], at[target]];
      const long = Math.hypot(x1 - x0, y1 - y0) || 1;
      const [dx, dy] = [(-(y1 - y0) / long) * shift, ((x1 - x0) / long) * shift];
      return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
    });
    const links = ends.map(([x1, y1, x2, y2], index) => {
      const line = element("line", { x1, y1, x2, y2, class: "link", "stroke-linecap": "round", "data-link": index });
      line.append(element("title", {}, scene.links[index].slice(0, 2).join(" → ")));
      return line;
    });
    const labels = scene.levels.map(({ name, y }) => {
      const [, ly] = place({ x: 0, y });
      return element("text", { x: 5, y: ly + 3.5, "font-size": 9.6, fill: "#4d5b68" }, name);
    });
    const [trails, moving] = ["trails", "moving"].map((name) => element("g", { class: name }));
    svg.replaceChildren(...links, trails, ...scene.nodes.map((node) => draw_node(node, steps[node.y])), ...labels, moving);
    return { links, ends, trails, moving };
  }

  function draw_node(node, step) {
    const [x, y] = place(node);
    const leaf = node.y === 0;
    const half = Math.min(leaf ? 11 : 15, step * 0.42);
    const made = element("g", { class: `node ${node.kind}` });
    made.append(element("title", {}, `${node.name} (${node.kind})`),
      element("rect", { x: x - half, y: y - 8, width: 2 * half, height: 16, rx: 4, fill: node_colours[node.kind], stroke: "#fff" }));
    if (2 * half > 4.7 * node.name.length) {
      const ink = node.kind === "prefill" ? "#1b2733" : "#fff";
      made.append(element("text", { x, y: y + 3, "font-size": 8.4, "text-anchor": "middle", fill: ink }, node.name));
    }
    return made;
  }

  // Transfers in progress over the run, one curve per side, on the scale of the slider.
  function draw_activity() {
    const svg = find("#activity");
    const bins = 150;
    const curves = sides.filter(Boolean).map(({ run }) => Array.from({ length: bins + 1 }, (_, bin) => in_progress(run, (bin / bins) * scene.end_s).length));
    const most = Math.max(1, ...curves.flat());
    const points = (curve) => curve.map((count, bin) => `${(bin / bins) * 600},${39 - (count / most) * 36}`).join(" ");
    svg.replaceChildren(
      ...curves.map((curve, side) => element("polyline", { points: points(curve), fill: "none", stroke: ["#6b7885", "#d55e00"][side],
        "stroke-width": 2, "vector-effect": "non-scaling-stroke", ...(side ? {} : { "stroke-dasharray": "5 3" }) })),
      element("line", { y1: 0, y2: 40, stroke: "#0b5a8f", "stroke-width": 2, "vector-effect": "non-scaling-stroke", id: "now" }));
  }

  function in_progress(run, now) {
    return run.transfers.filter((transfer) => transfer.start <= now && now < transfer.end);
  }

  function show() {
    const now = Number(slider.value);
    clock.textContent = `${now.toFixed(2)} s`;
    slider.setAttribute("aria-valuetext", `${now.toFixed(2)} seconds`);
    for (const [side, { run }] of sides.entries()) show_side(sides[side], sides[1 - side].run, run, now);
    const x = scene.end_s ? (now / scene.end_s) * 600 : 0;
    for (const end of ["x1", "x2"]) document.getElementById("now").setAttribute(end, x);
  }

  function show_side({ panel, links, ends, trails, moving }, other, run, now) {
    const used = utilisation(run, now);
    let busiest = 0;
    links.forEach((line, index) => {
      const share = used(index);
      if (share > used(busiest)) busiest = index;
      line.setAttribute("stroke", colour_of(share));
      line.setAttribute("stroke-width", (1.1 + 2.6 * share).toFixed(2));
      line.dataset.use = Math.round(100 * share);
    });
    const going = in_progress(run, now);
    trails.replaceChildren(...going.flatMap(({ ways }) => ways.flatMap((way) => draw_trail(way, ends, now))));
    moving.replaceChildren(...going.flatMap((transfer) => transfer.ways.map((way) => draw_way(transfer, way, ends, now, elsewhere(transfer, other)))));
    panel.querySelector(".readout").replaceChildren(...words(run, going, used(busiest), scene.links[busiest], now));
  }

  function elsewhere(transfer, other) {
    const twin = other.transfers.find(({ id }) => id === transfer.id);
    return twin !== undefined && twin.to !== transfer.to;
  }

  // The sample nearest in time; nothing is interpolated.
  function utilisation(run, now) {
    if (!run.times.length) return () => 0;
    let near = 0;
    run.times.forEach((at, index) => { if (Math.abs(at - now) < Math.abs(run.times[near] - now)) near = index; });
    const row = run.levels[near];
    return (index) => parseInt(row.slice(2 * index, 2 * index + 2), 16) / 100;
  }

  function colour_of(share) {
    const upper = Math.max(ramp.findIndex(([stop]) => stop >= share), 1);
    const [[from, one], [to, other]] = [ramp[upper - 1], ramp[upper]];
    const part = (share - from) / (to - from);
    return `rgb(${one.map((value, channel) => Math.round(value + part * (other[channel] - value))).join(" ")})`;
  }

  // Dots along a path that move in the direction of the bytes.
  function draw_trail(way, ends, now) {
    const d = way.links.map((index) => ends[index]).map(([a, b, c, e]) => `M${a} ${b}L${c} ${e}`).join("");
    return [["#fff", 4], ["#00694c", 2.6]].map(([stroke, wide]) => element("path", { d, fill: "none", stroke, "stroke-width": wide,
      "stroke-linecap": "round", "stroke-dasharray": "0.01 7", "stroke-dashoffset": (-40 * now).toFixed(1) }));
  }

  function draw_way(transfer, way, ends, now, ringed) {
    const path = way.links.map((index) => ends[index]);
    const share = Math.min(Math.max((now - way.start) / (way.end - way.start || 1), 0), 1);
    const along = Math.min(share * path.length, path.length - 1e-6);
    const [x1, y1, x2, y2] = path[Math.floor(along)];
    const [x, y] = [x1 + (along % 1) * (x2 - x1), y1 + (along % 1) * (y2 - y1)];
    const made = element("g", { class: "transfer", "data-request": transfer.id });
    const radius = Math.min(2.5 + 1.6 * Math.sqrt((transfer.gb * way.stripes) / transfer.ways.reduce((sum, { stripes }) => sum + stripes, 0)), 8);
    if (ringed) made.append(element("circle", { cx: x, cy: y, r: radius + 2.4, fill: "none", stroke: "#9c2f7a", "stroke-width": 1.8 }));
    made.append(element("circle", { cx: x, cy: y, r: radius, fill: "#009e73", stroke: "#fff", "stroke-width": 1.2 }),
      element("title", {}, `request ${transfer.id}: ${transfer.from} → ${transfer.to}, ${transfer.gb} GB, ${way.stripes} stripes here`));
    return made;
  }

  function words(run, going, most, [source, target], now) {
    const done = run.transfers.filter((transfer) => transfer.end <= now).length;
    const lines = [
      `${going.length} transfer${going.length === 1 ? "" : "s"} in progress, ${done} of ${run.transfers.length} done. Busiest link: ${source} → ${target}, ${Math.round(100 * most)}\u00a0%.`,
      going.slice(0, 4).map(({ id, from, to, gb }) => `request ${id}: ${from} → ${to}, ${gb.toFixed(1)} GB`).join("; ") + (going.length > 4 ? "; …" : ""),
      `Whole run: mean TTFT ${run.ttft_ms?.toFixed(0) ?? "–"} ms, mean KV transfer ${run.kv_ms?.toFixed(0) ?? "–"} ms.`,
    ];
    return lines.filter(Boolean).flatMap((text, at) => (at ? [document.createElement("br"), text] : [text]));
  }

  function start() {
    if (Number(slider.value) >= Number(slider.max)) slider.value = 0;
    show_playing(true);
    let before = performance.now(), exact = Number(slider.value), shown = before;
    const tick = (at) => {
      exact += ((at - before) / 1000) * Number(speed.value);
      before = at;
      if (!less_motion.matches || at - shown > 1000) { // with reduced motion, one still picture a second
        shown = at;
        slider.value = exact;
        show();
      }
      if (exact >= Number(slider.max)) stop();
      else ticking = requestAnimationFrame(tick);
    };
    ticking = requestAnimationFrame(tick);
  }

  function stop() {
    if (ticking) cancelAnimationFrame(ticking);
    ticking = null;
    show_playing(false);
  }

  function show_playing(playing) {
    play.setAttribute("aria-pressed", playing);
    play.firstElementChild.textContent = playing ? "❚❚" : "▶";
    play.querySelector(".word").textContent = playing ? "Pause" : "Play";
  }

  function list() {
    const heads = ["run", "request", "from", "to", "tier", "GB", "start s", "end s", "links, by stripes"];
    const rows = sides.flatMap(({ run }) => run.transfers.map((transfer) => [run.label, transfer.id, transfer.from, transfer.to, transfer.tier, transfer.gb,
      transfer.start.toFixed(2), transfer.end.toFixed(2), transfer.ways.map((way) => `${way.stripes} × ${way.links.map((link) => scene.links[link][0]).join(" ")} ${transfer.to}`).join("; ")]));
    const table = find("#moves table");
    table.replaceChildren(...[heads, ...rows].map((cells, row) => {
      const made = document.createElement("tr");
      made.append(...cells.map((text) => {
        const cell = document.createElement(row ? "td" : "th");
        cell.textContent = text;
        return cell;
      }));
      return made;
    }));
  }
})();
