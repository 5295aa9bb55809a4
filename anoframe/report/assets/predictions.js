"use strict";
// Gallery of a prediction: filters, order, pages, and the overlay of an image at its own size.
(() => {
  const PER_PAGE = 60;
  const TITLES = { defect: "defect", good: "good", "not read": "not read", "": "no decision" };
  const data = JSON.parse(document.getElementById("predictions-data").textContent);
  const images = data.images.map(([file, score, decision, overlay, thumbnail, regions, remark], rank) => {
    return { rank, file, score, decision, overlay, thumbnail, regions, remark, lower: file.toLowerCase() };
  });
  const form = document.getElementById("predictions-filters");
  const cards = document.querySelector(".cards");
  const pages = document.querySelector(".pages");
  const large = document.getElementById("large");
  let group = [];
  let page = 0;
  let current = null;

  const element = (name, className = "", text = "") => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const address = (file) => file.split("/").map((part) => encodeURIComponent(part.toWellFormed?.() ?? part)).join("/");
  const round = (value) => String(Number(value.toPrecision(4)));
  const least = (value) => (value === null ? -Infinity : value);
  const byName = (a, b) => a.file.localeCompare(b.file, undefined, { numeric: true });
  const orders = {
    rank: (a, b) => a.rank - b.rank,
    high: (a, b) => least(b.score) - least(a.score) || byName(a, b),
    low: (a, b) => (a.score === null) - (b.score === null) || a.score - b.score || byName(a, b),
    name: byName,
  };

  const captionOf = (image) => {
    const parts = [element("span", image.decision === "good" || !image.decision ? "badge" : "badge bad", TITLES[image.decision])];
    const name = element("span", "file", image.file);
    name.title = image.file;
    parts.push(name);
    if (image.score !== null) parts.push(element("span", "score", round(image.score)));
    return parts;
  };

  const cardOf = (image) => {
    const figure = element("figure");
    const button = element("button", "card");
    const caption = element("figcaption");
    const score = image.score === null ? "" : `score ${round(image.score)}`;
    button.type = "button";
    button.setAttribute("aria-haspopup", "dialog");
    button.setAttribute("aria-label", ["Enlarge:", image.file, score, TITLES[image.decision]].filter(Boolean).join(" "));
    if (image.thumbnail) {
      const picture = document.createElement("img");
      picture.loading = "lazy";
      picture.decoding = "async";
      picture.alt = "";
      picture.src = address(image.thumbnail);
      button.append(picture);
    } else button.append(element("span", "none", image.remark || "no overlay"));
    button.addEventListener("click", () => enlarge(image));
    caption.append(...captionOf(image));
    figure.append(button, caption);
    return figure;
  };

  const write = () => {
    const last = Math.max(Math.ceil(group.length / PER_PAGE) - 1, 0);
    page = Math.min(Math.max(page, 0), last);
    cards.replaceChildren(...group.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(cardOf));
    pages.hidden = last === 0;
    pages.querySelector("span").textContent = `page ${page + 1} of ${last + 1}`;
    pages.querySelector("[data-turn='-1']").disabled = page === 0;
    pages.querySelector("[data-turn='1']").disabled = page === last;
    form.querySelector("output").value = `${group.length} of ${images.length} images`;
  };

  const update = () => {
    const { decision, name, least: from, sort } = form.elements;
    const wanted = name.value.trim().toLowerCase();
    const low = from.value === "" ? null : Number(from.value);
    const fits = (image) =>
      (decision.value === "all" || image.decision === decision.value) &&
      (wanted === "" || image.lower.includes(wanted)) &&
      (low === null || (image.score !== null && image.score >= low));
    group = images.filter(fits).sort(orders[sort.value]);
    page = 0;
    write();
  };

  // ---------------------------------------------------------------- the picture at its own size

  const facts = (image) => {
    if (image.remark) return image.remark;
    if (!image.regions) return "";
    const [count, x, y, width, height, area, peak] = image.regions;
    if (!count) return "No pixel reaches the pixel threshold.";
    const first = x === undefined ? "" : ` The first: ${width} x ${height} pixels at ${x}, ${y}, area ${area}, peak ${round(peak)}.`;
    return `${count} region${count > 1 ? "s" : ""} above the pixel threshold.${first}`;
  };

  const enlarge = (image) => {
    current = image;
    document.getElementById("large-caption").replaceChildren(...captionOf(image));
    const parts = [];
    if (image.overlay) {
      const link = element("a");
      const picture = document.createElement("img");
      picture.src = address(image.overlay);
      picture.alt = image.file;
      link.href = picture.src;
      link.append(picture);
      parts.push(link);
    }
    if (facts(image)) parts.push(element("p", "note", facts(image)));
    large.querySelector(".large-picture").replaceChildren(...parts);
    if (!large.open) {
      large.showModal();
      large.querySelector('[data-step="1"]').focus();
    }
  };

  const step = (by) => {
    const place = (group.indexOf(current) + by + group.length) % group.length;
    if (Math.floor(place / PER_PAGE) !== page) {
      page = Math.floor(place / PER_PAGE);
      write();
    }
    enlarge(group[place]);
  };

  large.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.target === large || (button && "close" in button.dataset)) large.close();
    else if (button) step(Number(button.dataset.step));
  });
  large.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
    }
  });
  large.addEventListener("close", () => {
    const button = cards.children[group.indexOf(current) - page * PER_PAGE]?.querySelector("button");
    if (button) button.focus();
  });

  // ---------------------------------------------------------------- filters and pages

  const present = ["defect", "good", "not read", ""].filter((name) => images.some((image) => image.decision === name));
  form.elements.decision.append(new Option("all", "all"), ...present.map((name) => new Option(TITLES[name], name)));
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  pages.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    page += Number(button.dataset.turn);
    write();
    cards.scrollIntoView({ block: "start" });
  });
  form.hidden = false;
  update();
})();
