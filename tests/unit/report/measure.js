/* What is wrong with a page as it stands on a screen: a list of sentences, none if all is well.
 *
 * The screen must be as high as the page, so that what lies at a point can be asked for. Looked for
 * are: what is wider than the screen, text over text, text that is cut, text too faint for what is
 * behind it, and text too small to read. Runs in the page, changes nothing. */
(() => {
  const FAINT = 4.5, SMALL = 10, SLACK = 1.0;
  const found = [];
  const name = (element) => {
    const text = (element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
    return `<${element.tagName.toLowerCase()}> "${text}"`;
  };
  const shown = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.display === "none" || style.visibility === "hidden") return false;
    }
    return true;
  };

  // ---- width
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide)
    found.push(`wide: the page has ${document.documentElement.scrollWidth} px, the screen ${wide}`);
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest("svg") && element.tagName !== "svg" && element.tagName !== "text") continue;
    const box = element.getBoundingClientRect();
    if (box.width && shown(element) && (box.right > wide + SLACK || box.left < -SLACK))
      found.push(`wide: ${name(element)} lies from ${box.left} to ${box.right}`);
  }

  // ---- texts and their boxes, line by line
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || ["TITLE", "title", "STYLE", "SCRIPT"].includes(parent.tagName)) continue;
    if (!shown(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 0.5);
    if (boxes.length) texts.push({ node, parent, boxes });
  }
  if (!texts.length) found.push("empty: the page has no text");

  // Letters fill less than their line: a fifth of its height at the top and at the bottom is air.
  const letters = (box) => ({
    left: box.left, right: box.right,
    top: box.top + 0.2 * box.height, bottom: box.bottom - 0.2 * box.height,
  });
  for (let i = 0; i < texts.length; i++)
    for (let j = i + 1; j < texts.length; j++)
      for (const a of texts[i].boxes.map(letters))
        for (const b of texts[j].boxes.map(letters))
          if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > SLACK &&
              Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > SLACK)
            found.push(`overlap: ${name(texts[i].parent)} and ${name(texts[j].parent)}`);

  // ---- cut
  for (const { parent, boxes } of texts)
    for (let one = parent; one && one !== document.documentElement; one = one.parentElement) {
      const style = getComputedStyle(one);
      const cuts = one.tagName === "svg" || style.display !== "inline";
      if (!cuts || (style.overflowX === "visible" && style.overflowY === "visible")) continue;
      const frame = one.getBoundingClientRect();
      if (boxes.some((box) => box.left < frame.left - SLACK || box.right > frame.right + SLACK ||
          letters(box).top < frame.top - SLACK || letters(box).bottom > frame.bottom + SLACK))
        found.push(`cut: ${name(parent)} by ${one.tagName.toLowerCase()}.${one.className}`);
    }

  // ---- contrast
  const parsed = (colour) => {
    const match = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(colour);
    return match && [+match[1], +match[2], +match[3], match[4] === undefined ? 1 : +match[4]];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const c = part / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const opacity = (element) => {
    let all = 1;
    for (let one = element; one; one = one.parentElement) all *= +getComputedStyle(one).opacity;
    return all;
  };
  const painted = (element) => {
    const style = getComputedStyle(element);
    if (!element.ownerSVGElement) return [style.backgroundColor, 1];
    if (["text", "tspan", "g", "use"].includes(element.tagName)) return ["rgba(0, 0, 0, 0)", 1];
    return [style.fill === "none" ? "rgba(0, 0, 0, 0)" : style.fill, +style.fillOpacity];
  };
  const canvas = parsed(getComputedStyle(document.body).backgroundColor);
  const behind = (element, x, y) => {
    const layers = [];
    for (const one of document.elementsFromPoint(x, y)) {
      const [fill, share] = painted(one);
      const colour = parsed(fill);
      if (!colour) { found.push(`colour: ${fill} of ${name(one)} is not understood`); continue; }
      if (one === element && element.ownerSVGElement) continue;
      colour[3] *= share * opacity(one);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), canvas);
  };
  for (const { parent, boxes } of texts) {
    const style = getComputedStyle(parent);
    const ink = parsed(parent.ownerSVGElement ? style.fill : style.color);
    if (!ink) { found.push(`colour: ${style.fill} of ${name(parent)} is not understood`); continue; }
    ink[3] *= opacity(parent) * (parent.ownerSVGElement ? +style.fillOpacity : 1);
    const box = boxes[0];
    const back = behind(parent, box.left + box.width / 2, box.top + box.height / 2);
    const [a, b] = [light(over(ink, back)), light(back)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < FAINT) found.push(`faint: ${name(parent)} has a contrast of ${contrast.toFixed(2)}`);
    const matrix = parent.ownerSVGElement ? parent.getScreenCTM() : null;
    const size = parseFloat(style.fontSize) * (matrix ? Math.hypot(matrix.b, matrix.d) : 1);
    if (size < SMALL) found.push(`small: ${name(parent)} has ${size.toFixed(1)} px`);
  }
  return [...new Set(found)];
})()
