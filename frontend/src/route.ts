// Where in the page one is: kept in the address, so that it can be shared and survives a reload.
import type { AskFeatures, Edit, On } from "./api";
import { formatEdit, NUMBER, parseEdit } from "./edits";

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
const RANGE = new RegExp(`^ *(${NUMBER})? *\\.\\. *(${NUMBER})? *$`);

export function parseRange(text: string): [number | null, number | null] | null {
  const [all, low, high] = RANGE.exec(text) ?? [];
  if (all === undefined || (low ?? high) === undefined) return null;
  return [low === undefined ? null : Number(low), high === undefined ? null : Number(high)];
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
