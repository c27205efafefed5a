// Addresses of the page's views: what is shown is kept in the address, so that it can be shared and survives a reload.
import { formatEdit, parseEdit } from "./edits";
import { formatRange, parseRange } from "./ranges";
import { ALL_FEATURES, STATISTICS, type Bounds, type Search } from "./search";
import type { Edit, RankBy } from "./types";

export type Route =
  | { view: "start" }
  | { view: "features"; search: Search }
  | { view: "feature"; number: number }
  | { view: "map"; search: Search }
  | { view: "read"; text: string; unlike: string; on: RankBy }
  | { view: "chat"; edits: Edit[] }
  | { view: "unknown"; address: string };

const SORTS = ["best", "number", ...STATISTICS] as const;

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

function oneOf<T extends string>(value: string | null, options: readonly T[]): T {
  return options.find((option) => option === value) ?? options[0]!;
}

// The title of the browser's tab.
export function pageTitle(route: Route, viewName: string | undefined, model: string | undefined): string {
  const place = route.view === "feature" ? `feature ${route.number}` : viewName;
  return [place, model, "sonde"].filter(Boolean).join(" - ");
}

const address = (view: string, search: string) => `#/${view}${search ? `?${search}` : ""}`;

export const findAddress = (query: string) => searchAddress("features", { ...ALL_FEATURES, query });
export const likeAddress = (number: number) =>
  searchAddress("features", { ...ALL_FEATURES, query: String(number), by: "like" });

export function searchAddress(view: "features" | "map", { query, by, sort, descending, bounds }: Search): string {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  if (query && by !== "words") parameters.set("by", by);
  if (sort !== "best") parameters.set("sort", sort);
  if (descending) parameters.set("descending", "true");
  for (const [name, range] of Object.entries(bounds)) parameters.set(name, formatRange(range));
  return address(view, parameters.toString());
}

export function readAddress(text: string, unlike: string, on: RankBy): string {
  const parameters = new URLSearchParams();
  if (text) parameters.set("text", text);
  if (unlike) parameters.set("unlike", unlike);
  if (on !== "max") parameters.set("on", on);
  return address("read", parameters.toString());
}

export const chatAddress = (edits: Edit[]) =>
  address("chat", edits.map((edit) => `edit=${encodeURIComponent(formatEdit(edit))}`).join("&"));
