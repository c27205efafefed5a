// Files that the browser makes and saves.
const STYLES = [
  "fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family", "font-weight",
  "text-anchor",
];

export function saveText(name: string, text: string, type: string): void {
  saveBlob(name, new Blob([text], { type }));
}

export async function savePng(name: string, drawing: SVGSVGElement | HTMLCanvasElement): Promise<void> {
  const canvas = drawing instanceof SVGSVGElement ? await toCanvas(drawing) : drawing;
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done));
  if (blob) saveBlob(name, blob);
}

// A drawing with its colours and fonts written into it, as the page's style sheet does not go with it.
export function standalone(svg: SVGSVGElement): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const originals = [svg, ...svg.querySelectorAll<SVGElement>("*")];
  [copy, ...copy.querySelectorAll<SVGElement>("*")].forEach((node, place) => {
    const style = getComputedStyle(originals[place]!);
    for (const name of STYLES) node.style.setProperty(name, style.getPropertyValue(name));
    node.removeAttribute("class");
  });
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.style.background = getComputedStyle(document.documentElement).backgroundColor;
  return new XMLSerializer().serializeToString(copy);
}

// At twice its size, for sharp screens and print.
async function toCanvas(svg: SVGSVGElement): Promise<HTMLCanvasElement> {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(svg))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

function saveBlob(name: string, blob: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
