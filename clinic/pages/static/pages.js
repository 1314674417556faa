// What pages can do with a script besides what they can without: keys, what others do as it happens,
// and forms that are sent without loading the page again. There is one way in which anything is
// shown: the page that the clinic answers, of which this puts into place what is different.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const board = () => $("board");
  const keysAreOff = () => { try { return localStorage.getItem("keys") === "off"; } catch { return false; } };

  // Put into place what is different: elements with ids (or links) are the same from page to page.
  const keyOf = (e) => e.id || (e.matches(".f") && e.textContent.trim()) || (e.matches(".x, .now") && e.className) || "";
  const LISTS = "#main, .board, .column ol, .flow, .flow section, .flow table, .flow tbody, #counts, #board, .column, .bar";
  function morph(old, fresh) {
    old.classList.remove("fresh");
    if (old.isEqualNode(fresh)) return;
    if (!old.matches(LISTS) || old.tagName !== fresh.tagName) { replace(old, fresh); return; }
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    const named = (parent) => new Map([...parent.children].map((e, n) => [keyOf(e) || e.tagName + n, e]));
    const known = named(old), next = named(fresh);
    for (const [key, gone] of known) if (!next.has(key)) gone.remove();
    let at = old.firstElementChild;
    for (const [key, one] of next) {
      const same = known.get(key);
      if (same && same === at) at = at.nextElementSibling; // to move it would take the focus from it
      else old.insertBefore(same || one, at);
      if (same) morph(same, one);
      else if (one.matches(".b, .r")) one.classList.add("fresh");
    }
  }
  function replace(old, fresh) {
    const focused = document.activeElement;
    const order = old.contains(focused) ? [...old.querySelectorAll("a, button, input")].indexOf(focused) : -1;
    if (old.matches(".b, .r")) fresh.classList.add("fresh");
    old.replaceWith(fresh);
    const all = fresh.querySelectorAll("a, button, input");
    if (order >= 0) all[Math.min(order, all.length - 1)]?.focus({ preventScroll: true });
  }
  function take(html, only) {
    const page = new DOMParser().parseFromString(html, "text/html");
    if (!page.getElementById("board")) return false;
    rove(page);
    if (only) for (const one of page.querySelectorAll(".column")) { if ($(one.id)) morph($(one.id), one); }
    else morph($("board"), page.getElementById("board"));
    morph($("counts"), page.getElementById("counts"));
    if (!only) { const said = page.getElementById("said"); if (said.querySelector("p")) say(said.innerHTML); }
    return true;
  }
  let quiet = 0;
  function say(html) {
    clearTimeout(quiet);
    $("said").innerHTML = html; // the clinic's own page, escaped there
    quiet = setTimeout(() => { if (!$("said").contains(document.activeElement)) $("said").replaceChildren(); }, 10000);
  }

  // Forms of a day, sent without leaving it.
  async function send(form, name, value) {
    const body = new URLSearchParams(new FormData(form));
    body.set(name, value);
    const card = document.activeElement?.closest("[data-v]");
    let answer;
    try { answer = await fetch(form.action, { method: "POST", body }); } catch { lost(); return; }
    const html = await answer.text();
    if (!take(html)) {
      const page = new DOMParser().parseFromString(html, "text/html");
      say(`<p class="refused"></p>`);
      $("said").firstChild.textContent = [...page.querySelectorAll("#said > *")].map((e) => e.textContent.trim()).join(" ");
      all = true;
      refresh();
    }
    if (card && document.activeElement === document.body && $(card.id)) focus($(card.id));
  }
  document.addEventListener("submit", (event) => {
    if (!board() || event.submitter?.name !== "step") return;
    event.preventDefault();
    send(event.target, "step", event.submitter.value);
  });

  // What others do.
  let source = null, heard = 0, waiting = null, wanted = new Set(), all = false, position = 0;
  function lost() {
    const line = $("as-of");
    if (!line || line.classList.contains("lost")) return;
    line.className = "as-of lost";
    line.firstElementChild.textContent = line.dataset.lost.replace("{time}", line.dataset.time || line.textContent.match(/\d\d:\d\d/)?.[0] || "");
  }
  function live(time) {
    const line = $("as-of");
    heard = Date.now();
    if (time) { line.dataset.time = time; now(time); }
    line.className = "as-of live";
    line.firstElementChild.textContent = `${line.dataset.live} ${line.dataset.time || ""}`;
  }
  function now(time) {
    const [h, m] = time.split(":").map(Number);
    for (const line of document.querySelectorAll(".now")) { line.className = `now h${h} m${m}`; line.textContent &&= time; }
  }
  // What is being clicked must not be replaced between press and release.
  let pressed = false, busy = false;
  document.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { pressed = false; });
  async function refresh() {
    waiting = null;
    if (pressed || busy) { soon(); return; }
    busy = true;
    const [only, whole] = [wanted, all || board().dataset.by === "list"];
    wanted = new Set(); all = false;
    const url = new URL(location.href);
    for (const name of ["done", "what", "was"]) url.searchParams.delete(name);
    if (!whole && only.size) url.searchParams.set("only", [...only].join(","));
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(answer.status);
      take(await answer.text(), !whole && only.size > 0);
    } catch { all = true; lost(); setTimeout(soon, 3000); }
    busy = false;
  }
  const soon = () => { waiting = waiting || setTimeout(refresh, 120); };
  function told(changes) {
    const { day, by } = board().dataset;
    for (const [id, first, last, office, doctor] of changes) {
      const shown = $(`a${id}`)?.closest(".column");
      const here = first <= day && day <= last;
      if (!here && !$(`a${id}`)) continue;
      const column = by === "doctor" ? doctor : office;
      if (by === "list" || (here && !$(`c${column}`))) all = true;
      else { if (here) wanted.add(column); if (shown) wanted.add(shown.id.slice(1)); }
      soon();
    }
  }
  function listen() {
    if (source || !board() || document.hidden) return;
    source = new EventSource(`${board().dataset.news}?after=${position || board().dataset.position}`);
    source.addEventListener("beat", (event) => live(event.data));
    source.addEventListener("message", (event) => {
      position = event.lastEventId;
      live();
      const changes = JSON.parse(event.data);
      if (changes) told(changes); else { all = true; soon(); }
    });
    source.addEventListener("error", () => { lost(); hush(); setTimeout(listen, 2000 + 2000 * Math.random()); });
  }
  const hush = () => { source?.close(); source = null; };
  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
  setInterval(() => { if (source && heard && Date.now() - heard > 30000) { lost(); hush(); listen(); } }, 5000);
  // Minutes of waiting grow by themselves.
  setInterval(() => { if (board() && "today" in board().dataset && !document.hidden) { all = true; soon(); } }, 60000);

  // Keys.
  const items = (column) => [...column.querySelectorAll(":scope li.b > a, :scope li.f > a, :scope li.f > button, .r > th > a")];
  const focus = (e) => e?.querySelector("a, button")?.focus();
  function rove(page) {
    // A button says to a screen reader whose it is.
    for (const one of page.querySelectorAll("[data-v] button")) one.setAttribute("aria-describedby", one.closest("[data-v]").id);
    // One free time of each column is reached by Tab, the others by arrows
    for (const column of page.querySelectorAll(".column")) column.querySelectorAll("li.f > *").forEach((e, n) => { e.tabIndex = n ? -1 : 0; });
  }
  function arrow(key, from) {
    const columns = [...document.querySelectorAll(".column, .flow")];
    const at = columns.indexOf(from.closest(".column, .flow"));
    const on = key === "ArrowDown" || key === "ArrowRight" ? 1 : -1;
    const mine = items(columns[at]);
    if (key === "ArrowDown" || key === "ArrowUp") return mine[mine.indexOf(from) + on];
    const far = (e) => Math.abs(e.getBoundingClientRect().top - from.getBoundingClientRect().top);
    for (let c = at + on; columns[c]; c += on) if (items(columns[c]).length) return items(columns[c]).sort((a, b) => far(a) - far(b))[0];
    return null;
  }
  const STEPS = { a: "arrived", i: "in_room", d: "done", n: "no_show", x: "cancelled" };
  const BACK = { arrived: "booked", in_room: "arrived", done: "in_room", no_show: "booked", cancelled: "booked" };
  const LINKS = { t: "today", "[": "back", "]": "forth" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, textarea, select") || document.querySelector("dialog[open]")) return;
    const card = event.target.closest?.("[data-v]");
    const key = event.key;
    if (key.startsWith("Arrow") && event.target.closest?.("li, .r")) {
      const next = arrow(key, event.target);
      if (next) { event.preventDefault(); next.focus(); }
      return;
    }
    if (key === "?" && $("help")) { event.preventDefault(); $("keys-on").checked = !keysAreOff(); $("help").showModal(); return; }
    if (keysAreOff()) return;
    const go = (href) => { event.preventDefault(); location.href = href; };
    if (key === "/") { event.preventDefault(); document.querySelector(".search input").focus(); }
    if (!board()) return;
    const { root, day, by } = board().dataset;
    if (key === "b") go(event.target.closest?.(".f")?.querySelector("a")?.href || `${root}/new?t=${day}T`);
    if (LINKS[key] && $(LINKS[key])) go($(LINKS[key]).href);
    if (key === "g") go($(by === "list" ? "grid-view" : "list-view").href);
    if (!card) return;
    const id = card.id.slice(1), [version, status] = card.dataset.v.split(":");
    const to = key === "u" ? BACK[status] : STEPS[key];
    if (to && board().action.endsWith("/step")) { event.preventDefault(); send(board(), "step", `${id}:${version}:${to}`); }
    if (key === "m") go(`${root}/day/${day}?move=${id}`);
    if (key === "e") go(`${root}/card/${id}?edit=1`);
  });
  $("keys-on")?.addEventListener("change", (event) => {
    try { localStorage.setItem("keys", event.target.checked ? "on" : "off"); } catch { /* only for this page */ }
  });

  // The form: what conflicts is said as soon as it is chosen, and patients who were here are suggested.
  const form = $("form"), TIMED = ["office_number", "doctor_name", "appointment_type", "date", "time", "duration_minutes"];
  let typing = 0;
  const load = async (url, body) => new DOMParser().parseFromString(await (await fetch(url, body && { method: "POST", body })).text(), "text/html");
  async function check() {
    const body = new URLSearchParams(new FormData(form));
    body.set("check", "1");
    const page = await load(form.action, body);
    for (const old of form.querySelectorAll(".notice")) old.remove();
    $("fields").before(...page.querySelectorAll(".notice"));
    const why = page.getElementById("why");
    if (!why.firstChild !== !$("why").firstChild) $("why").replaceWith(why);
  }
  async function suggest(name) {
    const page = await load(`${form.dataset.find}?q=${encodeURIComponent(name)}`);
    const known = Object.create(null);
    for (const one of page.querySelectorAll(".found tbody th")) (known[one.querySelector("a").textContent] ||= new Set()).add(one.querySelector("span")?.textContent || "");
    $("patients").replaceChildren(...Object.entries(known).slice(0, 10).map(([value, phones]) => Object.assign(document.createElement("option"), { value, label: [...phones].join(", ") })));
    // Of two of one name nobody knows which one it is.
    if (known[name]?.size === 1 && !$("patient_phone").value) $("patient_phone").value = [...known[name]][0];
  }
  form?.addEventListener("input", ({ target }) => {
    const act = target.name === "patient_name" && target.value.length > 1 ? () => suggest(target.value) : TIMED.includes(target.name) ? check : null;
    clearTimeout(typing);
    if (act) typing = setTimeout(() => act().catch(() => {}), 300);
  });

  // At the beginning: where now is, or what was just done.
  if (board()) {
    rove(document);
    listen();
    const target = location.hash && $(location.hash.slice(1));
    if (target) { target.scrollIntoView({ block: "center", inline: "nearest" }); if (target.matches(".b, .r")) focus(target); }
    else {
      const box = document.querySelector(".board"), line = document.querySelector(".now") || document.querySelector(".b");
      if (box && line) box.scrollTop = Math.max(0, line.offsetTop - box.clientHeight / 3);
    }
    if ($("said").querySelector("p:not(.moving)")) say($("said").innerHTML);
  }
})();
