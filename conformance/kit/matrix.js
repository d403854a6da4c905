"use strict";
const { servers, rules, glyphs } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const panel = byId("panel");
const body = byId("panel-body");

/** An element with attributes and children; text is never taken for markup. */
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* ---------------------------------------------------------------------------------------------- the filter */

const rows = [...document.querySelectorAll("tr[data-rule]")];

function filter() {
  const wanted = document.querySelector("input[name=show]:checked").value;
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const verdicts = row.dataset.verdicts.split(" ");
    const fits = wanted === "all" || (wanted === "different" ? verdicts[0] !== "" : verdicts.includes(wanted));
    const rule = rules[row.dataset.rule];
    const text = `${row.dataset.rule} ${rule.level} ${rule.place} ${rule.says}`.toLowerCase();
    row.hidden = !(fits && words.every((word) => text.includes(word)));
    shown += !row.hidden;
  }
  for (const group of document.querySelectorAll("tbody")) group.hidden = !group.querySelector("tr[data-rule]:not([hidden])");
  byId("none").hidden = shown > 0 || rows.length === 0;
  byId("shown").textContent = shown < rows.length ? `${shown} of ${rows.length}` : "";
}

document.querySelector(".filter").addEventListener("input", filter);

/* ---------------------------------------------------------------------------------------------- the panel */

/** What a fragment names: `#server/rule`, `#server`, or `#/rule`. Null where there is no such thing. */
function named(fragment) {
  let parts;
  try {
    parts = fragment.replace(/^#/, "").split("/").map(decodeURIComponent);
  } catch {
    return null;
  }
  const [name, rule = ""] = parts;
  const server = servers.findIndex((one) => one.id === name);
  if (parts.length > 2 || (name !== "" && server < 0) || (rule !== "" && !Object.hasOwn(rules, rule))) return null;
  return name || rule ? { server, rule } : null;
}

function fragment({ server, rule }) {
  const name = server < 0 ? "" : encodeURIComponent(servers[server].id);
  return `#${name}${rule ? `/${encodeURIComponent(rule)}` : ""}`;
}

function open(what) {
  const { server, rule } = what;
  const about = rules[rule];
  const name = server < 0 ? "every server" : servers[server].name;
  byId("panel-eyebrow").textContent = rule ? [about.level, about.place].filter(Boolean).join(" · ") : "server";
  byId("panel-title").textContent = rule ? `${rule}, ${name}` : name;
  body.replaceChildren();
  if (rule) body.append(make("p", { class: "rule-says" }, about.says));
  else body.append(...facts(servers[server]));
  for (const one of server < 0 ? servers : [servers[server]]) {
    const found = one.found.filter((deviation) => !rule || deviation.concerns.includes(rule));
    if (server < 0 && found.length) body.append(make("h3", {}, one.name));
    body.append(...found.map((deviation) => told(deviation, rule)));
  }
  if (rule && !body.querySelector("article")) body.append(make("p", {}, "No deviation was found."));
  if (!panel.open) panel.showModal();
  draw();
  panel.scrollTop = 0;
  byId("panel-title").focus();
}

/** All about a server but its deviations. */
function facts(one) {
  const parts = [list("facts plain", one.facts)];
  if (one.unasked.length) parts.push(make("h3", {}, "What was not asked"), list("facts plain", one.unasked));
  return parts;
}

function list(kind, pairs) {
  const made = make("dl", { class: kind });
  for (const [name, value] of pairs) if (value) made.append(make("dt", {}, name), make("dd", {}, value));
  return made;
}

/** One deviation with all that was seen. `rule`: what the panel is about. */
function told(deviation, rule) {
  const { verdict, concerns } = deviation;
  const others = concerns.filter((other) => other !== rule).map((other) => `${other} ${rules[other].says}`);
  const badge = make("span", { class: `badge ${verdict}` }, make("span", { class: "glyph", "aria-hidden": "true" }, glyphs[verdict]), verdict);
  const copy = make("button", { type: "button", class: "copy" }, "Copy");
  const command = make("code", {}, deviation.repeat);
  copy.addEventListener("click", () => copied(command, copy));
  const article = make(
    "article", {}, badge,
    list("facts", [[rule ? "also" : "rule", others.join("\n")], ...deviation.facts]),
    make("div", { class: "repeat" }, command, copy),
  );
  const trace = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  trace.setAttribute("class", "trace");
  trace.lines = deviation.trace;
  if (deviation.trace.length) article.append(trace);
  if (deviation.cases.length) article.append(more("Other cases", make("ul", {}, ...deviation.cases.map((name) => make("li", {}, name)))));
  if (deviation.log) article.append(more("The server's log", make("pre", {}, deviation.log)));
  return article;
}

function more(name, content) {
  return make("details", { class: "more" }, make("summary", {}, name), content);
}

async function copied(from, button) {
  try {
    await navigator.clipboard.writeText(from.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(from);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/* ---------------------------------------------------------------------------------------------- the diagram */

const PARTING = "✕ the paths part here";
const pen = document.createElement("canvas").getContext("2d");

/** Text cut into lines of so many pixels: between words, or within one that is longer. */
function wrapped(text, width, font) {
  pen.font = font;
  const fits = (part) => pen.measureText(part).width <= width;
  const lines = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (let word of paragraph.split(/(?<= )/)) {
      if (line && !fits((line + word).trimEnd())) {
        lines.push(line.trimEnd());
        line = "";
      }
      while (!fits(word.trimEnd())) {
        const letters = [...word];
        let most = 1;
        while (fits(letters.slice(0, most + 1).join(""))) most += 1;
        lines.push(letters.slice(0, most).join(""));
        word = letters.slice(most).join("");
      }
      line += word;
    }
    lines.push(line);
  }
  return lines;
}

function part(parent, name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

/** A trace as a sequence diagram: the app on the left, the peer on the right, the server between them. */
function sequence(svg) {
  const width = svg.parentNode.clientWidth;
  const style = getComputedStyle(svg);
  const size = parseFloat(style.fontSize);
  const step = Math.round(size * 1.35);
  const edge = 26;
  const life = { app: edge, server: width / 2, peer: width - edge };
  svg.replaceChildren();
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", "The trace, as a sequence of what app, server and peer did");
  const lives = Object.values(life).map((x) => part(svg, "line", { class: "life", x1: x, x2: x, y1: 24 }));
  for (const [name, x] of Object.entries(life)) {
    part(svg, "rect", { class: "who", x: x - edge + 1, y: 1, width: 2 * edge - 2, height: 23, rx: 5 });
    part(svg, "text", { class: "who-name", x, y: 17 }, name);
  }
  let y = 34;
  for (const { side, way, text, wrong } of svg.lines) {
    const group = part(svg, "g", { class: wrong ? "line wrong" : "line" });
    const band = part(group, "rect", { class: side === "server" ? "band note" : "band", x: 0, y, width, fill: "none", rx: 4 });
    const left = side === "peer" ? life.server : side === "app" ? life.app : 0;
    const room = (side === "server" ? width : width / 2 - edge) - 15;
    const said = side === "server" ? `${wrong ? `${PARTING}; ` : ""}server: ${text}` : text;
    const lines = wrapped(said, room, `${size}px ${style.fontFamily}`);
    lines.forEach((line, place) => part(group, "text", { x: left + 10, y: y + step * (place + 1) }, line));
    if (wrong && side !== "server") {
      part(group, "text", { class: "parting", x: side === "app" ? life.server + 10 : life.app + 10, y: y + step }, PARTING);
    }
    y += step * lines.length + 4;
    if (side !== "server") {
      y += 6;
      arrow(group, life[side], life.server, way, y);
      y += 4;
    }
    y += 4;
    band.setAttribute("height", y - 1 - Number(band.getAttribute("y")));
    y += 2;
  }
  lives.forEach((line) => line.setAttribute("y2", y));
  svg.setAttribute("viewBox", `0 0 ${width} ${y}`);
  svg.setAttribute("height", y);
}

/** From the side into the server, out of it, or a dot where the side does something on its own. */
function arrow(group, side, server, way, y) {
  if (way === "") {
    part(group, "circle", { class: "head-of", cx: side, cy: y, r: 3.5 });
    return;
  }
  const [from, to] = way === "in" ? [side, server] : [server, side];
  const back = to > from ? -7 : 7;
  part(group, "path", { class: "arrow", d: `M${from} ${y}H${to + back / 2}` });
  part(group, "path", { class: "head-of", d: `M${to} ${y}l${back} -4v8z` });
}

let drawn = 0;
function draw() {
  drawn = body.clientWidth;
  body.querySelectorAll("svg.trace").forEach(sequence);
}

new ResizeObserver(() => {
  if (panel.open && body.clientWidth !== drawn) draw();
}).observe(body);

/* ---------------------------------------------------------------------------------------------- ways in and out */

let opener = null;

document.querySelector("table")?.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  opener = button;
  const what = { server: Number(button.dataset.server ?? -1), rule: button.dataset.rule ?? "" };
  history.replaceState(null, "", fragment(what));
  open(what);
});

function follow() {
  const what = named(location.hash);
  if (!what) {
    panel.close();
    return;
  }
  const where = (what.rule ? `[data-rule="${CSS.escape(what.rule)}"]` : ":not([data-rule])") + (what.server < 0 ? ":not([data-server])" : `[data-server="${what.server}"]`);
  opener = document.querySelector(`table button${where}`);
  opener?.scrollIntoView({ block: "center", inline: "center" });
  open(what);
}

panel.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  opener?.focus();
});
panel.addEventListener("click", (event) => {
  if (event.target === panel && event.clientX < panel.getBoundingClientRect().left) panel.close();
});
byId("close").addEventListener("click", () => panel.close());
addEventListener("hashchange", follow);
filter();
if (location.hash) follow();
