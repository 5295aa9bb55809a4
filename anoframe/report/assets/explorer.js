"use strict";
// Sections of categories: a threshold to move, dots that show their image, and the list of all test images.
(() => {
  const WIDTH = 1000; // of the view box of a row of dots
  const FIRST = 60; // images that are listed at first
  const MORE = 240; // and with each "Show more"
  const NEAR = { mouse: 8, pen: 12, touch: 18 }; // pixels from a pointer to the dot it means
  const WRONG = ["missed", "false alarm"];
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const round = (value) => String(Number(value.toPrecision(4)));
  const shortened = (value) => Number(value.toPrecision(7)); // a float32 has seven digits
  const share = (count, total) => (total ? `${((100 * count) / total).toFixed(1)} %` : "n/a");

  const element = (name, className = "", text = "") => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };

  const tip = element("div", "dot-tip");
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);

  /** The two panels of a thumbnail share a picture; --x and --y are its place in the sheet. */
  const thumbnail = (data, image) => {
    const span = element("span", data.sheet && image.place >= 0 ? `sheet ${data.sheet.name}` : "sheet none");
    if (image.place < 0) span.textContent = "no thumbnail";
    else {
      span.style.setProperty("--x", 2 * (image.place % data.sheet.columns));
      span.style.setProperty("--y", Math.floor(image.place / data.sheet.columns));
    }
    return span;
  };

  const explore = (section, data) => {
    const images = data.images.map(([name, number, score, place], index) => {
      const defect = data.defects[number];
      const file = name.startsWith(`${defect}/`) ? name : `${defect}/${name}`;
      return { index, file, defect, isDefect: number > 0, score, place };
    });
    let limit = data.threshold;

    const outcome = (image) => {
      if (limit === null) return "";
      const flagged = image.score >= Math.fround(limit); // in the precision of the scores
      return image.isDefect ? (flagged ? "found" : "missed") : flagged ? "false alarm" : "passed";
    };
    const isWrong = (image) => WRONG.includes(outcome(image));
    const at = (score) => (WIDTH * (score - data.low)) / (data.high - data.low);

    // ---------------------------------------------------------------- chart: threshold, colours and counts

    const scores = section.querySelector(".scores");
    const bins = Number(scores.dataset.bins);
    const rows = all(".score-row[data-defect]", scores).map((row) => {
      const own = images.filter((image) => image.defect === row.dataset.defect).sort((a, b) => a.score - b.score);
      return { svg: row.querySelector("svg"), tally: row.querySelector(".tally"), images: own, picked: -1 };
    });

    const svg = (name, attributes) => {
      const made = document.createElementNS(scores.querySelector("svg").namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };

    const drawThreshold = () => {
      for (const plot of all("svg", scores)) {
        const line = plot.querySelector(".threshold") || plot.appendChild(svg("path", { class: "threshold" }));
        line.setAttribute("d", limit === null ? "" : `M${at(limit).toFixed(1)} 0V${plot.viewBox.baseVal.height}`);
      }
      const ticks = scores.querySelector(".ticks");
      const label = ticks.querySelector(".at-threshold") || ticks.appendChild(element("span", "at-threshold"));
      label.hidden = limit === null;
      if (limit === null) return;
      label.style.left = `${at(limit) / 10}%`;
      label.textContent = round(limit);
      for (const tick of all("span:not(.at-threshold)", ticks)) {
        const distance = Math.abs(parseFloat(tick.style.left) * 10 - at(limit));
        tick.classList.toggle("near", distance > 120 && distance <= 230);
        tick.hidden = distance <= 120;
      }
    };

    const drawBars = () => {
      for (const bar of all("rect", scores)) {
        const step = WIDTH / bins;
        const low = Math.round(Number(bar.getAttribute("x")) / step - 0.08) * step;
        const upwards = bar.classList.contains("good"); // a bar that the threshold divides is not all wrong
        const wrong = limit !== null && (upwards ? low >= at(limit) - 1e-6 : low + step <= at(limit) + 1e-6);
        bar.classList.toggle("wrong", wrong);
        const title = bar.querySelector("title");
        title.textContent = title.textContent.replace(/, wrong decision$/, "") + (wrong ? ", wrong decision" : "");
      }
    };

    const drawDots = () => {
      for (const row of rows) {
        all(".dots:not(.picked)", row.svg).forEach((path) => path.remove());
        const y = row.svg.viewBox.baseVal.height / 2;
        for (const wrong of [false, true]) {
          const own = row.images.filter((image) => isWrong(image) === wrong);
          const d = own.map((image) => `M${at(image.score).toFixed(1)} ${y}h0`).join("");
          const side = row.images[0].isDefect ? "defect" : "good";
          if (d) row.svg.prepend(svg("path", { class: `dots ${side}${wrong ? " wrong" : ""}`, d }));
        }
      }
      for (const row of all(".score-row", scores)) {
        const tally = row.querySelector(".tally");
        const name = row.dataset.defect;
        const half = row.classList.contains("half") ? row.classList.contains("defect") : null;
        const own = images.filter((image) => (half === null ? image.defect === name : image.isDefect === half));
        if (!row.querySelector("svg")) tally.textContent = limit === null ? "images" : "wrong";
        else {
          const wrong = own.filter(isWrong).length;
          tally.textContent = limit === null ? `${own.length}` : `${wrong} of ${own.length}`;
          tally.classList.toggle("bad", wrong > 0);
        }
      }
    };

    // ---------------------------------------------------------------- numbers

    const writeCounts = () => {
      const counts = { found: 0, missed: 0, "false alarm": 0, passed: 0 };
      for (const image of images) if (limit !== null) counts[outcome(image)] += 1;
      const totals = { missed: counts.found + counts.missed, "false alarm": counts["false alarm"] + counts.passed };
      for (const cell of all("[data-count]", section)) {
        const count = counts[cell.dataset.count];
        cell.textContent = limit === null ? "–" : count;
        cell.classList.toggle("bad", count > 0 && WRONG.includes(cell.dataset.count));
      }
      for (const cell of all("[data-rate]", section)) {
        cell.textContent = limit === null ? "–" : share(counts[cell.dataset.rate], totals[cell.dataset.rate]);
      }
      for (const cell of all("[data-type]", section)) {
        const own = images.filter((image) => image.defect === cell.dataset.type);
        cell.textContent = limit === null ? "–" : own.filter(isWrong).length;
      }
    };

    const advice = () => {
      if (limit === null) return "Move the slider to see what a threshold would decide. It changes nothing in the run.";
      const held = data.heldBack;
      const above = held.filter((score) => score >= Math.fround(limit)).length;
      const most = ((100 * (above + 1)) / (held.length + 1)).toFixed(1);
      const known = held.length
        ? `${above} of ${held.length} held-back normal training images reach this threshold: a new normal image does ` +
          `with a probability of at most ${most} %. `
        : "";
      const own = limit === data.threshold;
      const use = own
        ? "This is the threshold of the run. "
        : `To store it: anoframe --mode threshold --checkpoint RUN --threshold.value ${limit}. `;
      return `${known}${use}${own ? "" : "Chosen by looking at test images, its counts above are too good for new images."}`;
    };

    // ---------------------------------------------------------------- list of all test images

    const block = section.querySelector(".thumb-block");
    const filters = block.querySelector("form");
    const list = block.querySelector(".thumbs");
    const more = block.querySelector(".more");
    let shown = FIRST;

    const inTurn = (group) => {
      const places = new Map(); // defect type -> number of its images so far
      const keys = new Map();
      for (const image of [...group].sort((a, b) => b.score - a.score)) {
        keys.set(image, places.get(image.defect) || 0);
        places.set(image.defect, keys.get(image) + 1);
      }
      const order = (image) => data.defects.indexOf(image.defect);
      return [...group].sort((a, b) => keys.get(a) - keys.get(b) || order(a) - order(b));
    };
    const orders = {
      wrong: (group) => {
        const missed = group.filter((image) => outcome(image) === "missed").sort((a, b) => a.score - b.score);
        const alarms = group.filter((image) => outcome(image) === "false alarm").sort((a, b) => b.score - a.score);
        return [...missed, ...alarms, ...inTurn(group.filter((image) => !isWrong(image)))];
      },
      high: (group) => [...group].sort((a, b) => b.score - a.score),
      low: (group) => [...group].sort((a, b) => a.score - b.score),
      name: (group) => [...group].sort((a, b) => a.file.localeCompare(b.file, undefined, { numeric: true })),
    };

    const figureOf = (image) => {
      const figure = element("figure");
      const button = element("button", "thumb");
      const caption = element("figcaption");
      const result = outcome(image);
      figure.dataset.image = image.index;
      button.type = "button";
      button.setAttribute("aria-haspopup", "dialog");
      button.setAttribute("aria-label", ["Enlarge:", image.file, `score ${round(image.score)}`, result].join(" "));
      button.append(thumbnail(data, image));
      if (result) caption.append(element("span", `badge${isWrong(image) ? " bad" : ""}`, result));
      const name = element("span", "file", image.file);
      name.title = image.file;
      caption.append(name, element("span", "score", round(image.score)));
      figure.append(button, caption);
      return figure;
    };

    const chosen = () => {
      const { type, decision, sort } = filters.elements;
      const fits = (image) =>
        (type.value === "" || image.defect === type.value) && (decision.value === "" || outcome(image) === decision.value);
      return orders[sort.value](images.filter(fits));
    };

    const writeList = () => {
      const group = chosen();
      list.replaceChildren(...group.slice(0, shown).map(figureOf));
      list.dataset.side = filters.elements.side ? filters.elements.side.value : "0";
      more.hidden = group.length <= shown;
      filters.querySelector("output").value = `${Math.min(shown, group.length)} of ${group.length} images`;
    };

    const jump = (image) => {
      filters.reset();
      const place = chosen().indexOf(image);
      shown = Math.max(shown, place + 1);
      writeList();
      const figure = list.querySelector(`[data-image="${image.index}"]`);
      const button = figure.querySelector("button");
      tip.hidden = true;
      figure.scrollIntoView({ block: "center" });
      button.focus({ preventScroll: true });
    };

    // ---------------------------------------------------------------- dots show their image

    const show = (row, image) => {
      row.picked = row.images.indexOf(image);
      const path = row.svg.querySelector(".picked") || row.svg.appendChild(svg("path", { class: "dots picked" }));
      path.setAttribute("d", `M${at(image.score).toFixed(1)} ${row.svg.viewBox.baseVal.height / 2}h0`);
      const picture = thumbnail(data, image);
      const text = [image.file, `score ${round(image.score)}`, outcome(image)].filter(Boolean).join(", ");
      tip.replaceChildren(picture, element("p", "", text));
      tip.hidden = false;
      const box = row.svg.getBoundingClientRect();
      const left = box.left + (at(image.score) / WIDTH) * box.width - tip.offsetWidth / 2;
      const above = box.top - tip.offsetHeight - 6;
      tip.style.left = `${Math.min(Math.max(left, 6), document.documentElement.clientWidth - tip.offsetWidth - 6)}px`;
      tip.style.top = `${above < 6 ? box.bottom + 6 : above}px`;
    };

    const hide = (row) => {
      tip.hidden = true;
      const path = row.svg.querySelector(".picked");
      if (path) path.remove();
    };

    const nearest = (row, event) => {
      const box = row.svg.getBoundingClientRect();
      const distance = (image) => Math.abs(box.left + (at(image.score) / WIDTH) * box.width - event.clientX);
      const found = row.images.reduce((best, image) => (distance(image) < distance(best) ? image : best), row.images[0]);
      return distance(found) <= (NEAR[event.pointerType] || NEAR.mouse) ? found : null;
    };

    for (const row of rows) {
      row.svg.setAttribute("tabindex", "0");
      row.svg.setAttribute("role", "group");
      row.svg.setAttribute("aria-description", "Arrow keys choose an image, Enter goes to it.");
      row.svg.addEventListener("pointermove", (event) => {
        const image = nearest(row, event);
        if (image) show(row, image);
        else hide(row);
      });
      row.svg.addEventListener("pointerleave", () => hide(row));
      row.svg.addEventListener("blur", () => hide(row));
      row.svg.addEventListener("click", (event) => {
        const image = nearest(row, event);
        if (image) jump(image);
      });
      row.svg.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (by) {
          const place = row.picked < 0 ? 0 : Math.min(Math.max(row.picked + by, 0), row.images.length - 1);
          show(row, row.images[place]);
        } else if (event.key === "Enter" && row.picked >= 0) jump(row.images[row.picked]);
        else if (event.key === "Escape") hide(row);
        else return;
        event.preventDefault();
      });
    }

    // ---------------------------------------------------------------- the slider

    const form = section.querySelector(".slider");
    const { slider, number } = form.elements;

    const update = () => {
      drawThreshold();
      drawBars();
      drawDots();
      writeCounts();
      writeList();
      form.querySelector("[data-advice]").textContent = advice();
    };

    const set = (value, source) => {
      limit = value;
      if (source !== slider) slider.value = limit;
      if (source !== number) number.value = shortened(limit);
      update();
    };

    slider.addEventListener("input", () => set(Number(Number(slider.value).toPrecision(6)), slider));
    number.addEventListener("input", () => {
      if (number.value !== "" && Number.isFinite(Number(number.value))) set(Number(number.value), number);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    const reset = form.querySelector("[data-reset]");
    if (reset) reset.addEventListener("click", () => set(data.threshold, null));

    const total = (defect) => images.filter((image) => image.defect === defect).length;
    filters.elements.type.append(new Option("all", ""));
    for (const defect of data.defects) if (total(defect)) filters.elements.type.append(new Option(`${defect} (${total(defect)})`, defect));
    filters.addEventListener("change", () => {
      shown = FIRST;
      writeList();
    });
    filters.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => {
      const before = list.children.length;
      shown += MORE;
      writeList();
      list.children[before].querySelector("button").focus();
    });

    slider.value = limit === null ? data.high : limit;
    number.value = limit === null ? "" : shortened(limit);
    form.querySelector("[data-advice]").textContent = advice();
    form.hidden = false;
    filters.hidden = false;
    writeList();
  };

  for (const holder of all("script.scores-data")) explore(holder.closest("section"), JSON.parse(holder.textContent));
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target) target.scrollIntoView(); // the lists above it have grown since the browser went there
})();
