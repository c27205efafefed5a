// Visits: the entries of the browser's history. A new address that a person goes to is a new visit, and begins at its
// top; one that they come back to, also by a reload, is shown as it was left.
import { kept } from "./kept";
import { parseRoute } from "./route";

const PATIENCE_MS = 5000; // within which a view must have grown as long as it was
let now = ""; // the visit that is shown

// The last address of each view, where the links of the header lead back to.
export const lastAddresses = $state<Record<string, string>>({});

type State = { visit?: string } | null;

// The name of the visit that the browser shows, and whether it is a new one.
function atVisit(): boolean {
  const known = (history.state as State)?.visit;
  now = known ?? `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
  if (!known) history.replaceState({ visit: now }, "");
  noteAddress(location.hash);
  return !known;
}

function noteAddress(address: string): void {
  lastAddresses[parseRoute(address).view] = address;
}

// The address changes with what is typed, without a visit of its own.
export function replaceAddress(address: string): void {
  history.replaceState(history.state, "", address);
  noteAddress(address);
}

export const thisVisit = (): string => now;
export const remember = (name: string, value: unknown): void => kept.remember(now, name, value);
export const recall = <T>(name: string, otherwise: T): T => kept.recall(now, name, otherwise);

export function beginVisits(): void {
  history.scrollRestoration = "manual";
  Object.assign(lastAddresses, kept.get("addresses", {}));
  kept.keep("addresses", () => ({ ...lastAddresses }));
  atVisit();
  showAsLeft();
  const leave = () => {
    remember("scrolled", scrollY);
    kept.write();
  };
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", leave);
}

// At a change of the address: the visit before is as the window still shows it.
export function nextVisit(): void {
  remember("scrolled", scrollY);
  if (atVisit()) scrollTo(0, 0);
  else showAsLeft();
  kept.write();
}

// Scrolls to where this visit was left, as soon as what it asks for has made it as long; a person who scrolls ends it.
function showAsLeft(): void {
  const [visit, wanted, end] = [now, recall("scrolled", 0), performance.now() + PATIENCE_MS];
  let touched = false;
  const touch = () => (touched = true);
  const events = ["wheel", "pointerdown", "keydown"];
  for (const event of events) addEventListener(event, touch, { once: true });
  const step = () => {
    const isOver = touched || visit !== now || performance.now() > end;
    if (!isOver) scrollTo(0, wanted);
    if (isOver || Math.abs(scrollY - wanted) < 2) for (const event of events) removeEventListener(event, touch);
    else requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
