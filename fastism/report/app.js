// What the page does: the chosen region, target and stretch, and every way to change them.

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const state = { one: sequences[0], target: facts.opened, rule: facts.rule, palette: facts.palette, scale: "region", view: { lo: 0, hi: facts.positions }, at: null, row: -1, rows: [] };
const SMALLEST = Math.min(8, facts.positions);
const metric = facts.attributes.metric && facts.attributes.metric !== "subtract" ? `difference (${facts.attributes.metric})` : "difference";
const targetName = (n) => (facts.nameless ? "" : facts.targets[n]);
const direction = (value) => (!facts.signed || !value ? "" : value > 0 ? "up" : "down"); // the colour of a number
let map = null, boxes = null;

// ---- what is drawn

function coloursOf(theme) { return { ...facts.palettes[state.palette], ...theme.letters[state.palette] }; }

function limitsOf(heights, delta) {
  const { one, target, rule, scale, view } = state, factor = factorOf(rule);
  if (scale === "all") {
    return { low: Math.min(...sequences.map((s) => s.low[target])) * factor, high: Math.max(...sequences.map((s) => s.high[target])) * factor,
      reach: Math.max(...sequences.map((s) => s.reach[target])) };
  }
  if (scale === "region") return { low: one.low[target] * factor, high: one.high[target] * factor, reach: one.reach[target] };
  const from = Math.floor(view.lo), to = Math.ceil(view.hi), size = alphabet.length;
  const limits = { low: 0, high: 0, reach: 0 };
  for (let i = from; i < to; i++) { limits.low = Math.min(limits.low, heights[i]); limits.high = Math.max(limits.high, heights[i]); }
  for (let n = from * size; n < to * size; n++) if (Number.isFinite(delta[n])) limits.reach = Math.max(limits.reach, Math.abs(delta[n]));
  return limits;
}

function mapFor(theme) {
  const { one, target, rule } = state;
  const delta = differencesOf(one, target), heights = heightsOf(one, target, rule);
  const place = one.region ? `${one.region[0]} (bp${one.minus ? ", minus strand" : ""})` : "position (bp)";
  return { letters: one.letters, delta, heights, alphabet, rule, metric, place, signed: facts.signed, limits: limitsOf(heights, delta), colours: coloursOf(theme), coordinate: (i) => coordinateOf(one, i) };
}

function ready(canvas) { // a surface of the canvas's size on the page, at the screen's resolution
  const width = canvas.clientWidth, height = canvas.clientHeight, dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
  const context = canvas.getContext("2d");
  context.setTransform(dense, 0, 0, dense, 0, 0);
  return [new CanvasSurface(context), width, height];
}

function draw() {
  const theme = dark.matches ? THEMES.dark : THEMES.light;
  map = mapFor(theme);
  const [surface, width, height] = ready($("figure"));
  const [strip, wide, tall] = ready($("overview"));
  const box = layout(width, height, alphabet.length);
  boxes = { figure: box, overview: { left: box.left, right: box.right, width: wide, height: tall } };
  drawFigure(surface, box, map, state.view, theme);
  drawOverview(strip, boxes.overview, map, state.view, theme);
  const { lo, hi } = state.view, from = Math.floor(lo), to = Math.ceil(hi), ends = [pointAt(state.one, from), pointAt(state.one, to - 1)];
  $("figure").dataset.lo = lo; $("figure").dataset.hi = hi;
  const second = ends[1].split(":").pop();
  $("range").textContent = `${ends[0]} to ${second} · ${whole(to - from)} of ${whole(facts.positions)} bp`;
  $("figure").setAttribute("aria-label", `Logo above heatmap of ${[state.one.title, targetName(state.target) && `target ${targetName(state.target)}`, `${ends[0]} to ${second}`].filter(Boolean).join(", ")}`);
  $("in").disabled = hi - lo <= SMALLEST; $("out").disabled = $("whole").disabled = hi - lo >= facts.positions;
  placeCursor();
}

let waiting = 0;
function redraw() { if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); }); }

// ---- the stretch that is shown

function show(lo, hi) {
  const width = Math.max(SMALLEST, Math.min(facts.positions, hi - lo)), middle = (lo + hi) / 2;
  const first = Math.max(0, Math.min(facts.positions - width, middle - width / 2));
  state.view = { lo: first, hi: first + width };
  redraw();
}

function zoom(factor, around = (state.view.lo + state.view.hi) / 2) {
  const { lo, hi } = state.view, width = Math.max(SMALLEST, Math.min(facts.positions, (hi - lo) * factor));
  const first = around - ((around - lo) / (hi - lo)) * width;
  show(first, first + width);
}

const pan = (share) => { const { lo, hi } = state.view; show(lo + share * (hi - lo), hi + share * (hi - lo)); };
const showWhole = () => show(0, facts.positions);

function showStrongest() {
  const heights = heightsOf(state.one, state.target, state.rule), at = strongest(heights, 0, heights.length);
  const wide = Math.min(facts.positions, Math.max(40, Math.floor(($("figure").clientWidth - 146) / 11)));
  show(at - Math.floor(wide / 2), at - Math.floor(wide / 2) + wide);
}

// ---- reading one position

function read(i, row = -1) {
  state.at = i === null ? null : Math.max(0, Math.min(facts.positions - 1, i));
  state.row = row;
  placeCursor();
}

function placeCursor() {
  const { at, view, row } = state, box = boxes && boxes.figure;
  const outside = at === null || !box || at + 0.5 < view.lo || at + 0.5 > view.hi;
  $("cursor").hidden = $("tip").hidden = outside;
  if (outside) return;
  const x = xOf(box, view, at), w = xOf(box, view, at + 1) - x;
  Object.assign($("cursor").style, { left: `${x}px`, width: `${Math.max(w, 1.5)}px`, top: `${box.logoTop - 6}px`, height: `${box.heatBottom - box.logoTop + 6}px` });
  fillTip(at, row);
  const tip = $("tip"), gap = 14, beside = x + w + gap + tip.offsetWidth < box.width ? x + w + gap : x - gap - tip.offsetWidth;
  Object.assign(tip.style, { left: `${Math.max(0, beside)}px`, top: `${row < 0 ? box.logoTop : Math.max(0, box.heatTop - tip.offsetHeight * 0.6)}px` });
}

function fillTip(i, row) {
  const { one } = state, from = one.letters[i], size = alphabet.length;
  const variants = [...alphabet].some((to) => variantOf(one, i, to));
  const rows = [...alphabet].map((to, k) => {
    const letter = element("span", { class: "letter" }, to), value = map.delta[i * size + k];
    letter.style.color = map.colours[to] || "inherit";
    const cell = to === from ? element("td", { class: "number" }, "reference") : element("td", { class: `number ${direction(value)}` }, signed(value));
    const line = element("tr", { "data-letter": to, class: k === row ? "on" : "" }, element("td", {}, letter), cell);
    if (variants) line.append(element("td", {}, to === from ? "" : variantOf(one, i, to)));
    return line;
  });
  const head = ["to", "difference", ...(variants ? ["as VCF"] : [])].map((words) => element("th", { scope: "col", class: words === "difference" ? "number" : "" }, words));
  const at = element("p", { class: "at" }, `${pointAt(one, i)} · ${from}`);
  const offset = element("p", {}, `offset ${whole(facts.start + i)} · both 0-based`);
  const value = element("p", {}, `importance ${number(map.heights[i])} (${state.rule})`);
  $("tip").replaceChildren(at, one.region ? offset : "", element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)), value);
  Object.assign($("tip").dataset, { position: i, reference: from, importance: map.heights[i] });
}

function say(words) { $("live").textContent = words; }

function readAloud() {
  const { at, one } = state, size = alphabet.length;
  const parts = [...alphabet].map((to, k) => (to === one.letters[at] ? "" : `${to} ${number(map.delta[at * size + k], 3)}`)).filter(Boolean);
  say(`${pointAt(one, at)}, ${one.letters[at]}, importance ${number(map.heights[at], 3)}; ${parts.join(", ")}`);
}

function step(by) {
  const middle = Math.floor((state.view.lo + state.view.hi) / 2);
  read(state.at === null ? middle : state.at + by);
  const { lo, hi } = state.view;
  if (state.at < lo) show(state.at, state.at + hi - lo);
  else if (state.at + 1 > hi) show(state.at + 1 - hi + lo, state.at + 1);
  readAloud();
}

// ---- regions

function choose(one, keepView = false) {
  state.one = one;
  read(null);
  for (const entry of $("list").querySelectorAll('[aria-selected="true"]')) entry.setAttribute("aria-selected", "false");
  const entry = $(`entry-${one.index}`);
  if (entry) { entry.setAttribute("aria-selected", "true"); entry.scrollIntoView({ block: "nearest" }); $("list").setAttribute("aria-activedescendant", entry.id); }
  else $("list").removeAttribute("aria-activedescendant");
  $("name").textContent = $("name").title = one.title;
  const n = state.rows.indexOf(one);
  $("place").textContent = [one.name && one.place, `${whole(facts.length)} bp`, n >= 0 && `${whole(n + 1)} of ${whole(state.rows.length)}`].filter(Boolean).join(" · ");
  $("previous").disabled = n <= 0; $("next").disabled = n === state.rows.length - 1;
  if (!keepView) showStrongest();
  refresh();
  say(`${one.title}, ${one.place}`);
  try { history.replaceState(null, "", `#${one.row}`); } catch { /* some browsers keep the address of a local file */ }
}

function move(by) {
  const n = state.rows.indexOf(state.one), next = state.rows[n < 0 ? 0 : Math.max(0, Math.min(state.rows.length - 1, n + by))];
  if (next && next !== state.one) choose(next);
}

function list() {
  state.rows = found($("search").value, $("sort").value, state.target);
  fillList($("list"), state.rows, state.target, state.rule);
  $("count").textContent = state.rows.length === sequences.length ? `${whole(sequences.length)} regions` : `${whole(state.rows.length)} of ${whole(sequences.length)}`;
}

function refresh() { fillTop(); fillDetails(); redraw(); }

function fillTop() {
  const { one, target } = state, delta = differencesOf(one, target), size = alphabet.length, best = [];
  for (let i = 0; i < one.letters.length; i++) for (let k = 0; k < size; k++) {
    const value = delta[i * size + k], large = Math.abs(value);
    if (alphabet[k] === one.letters[i] || !large || (best.length === 10 && large <= best[9][0])) continue;
    best.splice(best.findLastIndex(([other]) => other >= large) + 1, 0, [large, value, i, k]);
    best.length = Math.min(best.length, 10);
  }
  $("top").tBodies[0].replaceChildren(...best.map(([, value, i, k]) => {
    const go = element("button", { type: "button", "data-position": i, "data-letter": k }, pointAt(one, i));
    return element("tr", {}, element("td", {}, go), element("td", {}, `${one.letters[i]} → ${alphabet[k]}`), element("td", { class: "optional" }, variantOf(one, i, alphabet[k])),
      element("td", { class: `number ${direction(value)}` }, signed(value)));
  }));
  $("vcf-heading").textContent = one.region ? "Variant, 1-based as in VCF" : "";
}

function pairs(target, entries) {
  target.replaceChildren(...entries.filter(Boolean).flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]));
}

function fillDetails() {
  const { one, target, rule } = state, factor = factorOf(rule), none = [...one.letters].filter((c) => c === "N").length;
  pairs($("details"), [
    targetName(target) ? ["Target", targetName(target)] : null,
    ["Value of the sequence as it is", number(one.reference[target])],
    [facts.signed ? "Most needed letter" : "Most important letter", number(one.high[target] * factor)],
    facts.signed ? ["Most harmful letter", number(one.low[target] * factor)] : null,
    ["Largest difference", number(one.reach[target])],
    ["Mutated positions", `${whole(facts.start)} to ${whole(facts.start + facts.positions)}`],
    none ? ["Without a letter (N)", whole(none)] : null,
    ["Row in the result", whole(one.row)],
  ]);
}

// ---- saving

function nameOf(ending) {
  const { lo, hi } = state.view;
  const words = [state.one.title, facts.targets.length > 1 ? facts.targets[state.target] : "", `${facts.start + Math.floor(lo)}-${facts.start + Math.ceil(hi)}`];
  return `${words.filter(Boolean).join("_").replace(/[^\w.+-]+/g, "_").slice(0, 120)}.${ending}`;
}

function save(blob, ending) {
  const link = element("a", { href: URL.createObjectURL(blob), download: nameOf(ending) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`Saved ${link.download}`);
}

function picture(surface, box) { // always light, with a heading: for a paper
  const heading = [state.one.title, state.one.name && state.one.place, targetName(state.target)].filter(Boolean).join(" · ");
  drawFigure(surface, box, mapFor(THEMES.light), state.view, THEMES.light);
  surface.text(box.left, 20, heading, { size: 14, fill: THEMES.light.ink, weight: "bold" });
}

function saveAs(ending) {
  const shown = boxes.figure, box = layout(shown.width, shown.height + 30, alphabet.length);
  box.logoTop += 30;
  if (ending === "svg") {
    const surface = new SvgSurface(box.width, box.height);
    picture(surface, box);
    return save(new Blob([surface.toString()], { type: "image/svg+xml" }), ending);
  }
  const canvas = element("canvas", { width: box.width * 3, height: box.height * 3 }), context = canvas.getContext("2d");
  context.scale(3, 3);
  picture(new CanvasSurface(context), box);
  canvas.toBlob((blob) => save(blob, ending), "image/png");
}

// ---- settings

function setTarget(target) { state.target = target; $("target").value = target; list(); choose(state.one, true); }
function setRule(rule) { state.rule = rule; for (const radio of document.getElementsByName("rule")) radio.checked = radio.value === rule; list(); choose(state.one, true); }
function setScale(scale) { state.scale = scale; $("scale").value = scale; redraw(); }
function setPalette(palette) { state.palette = palette; $("palette").setAttribute("aria-pressed", String(palette === "colourblind")); redraw(); }
const otherRule = () => setRule(state.rule === "mean4" ? "mean3" : "mean4");
const otherPalette = () => setPalette(state.palette === "default" ? "colourblind" : "default");
const following = (select) => select.options[(select.selectedIndex + 1) % select.options.length].value;

// ---- events

function listen() {
  $("target").addEventListener("change", (e) => setTarget(Number(e.target.value)));
  for (const radio of document.getElementsByName("rule")) radio.addEventListener("change", () => setRule(radio.value));
  $("scale").addEventListener("change", (e) => setScale(e.target.value));
  $("search").addEventListener("input", () => { list(); choose(state.rows.includes(state.one) ? state.one : state.rows[0] || state.one, state.rows.includes(state.one)); });
  $("sort").addEventListener("change", () => { list(); choose(state.one, true); });
  const clicks = { palette: otherPalette, png: () => saveAs("png"), svg: () => saveAs("svg"), "about-open": () => $("about").showModal(), "help-open": () => $("help").showModal(),
    in: () => zoom(0.6), out: () => zoom(1 / 0.6), whole: showWhole, strongest: showStrongest, previous: () => move(-1), next: () => move(1) };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  for (const dialog of [$("about"), $("help")]) dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
  $("list").addEventListener("click", (e) => { const entry = e.target.closest(".entry"); if (entry) choose(sequences[entry.dataset.index]); });
  $("top").addEventListener("click", (e) => {
    const go = e.target.closest("tr")?.querySelector("button");
    if (!go) return;
    const i = Number(go.dataset.position), wide = Math.min(state.view.hi - state.view.lo, 80);
    show(i + 0.5 - wide / 2, i + 0.5 + wide / 2);
    read(i, Number(go.dataset.letter));
  });
  dark.addEventListener("change", redraw);
  addEventListener("keydown", onKey);
  new ResizeObserver(redraw).observe($("stage"));
  onFigure($("figure"));
  onOverview($("overview"));
}

function onFigure(canvas) {
  let held = null, moved = false;
  const place = (e) => positionAt(boxes.figure, state.view, e.clientX - canvas.getBoundingClientRect().left);
  canvas.addEventListener("wheel", (e) => {
    e.preventDefault();
    const amount = (e.deltaMode === 1 ? 16 : 1) * (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey ? e.deltaX || e.deltaY : e.deltaY);
    if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) pan(amount / 900);
    else zoom(Math.exp(Math.max(-60, Math.min(60, amount)) / 260), place(e));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (e) => { if (e.button === 0) { held = place(e); moved = false; canvas.setPointerCapture(e.pointerId); canvas.classList.add("held"); } });
  canvas.addEventListener("pointermove", (e) => {
    const box = boxes.figure, { left, top } = canvas.getBoundingClientRect(), x = e.clientX - left, y = e.clientY - top;
    if (held !== null) {
      const { lo, hi } = state.view, by = held - place(e);
      if (!moved && Math.abs(by) * (box.right - box.left) < 3 * (hi - lo)) return; // still a click or a tap
      moved = true;
      read(null);
      show(lo + by, hi + by);
      return;
    }
    const inside = x >= box.left && x < box.right && y >= box.logoTop - 8 && y < box.heatBottom + 14;
    const row = Math.floor((y - box.heatTop) / box.row);
    read(inside ? Math.floor(place(e)) : null, y >= box.heatTop && row < alphabet.length ? row : -1);
  });
  const release = (e) => {
    if (held !== null && !moved && e.type === "pointerup") read(Math.floor(held));
    held = null; canvas.classList.remove("held");
  };
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, release);
  canvas.addEventListener("pointerleave", () => { if (held === null) read(null); });
  canvas.addEventListener("dblclick", showWhole);
}

function onOverview(canvas) { // a drag within the frame moves it, elsewhere it draws a new one; a click centres
  let held = null;
  const place = (e) => Math.max(0, Math.min(facts.positions, positionAt(boxes.overview, { lo: 0, hi: facts.positions }, e.clientX - canvas.getBoundingClientRect().left)));
  canvas.addEventListener("pointerdown", (e) => {
    if (e.button !== 0) return;
    const at = place(e), { lo, hi } = state.view;
    held = { at, lo, hi, inside: at > lo && at < hi && hi - lo < facts.positions, moved: false };
    canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener("pointermove", (e) => {
    if (!held) return;
    const at = place(e);
    held.moved ||= Math.abs(at - held.at) > facts.positions / 300;
    if (!held.moved) return;
    if (held.inside) show(held.lo + at - held.at, held.hi + at - held.at);
    else show(Math.min(at, held.at), Math.max(at, held.at));
  });
  canvas.addEventListener("pointerup", () => {
    if (held && !held.moved) show(held.at - (held.hi - held.lo) / 2, held.at + (held.hi - held.lo) / 2);
    held = null;
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
}

const KEYS = {
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1), Home: () => move(-1e9), End: () => move(1e9),
  ArrowLeft: () => pan(-0.25), h: () => pan(-0.25), ArrowRight: () => pan(0.25), l: () => pan(0.25),
  "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), _: () => zoom(1 / 0.6), 0: showWhole, s: showStrongest,
  ",": () => step(-1), ".": () => step(1), "/": () => { $("search").focus(); $("search").select(); },
  t: () => setTarget((state.target + 1) % facts.targets.length), r: otherRule, y: () => setScale(following($("scale"))), c: otherPalette,
  p: () => saveAs("png"), v: () => saveAs("svg"), i: () => $("about").showModal(), "?": () => $("help").showModal(), Escape: () => read(null),
};

function onKey(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  const search = e.target === $("search"), chooser = e.target.matches("select, input[type=radio]");
  if (search && e.key === "Escape") { e.target.value = ""; list(); choose(state.one, true); e.target.blur(); e.preventDefault(); return; }
  if (search && e.key === "Enter") { $("list").focus(); return; }
  if (search && !["ArrowDown", "ArrowUp"].includes(e.key)) return;
  if (chooser && (e.key.startsWith("Arrow") || e.key === "Home" || e.key === "End" || (e.target.matches("select") && e.key.length === 1))) return;
  const act = Object.hasOwn(KEYS, e.key) && KEYS[e.key];
  if (act) { e.preventDefault(); act(); }
}

function begin() {
  facts.targets.forEach((name, n) => $("target").append(element("option", { value: n }, name)));
  $("target").value = state.target;
  $("target-field").hidden = facts.targets.length === 1;
  $("sort").value = "effect";
  const made = [facts.attributes.model, facts.attributes.metric && `metric ${facts.attributes.metric}`].filter((x) => typeof x === "string");
  $("summary").textContent = [`${whole(facts.total)} sequences`, facts.asked > 1 && `${whole(facts.asked)} targets`, ...made].filter(Boolean).join(" · ");
  const part = [];
  if (sequences.length < facts.total) part.push(`Showing ${whole(sequences.length)} of ${whole(facts.total)} sequences: those with the largest attributions.`);
  if (facts.targets.length < facts.asked) part.push(`Showing ${whole(facts.targets.length)} of ${whole(facts.asked)} targets: those with the largest attributions. For others: fastism report --max-targets, or write_report(targets=...).`);
  $("limited").hidden = !part.length;
  $("limited").replaceChildren(...part.map((words) => element("span", {}, words)));
  const coarse = facts.precision === "int16" ? " Values are rounded to 16 bits." : "";
  const colours = facts.signed ? "Red raises the prediction, blue lowers it" : "The redder, the more the prediction changes, in whichever direction";
  $("caption").textContent = `${colours}; a dot marks the letter that is there. Scroll to zoom, drag to move, ? for keys.${coarse}`;
  $("notes").replaceChildren(...notes().map((words) => element("p", {}, words)));
  pairs($("attributes"), [["sequences", `${whole(sequences.length)} shown of ${whole(facts.total)}`], ["positions", `${facts.start} to ${facts.start + facts.positions} of ${facts.length}`],
    ["stored as", facts.precision], ...Object.entries(facts.attributes).map(([k, v]) => [k, typeof v === "string" ? v : JSON.stringify(v)])]);
  setPalette(state.palette);
  for (const radio of document.getElementsByName("rule")) radio.checked = radio.value === state.rule;
  listen();
  list();
  const asked = Number(location.hash.slice(1));
  choose((location.hash.length > 1 && sequences.find((one) => one.row === asked)) || state.rows[0]);
  draw();
}

begin();
