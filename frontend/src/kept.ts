// What outlives a view and a reload: values by name, in memory and mirrored in the tab's own storage. What belongs to a
// visit (an entry of the browser's history: how far it was scrolled, what was chosen) is kept with that visit.
const MOST_VISITS = 50;

export class Kept {
  #values: Record<string, unknown> = {};
  #live: Record<string, () => unknown> = {};
  #name = "";

  constructor(private readonly storage: () => Storage | null) {}

  // Begins with what was kept of this index; what was kept of another stays where it is.
  open(index: string): void {
    this.#name = `sonde ${index}`;
    try {
      this.#values = JSON.parse(this.storage()?.getItem(this.#name) ?? "{}") as Record<string, unknown>;
    } catch {
      this.#values = {};
    }
  }
  get<T>(name: string, otherwise: T): T {
    return (this.#values[name] as T | undefined) ?? otherwise;
  }
  set(name: string, value: unknown): void {
    this.#values[name] = value;
  }
  // A value that is read when all is written, as it may change often.
  keep(name: string, read: () => unknown): void {
    this.#live[name] = read;
  }
  write(): void {
    if (!this.#name) return;
    for (const [name, read] of Object.entries(this.#live)) this.#values[name] = read();
    try {
      this.storage()?.setItem(this.#name, JSON.stringify(this.#values));
    } catch {
      // Storage is full, or the browser has none: it is kept until the page is left.
    }
  }

  recall<T>(visit: string, name: string, otherwise: T): T {
    return (this.#visits()[visit]?.[name] as T | undefined) ?? otherwise;
  }
  remember(visit: string, name: string, value: unknown): void {
    const { [visit]: before, ...others } = this.#visits();
    const all = [...Object.entries(others), [visit, { ...before, [name]: value }] as const];
    this.#values["visits"] = Object.fromEntries(all.slice(-MOST_VISITS));
  }
  #visits(): Record<string, Record<string, unknown>> {
    return this.get("visits", {});
  }
}

const ownStorage = (): Storage | null => (typeof sessionStorage === "undefined" ? null : sessionStorage);
export const kept = new Kept(ownStorage);
