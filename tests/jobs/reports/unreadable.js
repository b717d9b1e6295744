// Evaluates to the list of everything on the page that a person could not read, as pairs of a text and a reason.
(() => {
  const faults = [];
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (first, second) => {
    const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const isVisible = (element) => element.getClientRects().length && element.getBoundingClientRect().width > 0;
  for (const e of document.querySelectorAll("body *")) {
    const hasText = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!hasText || !isVisible(e) || e.tagName === "title") continue;
    const style = getComputedStyle(e), inPicture = e instanceof SVGElement;
    const ratio = contrast(rgb(inPicture ? style.fill : style.color), background(e));
    if (ratio < 4.5) faults.push([e.textContent.trim().slice(0, 40), "contrast " + ratio.toFixed(2)]);
    const scale = inPicture ? e.getScreenCTM().a : 1, size = parseFloat(style.fontSize) * scale;
    if (size < 10.5) faults.push([e.textContent.trim().slice(0, 40), "letters of " + size.toFixed(1) + " px"]);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect(), name = svg.getAttribute("aria-label") || "";
    if (!isVisible(svg) || frame.height < 20) faults.push([name, "a picture of no size"]);
    if (svg.getAttribute("role") !== "img" || name.length < 10) faults.push([name, "no alternative text"]);
    for (const mark of svg.querySelectorAll(".fill, .beyond"))
      if (contrast(rgb(getComputedStyle(mark).fill), background(svg)) < 3) faults.push([name, "a pale mark"]);
    const boxes = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([text, box], i) => {
      if (box.left < frame.left - 2 || box.right > frame.right + 2 || box.bottom > frame.bottom + 4)
        faults.push([name, "cut: " + text]);
      for (const [second, b] of boxes.slice(i + 1))
        if (box.left < b.right - 1 && b.left < box.right - 1 && box.top < b.bottom - 4 && b.top < box.bottom - 4)
          faults.push([name, text + " over " + second]);
    });
  }
  const page = document.documentElement;
  const overflow = page.scrollWidth - page.clientWidth;
  if (overflow > 0) faults.push(["page", "scrolls sideways by " + overflow]);
  return faults;
})()
