"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---------------------------------------------------------------- tables: a click on a column head sorts the rows

  const valueOf = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim().toLowerCase();
    return cell && cell.dataset.value !== undefined ? Number(cell.dataset.value) : null;
  };

  const compare = (a, b, direction) => {
    if (a === null || b === null) return (a === null) - (b === null); // missing values come last in both directions
    return direction * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  };

  for (const table of all("table.sortable")) {
    const heads = all("th[data-sort]", table);
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const kind = head.dataset.sort;
        const before = head.getAttribute("aria-sort");
        const rising = before ? before === "descending" : kind === "text"; // numbers: highest first
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [valueOf(row, column, kind), row]);
        rows.sort((a, b) => compare(a[0], b[0], rising ? 1 : -1));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  // ---------------------------------------------------------------- galleries: filter, order and panel

  const orders = {
    wrong: (a, b) => a.dataset.rank - b.dataset.rank || b.dataset.score - a.dataset.score,
    high: (a, b) => b.dataset.score - a.dataset.score,
    low: (a, b) => a.dataset.score - b.dataset.score,
  };

  for (const block of all(".gallery-block")) {
    const form = block.querySelector(".filters");
    const gallery = block.querySelector(".gallery");
    const figures = all("figure", gallery);
    const chosen = (name) => (form.elements[name] ? form.elements[name].value : "");
    const update = () => {
      const { defect, outcome } = { defect: chosen("defect"), outcome: chosen("outcome") };
      for (const figure of figures) {
        const data = figure.dataset;
        figure.hidden = (defect !== "" && data.defect !== defect) || (outcome !== "" && data.outcome !== outcome);
      }
      gallery.append(...figures.sort(orders[chosen("order")]));
      gallery.dataset.panel = chosen("panel");
      const shown = figures.filter((figure) => !figure.hidden).length;
      form.querySelector("output").value = `${shown} of ${figures.length} pictures`;
    };
    form.addEventListener("change", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    update();
  }

  // ---------------------------------------------------------------- zoom: arrows move, Escape closes

  const zoom = document.getElementById("zoom");
  if (!zoom) return;
  const labels = ["Image", "Ground truth", "Anomaly map", "Outlines"];
  const panels = zoom.querySelector(".panels");
  let current = null;

  const panel = (image, label, place) => {
    const figure = document.createElement("figure");
    const frame = document.createElement("div");
    const copy = document.createElement("img");
    const caption = document.createElement("figcaption");
    copy.src = image.src;
    copy.alt = label;
    frame.className = "frame";
    frame.style.setProperty("--place", place);
    frame.append(copy);
    caption.textContent = label;
    figure.append(frame, caption);
    return figure;
  };

  /** A panel of a thumbnail, which is a part of a sheet. */
  const sheetPanel = (sheet, label, place) => {
    const figure = document.createElement("figure");
    const frame = document.createElement("div");
    const caption = document.createElement("figcaption");
    const copy = sheet.cloneNode(true);
    frame.className = "frame";
    copy.style.setProperty("--side-of-pair", place);
    copy.setAttribute("role", "img");
    copy.setAttribute("aria-label", label);
    frame.append(copy);
    caption.textContent = label;
    figure.append(frame, caption);
    return figure;
  };

  const show = (figure) => {
    current = figure;
    const isThumbnail = figure.closest(".thumbs") !== null;
    const section = figure.closest("section") || document;
    const strips = isThumbnail ? `.gallery figure[data-image="${figure.dataset.image}"]` : null;
    const source = (strips && section.querySelector(strips)) || figure; // the larger picture, if there is one
    const button = source.querySelector("button");
    const image = source.querySelector("img");
    if (image) {
      const strip = button.classList.contains("strip");
      panels.className = strip ? "panels strip" : "panels";
      panels.setAttribute("style", button.getAttribute("style"));
      panels.replaceChildren(...(strip ? labels : ["Picture"]).map((label, place) => panel(image, label, place)));
    } else {
      const sheet = button.querySelector(".sheet");
      panels.className = "panels strip pair";
      panels.removeAttribute("style");
      panels.replaceChildren(...["Outlines", "Anomaly map"].map((label, place) => sheetPanel(sheet, label, place)));
    }
    const caption = all("figcaption > *", figure).map((element) => element.cloneNode(true));
    document.getElementById("zoom-caption").replaceChildren(...caption);
    if (!zoom.open) {
      zoom.showModal();
      zoom.querySelector('[data-step="1"]').focus();
    }
  };

  const step = (by) => {
    const shown = all("figure", current.parentElement).filter((figure) => !figure.hidden);
    show(shown[(shown.indexOf(current) + by + shown.length) % shown.length]);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".gallery button, .thumbs button");
    if (button) show(button.closest("figure"));
  });
  zoom.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.target === zoom || (button && "close" in button.dataset)) zoom.close();
    else if (button) step(Number(button.dataset.step));
  });
  zoom.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
    }
  });
  zoom.addEventListener("close", () => current.isConnected && current.querySelector("button").focus());
})();
