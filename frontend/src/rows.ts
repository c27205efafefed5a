// Which rows of a long table are in view. A browser cannot make an element as high as a million rows, so beyond a
// height the rows pass more quickly than the scroll bar.
export const HIGHEST = 8_000_000; // pixels; Firefox stops at 17.9 million

export type Window = { first: number; count: number; top: number; height: number };

// `height` is that of all rows as they scroll; the rows in view begin at `top` within it.
export function inView(total: number, row: number, view: number, scrolled: number): Window {
  const height = Math.min(total * row, HIGHEST);
  const count = Math.min(total, Math.ceil(view / row) + 1);
  const scrollable = Math.max(1, height - view);
  const part = Math.min(1, Math.max(0, scrolled / scrollable));
  const above = part * Math.max(0, total * row - view); // pixels of all rows above the view, at their full height
  const first = Math.max(0, Math.min(total - count, Math.floor(above / row)));
  return { first, count, top: Math.min(scrolled, scrollable) - (above - first * row), height };
}

// A row of a table or list that does, on a click anywhere in it, what its link or button marked data-opens does, or its
// first one; clicks on other links and controls of the row are theirs, and text can be selected.
export function opensRow(row: HTMLElement): { destroy: () => void } {
  const click = (event: MouseEvent) => {
    const isOther = (event.target as Element).closest("a, button, input, select, summary") !== null;
    if (isOther || event.defaultPrevented || !(getSelection()?.isCollapsed ?? true)) return;
    (row.querySelector<HTMLElement>("[data-opens]") ?? row.querySelector<HTMLElement>("a, button"))?.click();
  };
  row.addEventListener("click", click);
  row.classList.add("opens");
  return { destroy: () => row.removeEventListener("click", click) };
}
