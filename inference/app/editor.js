// The editor: image, map, mask and clicks. It sends each edit to the server and draws the mask that comes back.
// Edits are sent one after another; `window.geoclickEdits` is settled when all so far are answered.
// Clicks are in pixels of the image; an integer is the center of a pixel.
const stage = element.querySelector(".stage");
const picture = stage.querySelector(".picture");
const classes = stage.querySelector(".classes");
const mask = stage.querySelector(".mask");
const svg = stage.querySelector("svg");
const buttons = [...element.querySelectorAll("[data-do]")];
const slider = element.querySelector(".opacity input");
const colors = element.querySelector(".colors");
const NS = "http://www.w3.org/2000/svg";
const RADIUS = 11; // of a marker, in pixels of the screen
const MOVED = 4; // pixels of the screen from which a press is a drag

let drawn = { clicks: [], boxes: [], parts: 0, width: 0, height: 0, layer: 0 };
let known = {}; // the clicks as the server has them
let sent = 0; // edits so far; answers to earlier ones do not change the clicks
let sign = true;
let selected = -1;
let newPart = false;
let pressed = null;

window.geoclickEdits = Promise.resolve();

function send(edit) {
  sent += 1;
  const body = { ...edit, key: drawn.key, layer: drawn.layer, before: drawn.clicks.length, seq: sent };
  window.geoclickEdits = window.geoclickEdits.then(() => post(body));
  apply(edit);
  draw();
}

async function post(body) {
  try {
    const answer = await fetch("edit", { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(answer.statusText);
    const { drawn: value, status, lists } = await answer.json();
    if (value) show(value);
    say(status);
    if (lists) trigger("select");
  } catch {
    // The edit is not done, so its click must not stay on the image.
    if (body.key === drawn.key) drawn = { ...drawn, ...structuredClone(known) };
    draw();
    say('<div class="status error" role="status">The app did not answer; repeat the edit, or reload the page.</div>');
  }
}

function say(status) {
  document.dispatchEvent(new CustomEvent("geoclick-status", { detail: status }));
}

// The same change here, so that the next edit has the right numbers before the answer comes.
function apply(edit) {
  const clicks = drawn.clicks;
  if (edit.kind === "flip") clicks[edit.number].positive = !clicks[edit.number].positive;
  if (edit.kind === "delete") {
    const [gone] = clicks.splice(edit.number, 1);
    if (!clicks.some((click) => click.part === gone.part) && !drawn.boxes.length) {
      for (const click of clicks) if (click.part > gone.part) click.part -= 1;
      drawn.parts -= 1;
    }
  }
  if (edit.kind === "add" && drawn.layer) {
    const place = clicks.findLastIndex((click) => click.part <= edit.part) + 1;
    const several = Math.max(drawn.parts, edit.part + 1) > 1;
    clicks.splice(place, 0, {
      x: edit.x,
      y: edit.y,
      positive: edit.positive,
      part: edit.part,
      label: String(several ? edit.part + 1 : place + 1),
      color: "#ffffff",
    });
    drawn.parts = Math.max(drawn.parts, edit.part + 1);
  }
}

function scale() {
  return drawn.width / Math.max(1, svg.getBoundingClientRect().width);
}

function at(event) {
  const box = svg.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * drawn.width - 0.5,
    ((event.clientY - box.top) / box.height) * drawn.height - 0.5,
  ];
}

function make(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function draw() {
  const r = RADIUS * scale();
  svg.setAttribute("viewBox", `0 0 ${drawn.width || 1} ${drawn.height || 1}`);
  svg.replaceChildren();
  for (const [left, top, right, bottom] of drawn.boxes)
    svg.append(make("rect", { x: left, y: top, width: right + 1 - left, height: bottom + 1 - top, class: "box" }));
  drawn.clicks.forEach((click, number) => {
    if (click.hidden) return;
    const group = make("g", {
      class: `click ${click.positive ? "positive" : "negative"} ${number === selected ? "selected" : ""}`,
      transform: `translate(${click.x + 0.5} ${click.y + 0.5})`,
      "data-number": number,
    });
    const ring = drawn.parts > 1 ? click.color : "#ffffff";
    group.append(make("circle", { r, stroke: ring, "stroke-width": r / 4 }));
    group.append(make("text", { "font-size": r * 1.2, dy: r * 0.42 }, click.label));
    svg.append(group);
  });
  for (const button of buttons) {
    const name = button.dataset.do;
    if (name === "positive" || name === "negative")
      button.classList.toggle("on", (name === "positive") === sign);
    if (name === "part") button.classList.toggle("on", newPart);
    if (name === "flip" || name === "delete") button.disabled = selected < 0;
    if (name === "boxes") button.hidden = !drawn.boxes.length;
  }
}

function choose(number) {
  selected = number < drawn.clicks.length ? number : -1;
  draw();
}

function partOfNew() {
  if (newPart || !drawn.parts) return drawn.parts;
  if (selected >= 0) return drawn.clicks[selected].part;
  return drawn.clicks.findLast((click) => !click.hidden)?.part ?? drawn.parts - 1;
}

function act(name) {
  if (name === "positive" || name === "negative") sign = name === "positive";
  else if (name === "part") newPart = !newPart;
  else if (name === "boxes") send({ kind: "boxes" });
  else if (selected >= 0) {
    send({ kind: name, number: selected });
    if (name === "delete") selected = -1;
  }
  draw();
}

svg.addEventListener("pointerdown", (event) => {
  if (!drawn.width || event.button > 0) return;
  const marker = event.target.closest("[data-number]");
  pressed = { x: event.clientX, y: event.clientY, number: marker ? Number(marker.dataset.number) : -1, moved: false };
  if (marker) {
    choose(pressed.number);
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  }
});

svg.addEventListener("pointermove", (event) => {
  if (!pressed || pressed.number < 0) return;
  if (Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) < MOVED && !pressed.moved) return;
  pressed.moved = true;
  const [x, y] = at(event);
  const click = drawn.clicks[pressed.number];
  click.x = Math.min(Math.max(Math.round(x), 0), drawn.width - 1);
  click.y = Math.min(Math.max(Math.round(y), 0), drawn.height - 1);
  draw();
});

svg.addEventListener("pointerup", (event) => {
  if (!pressed) return;
  const { number, moved, x: fromX, y: fromY } = pressed;
  pressed = null;
  const [x, y] = at(event);
  if (number >= 0 && moved) {
    const click = drawn.clicks[number];
    send({ kind: "move", number, x: click.x, y: click.y });
  } else if (number < 0 && Math.hypot(event.clientX - fromX, event.clientY - fromY) < 2 * MOVED) {
    const part = partOfNew();
    send({ kind: "add", x, y, positive: sign, part });
    newPart = false;
    selected = -1;
  }
  draw();
});

svg.addEventListener("pointercancel", () => {
  pressed = null;
});

svg.addEventListener("contextmenu", (event) => {
  // The other button adds a negative click.
  event.preventDefault();
  if (!drawn.width || event.target.closest("[data-number]")) return;
  const [x, y] = at(event);
  send({ kind: "add", x, y, positive: false, part: partOfNew() });
});

stage.addEventListener("keydown", (event) => {
  const names = { Delete: "delete", Backspace: "delete", f: "flip", F: "flip" };
  if (!(event.key in names) || selected < 0) return;
  event.preventDefault();
  act(names[event.key]);
});

for (const button of buttons) button.addEventListener("click", () => act(button.dataset.do));
slider.addEventListener("input", () => {
  classes.style.opacity = slider.value / 100;
});

function source(node, uri) {
  node.hidden = !uri;
  if (uri) node.src = uri;
  else node.removeAttribute("src");
}

function entry({ label, color }) {
  const item = document.createElement("li");
  const mark = document.createElement("span");
  mark.style.background = color;
  item.append(mark, label);
  return item;
}

function update() {
  if (props.value && typeof props.value === "object") show(JSON.parse(JSON.stringify(props.value)));
}

function show(value) {
  // A late answer about an earlier image.
  if (!("image" in value) && value.key !== drawn.key) return;
  const { clicks, boxes, parts } = drawn;
  drawn = { ...drawn, ...value };
  known = structuredClone({ clicks: drawn.clicks, boxes: drawn.boxes, parts: drawn.parts });
  if ("seq" in value && value.seq < sent) drawn = { ...drawn, clicks, boxes, parts };
  element.classList.toggle("empty", !drawn.width);
  if ("image" in value) {
    source(picture, value.image);
    stage.style.aspectRatio = `${drawn.width} / ${drawn.height}`;
    stage.style.maxWidth = `calc(64vh * ${drawn.width / drawn.height})`;
    selected = -1;
    newPart = false;
  }
  if ("classes" in value) {
    source(classes, value.classes);
    element.querySelector(".opacity").hidden = !value.classes;
    classes.style.opacity = slider.value / 100;
  }
  if ("colors" in value) colors.replaceChildren(...value.colors.map(entry));
  if (selected >= drawn.clicks.length) selected = -1;
  draw();
  mask.onload = () => {
    stage.dataset.edits = drawn.edits;
  };
  source(mask, value.mask);
  if (!value.mask) stage.dataset.edits = drawn.edits;
}

new ResizeObserver(() => draw()).observe(stage);
watch("value", update);
update();
