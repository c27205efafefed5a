// Where in the page one is: kept in the address, so that it can be shared and survives a reload.
import type { Edit, On, Sort } from "./api";

export type Route =
  | { view: "features"; query: string; sort: Sort }
  | { view: "feature"; number: number }
  | { view: "read"; text: string; unlike: string; on: On }
  | { view: "chat"; edits: Edit[] }
  | { view: "unknown"; address: string };

export function parseRoute(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?");
  const parameters = new URLSearchParams(search.replace(/\+(?==)/g, "%2B"));
  if (path === "" || path === "features") {
    const sort = parameters.get("sort");
    return {
      view: "features",
      query: parameters.get("q") ?? "",
      sort: sort === "density" || sort === "maximum" ? sort : "number",
    };
  }
  const feature = /^feature\/(\d+)$/.exec(path);
  if (feature) return { view: "feature", number: Number(feature[1]) };
  if (path === "read") {
    const on = parameters.get("on");
    return {
      view: "read",
      text: parameters.get("text") ?? "",
      unlike: parameters.get("unlike") ?? "",
      on: on === "last" || on === "mean" ? on : "max",
    };
  }
  if (path === "chat") {
    const edits = parameters.getAll("edit").map(parseEdit);
    return { view: "chat", edits: edits.filter((edit) => edit !== null) };
  }
  return { view: "unknown", address: hash };
}

export function featuresAddress(query: string, sort: Sort): string {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  if (sort !== "number") parameters.set("sort", sort);
  const search = parameters.toString();
  return `#/${search ? `features?${search}` : ""}`;
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
  return `feature:${edit.feature}${sign}${edit.value}${unit}${where}`;
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
