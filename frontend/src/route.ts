// Addresses of the page's views: what is shown is kept in the address, so that it can be shared and survives a reload.
import { distinctEdits, formatEdit } from "./edits";
import { formatRange, parseRange } from "./ranges";
import { ALL_FEATURES, STATISTICS, type Bounds, type Search } from "./search";
import type { Edit, RankBy } from "./types";

export type Route =
  | { view: "start" }
  | { view: "features"; search: Search; wrong: string[] }
  | { view: "feature"; number: number }
  | { view: "map"; search: Search; wrong: string[] }
  | { view: "read"; text: string; unlike: string; on: RankBy; wrong: string[] }
  | { view: "chat"; edits: Edit[]; wrong: string[] }
  | { view: "unknown"; address: string };
// `wrong`: parts of the address that cannot be read, as they stand there; a view begins without them and names them.

const SORTS = ["best", "number", ...STATISTICS] as const;

export function parseRoute(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?");
  const parameters = new URLSearchParams(search.replace(/\+(?==)/g, "%2B"));
  if (path === "") return { view: "start" };
  if (path === "features" || path === "map") {
    return { view: path, search: parseSearch(parameters), wrong: wrongParts(parameters, SEARCH_PARTS) };
  }
  const feature = /^feature\/(\d+)$/.exec(path);
  if (feature) return { view: "feature", number: Number(feature[1]) };
  if (path === "read") {
    const [text, unlike] = [parameters.get("text") ?? "", parameters.get("unlike") ?? ""];
    const on = oneOf(parameters.get("on"), RANKS);
    return { view: "read", text, unlike, on, wrong: wrongParts(parameters, READ_PARTS) };
  }
  if (path === "chat") {
    const { edits, wrong } = distinctEdits(parameters.getAll("edit"));
    const wrongEdits = wrong.map((text) => `edit=${text}`);
    return { view: "chat", edits, wrong: [...wrongEdits, ...wrongParts(parameters, CHAT_PARTS)] };
  }
  return { view: "unknown", address: hash };
}

type Parts = Record<string, (text: string) => boolean>; // name -> whether a value can be read
const isOneOf = (options: readonly string[]) => (text: string) => options.includes(text);
const isAny = () => true;
const BY = ["words", "text", "like", "vector"] as const;
const RANKS = ["max", "last", "mean"] as const;
const SEARCH_PARTS: Parts = {
  q: isAny, by: isOneOf(BY), sort: isOneOf(SORTS), descending: isOneOf(["true", "false"]),
  ...Object.fromEntries(STATISTICS.map((name) => [name, (text: string) => parseRange(text) !== null])),
};
const READ_PARTS: Parts = { text: isAny, unlike: isAny, on: isOneOf(RANKS) };
const CHAT_PARTS: Parts = { edit: isAny };

const wrongParts = (parameters: URLSearchParams, parts: Parts): string[] =>
  [...parameters].filter(([name, text]) => !parts[name]?.(text)).map(([name, text]) => `${name}=${text}`);

function parseSearch(parameters: URLSearchParams): Search {
  const bounds: Bounds = {};
  for (const name of STATISTICS) {
    const range = parseRange(parameters.get(name) ?? "");
    if (range) bounds[name] = range;
  }
  return {
    query: parameters.get("q") ?? "",
    by: oneOf(parameters.get("by"), BY),
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
