"""What a page is audited for, as JavaScript that returns a list of complaints."""

# What the rules of axe-core named label, image-alt, button-name, link-name, duplicate-id,
# region, list, html-has-lang, document-title, svg-img-alt and th-has-data-cells look at.
CHECKS = """() => {
  const wrong = [];
  const named = (node) => (node.getAttribute("aria-label") ?? "").trim()
    || node.textContent.trim() || (node.labels && node.labels.length);
  for (const node of document.querySelectorAll("input, select, textarea"))
    if (!node.labels.length && !node.getAttribute("aria-label")) wrong.push(`label ${node.id}`);
  for (const node of document.querySelectorAll("button, a, summary, [role=region], [role=img]"))
    if (!named(node)) wrong.push(`name ${node.outerHTML}`);
  for (const node of document.querySelectorAll("img:not([alt])")) wrong.push("alt");
  for (const node of document.querySelectorAll("svg:not([role=img])")) wrong.push("svg");
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids) if (ids.filter((other) => other === id).length > 1) wrong.push(`id ${id}`);
  for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const name of ["aria-labelledby", "aria-describedby"])
      for (const id of (node.getAttribute(name) ?? "").split(" ").filter(Boolean))
        if (!ids.includes(id)) wrong.push(`reference ${id}`);
  for (const node of document.querySelectorAll("th:not([scope])")) wrong.push("scope");
  if (document.querySelectorAll("main").length !== 1) wrong.push("main");
  if (document.querySelectorAll("h1").length !== 1) wrong.push("h1");
  if (!document.documentElement.lang || !document.title) wrong.push("language or title");
  return wrong;
}"""
# WCAG's contrast of every text that is seen against what lies behind it.
CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const wrong = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("noscript"))
      continue;
    if (node.closest('[aria-disabled=true]')) continue;
    const style = getComputedStyle(node);
    const front = parse(node instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [light(front), light(behind(node))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) wrong.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim()}`);
  }
  return wrong;
}"""
