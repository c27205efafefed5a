// Where in the page one is: kept in the address, so that it can be shared and survives a reload.
import type { AskFeatures, Edit, On } from "./api";

export type Search = Required<Pick<AskFeatures, "query" | "by" | "sort" | "descending">> & { bounds: Bounds };
export const STATISTICS = ["density", "maximum", "mean", "same_word", "neuron"] as const;
export type Statistic = (typeof STATISTICS)[number];
export type Bounds = Partial<Record<Statistic, [number | null, number | null]>>;

export type Route =
  | { view: "start" }
  | { view: "features"; search: Search }
  | { view: "feature"; number: number }
  | { view: "map"; search: Search }
  | { view: "read"; text: string; unlike: string; on: On }
  | { view: "chat"; edits: Edit[] }
  | { view: "unknown"; address: string };

export const NOTHING: Search = { query: "", by: "words", sort: "best", descending: false, bounds: {} };
const SORTS = ["best", "number", ...STATISTICS] as const;

function oneOf<T extends string>(value: string | null, options: readonly T[]): T {
  return options.find((option) => option === value) ?? options[0]!;
}

export function parseRoute(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?");
  const parameters = new URLSearchParams(search.replace(/\+(?==)/g, "%2B"));
  if (path === "") return { view: "start" };
  if (path === "features" || path === "map") return { view: path, search: parseSearch(parameters) };
  const feature = /^feature\/(\d+)$/.exec(path);
  if (feature) return { view: "feature", number: Number(feature[1]) };
  if (path === "read") {
    const on = oneOf(parameters.get("on"), ["max", "last", "mean"] as const);
    return { view: "read", text: parameters.get("text") ?? "", unlike: parameters.get("unlike") ?? "", on };
  }
  if (path === "chat") {
    const edits = parameters.getAll("edit").map(parseEdit);
    return { view: "chat", edits: edits.filter((edit) => edit !== null) };
  }
  return { view: "unknown", address: hash };
}

function parseSearch(parameters: URLSearchParams): Search {
  const bounds: Bounds = {};
  for (const name of STATISTICS) {
    const range = parseRange(parameters.get(name) ?? "");
    if (range) bounds[name] = range;
  }
  return {
    query: parameters.get("q") ?? "",
    by: oneOf(parameters.get("by"), ["words", "text", "like", "vector"] as const),
    sort: oneOf(parameters.get("sort"), SORTS),
    descending: parameters.get("descending") === "true",
    bounds,
  };
}

// A range as it is written on the command line: 0.001..0.01, ..0.01 or 0.5..
export function parseRange(text: string): [number | null, number | null] | null {
  const [low = "", high, more] = text.split("..");
  if (high === undefined || more !== undefined || text === "..") return null;
  const [from, to] = [low, high].map((bound) => (bound.trim() === "" ? null : Number(bound))) as [number | null, number | null];
  return Number.isNaN(from) || Number.isNaN(to) ? null : [from, to];
}

export const formatRange = ([low, high]: [number | null, number | null]) => `${low ?? ""}..${high ?? ""}`;

export function searchAddress(view: "features" | "map", { query, by, sort, descending, bounds }: Search): string {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  if (query && by !== "words") parameters.set("by", by);
  if (sort !== "best") parameters.set("sort", sort);
  if (descending) parameters.set("descending", "true");
  for (const [name, range] of Object.entries(bounds)) parameters.set(name, formatRange(range));
  const search = parameters.toString();
  return `#/${view}${search ? `?${search}` : ""}`;
}

export function readAddress(text: string, unlike: string, on: On): string {
  const parameters = new URLSearchParams();
  if (text) parameters.set("text", text);
  if (unlike) parameters.set("unlike", unlike);
  if (on !== "max") parameters.set("on", on);
  const search = parameters.toString();
  return `#/read${search ? `?${search}` : ""}`;
}

export function chatAddress(edits: Edit[]): string {
  const search = edits.map((edit) => `edit=${encodeURIComponent(formatEdit(edit))}`).join("&");
  return `#/chat${search ? `?${search}` : ""}`;
}

// Edits as they are written on the command line: feature:311=10max@answer
export function formatEdit(edit: Edit): string {
  const sign = { clamp: "=", ablate: "=", add: "+=", scale: "*=" }[edit.op];
  const unit = edit.unit === "max" ? "max" : "";
  const where = edit.where === "all" ? "" : `@${edit.where}`;
  return `feature:${edit.feature}${sign}${edit.op === "ablate" ? 0 : edit.value}${unit}${where}`;
}

export function parseEdit(text: string): Edit | null {
  const match = /^feature:(\d+)(=|\+=|\*=)([-+]?[\d.]+(?:e[-+]?\d+)?)(max)?(?:@(prompt|answer|all))?$/i.exec(text.trim());
  if (!match) return null;
  const value = Number(match[3]);
  if (!Number.isFinite(value)) return null;
  const op = match[2] === "+=" ? "add" : match[2] === "*=" ? "scale" : value === 0 && !match[4] ? "ablate" : "clamp";
  return {
    op,
    feature: Number(match[1]),
    value,
    unit: match[4] ? "max" : "raw",
    where: (match[5] as Edit["where"] | undefined) ?? "all",
  };
}
