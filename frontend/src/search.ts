// A search for features: what it asks for, in a request to the server, and its results where all rows are in the page.
import { grouped } from "./format";
import { parseRange, type Range } from "./ranges";
import type { AskFeatures, FeatureRow } from "./types";

export const STATISTICS = ["density", "maximum", "mean", "same_word", "neuron"] as const;
export type Statistic = (typeof STATISTICS)[number];
export type Bounds = Partial<Record<Statistic, Range>>;
export type Search = Required<Pick<AskFeatures, "query" | "by" | "sort" | "descending">> & { bounds: Bounds };

export const ALL_FEATURES: Search = { query: "", by: "words", sort: "best", descending: false, bounds: {} };

export function requestParameters({ query, by, sort, descending, bounds }: Search): URLSearchParams {
  const parameters = new URLSearchParams({ query, by, sort, descending: String(descending) });
  for (const name of STATISTICS) {
    const [low, high] = bounds[name] ?? [null, null];
    if (low !== null) parameters.set(`${name}_min`, String(low));
    if (high !== null) parameters.set(`${name}_max`, String(high));
  }
  return parameters;
}

// How many features a search found. Where a search gives no more than its best, their number is no count.
export function countText(total: number, more: boolean, { query, sort, bounds }: Search): string {
  const order = sort === "best" ? ", best first" : "";
  if (!query.trim()) return `${grouped(total)} ${total === 1 ? "feature" : "features"}`;
  if (!more) return `${grouped(total)} found${order}`;
  const isBounded = Object.keys(bounds).length > 0;
  if (isBounded) return `${grouped(total)} within the bounds, among the best that are looked at${order}`;
  return `more than ${grouped(total)} found, the best ${grouped(total)} listed`;
}

// Bounds after a person has typed a range: what cannot be read yet changes nothing.
export function changeBound(bounds: Bounds, name: Statistic, text: string): Bounds {
  const range = parseRange(text.trim());
  const { [name]: _, ...others } = bounds;
  if (range) return { ...others, [name]: range };
  return text.trim() ? bounds : others;
}

// The order after a click on a column: statistics begin with the largest, and a second click turns the order around.
export function orderBy(search: Search, column: Search["sort"]): Pick<Search, "sort" | "descending"> {
  const again = search.sort === column;
  return { sort: column, descending: again ? !search.descending : column !== "number" && column !== "best" };
}

export function findRows(rows: FeatureRow[], { query, sort, descending, bounds }: Search): FeatureRow[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const value = (row: FeatureRow, name: Statistic) => row[name] ?? 0;
  const isWithin = (row: FeatureRow, name: Statistic) => {
    const [low, high] = bounds[name] ?? [null, null];
    return (low === null || value(row, name) >= low) && (high === null || value(row, name) <= high);
  };
  const holdsWords = (row: FeatureRow) => {
    const text = words.length ? searchedText(row) : "";
    return words.every((word) => text.includes(word));
  };
  const found = rows.filter((row) => holdsWords(row) && STATISTICS.every((name) => isWithin(row, name)));
  if (sort === "best" && words.length) found.sort((row, other) => wholeness(other, words) - wholeness(row, words));
  else if (sort !== "best" && sort !== "number") found.sort((row, other) => value(row, sort) - value(other, sort));
  return descending ? found.reverse() : found;
}

// 2 where a row holds the words as a phrase, 1 where each is there as a whole word, 0 where they are parts of others.
function wholeness(row: FeatureRow, words: string[]): number {
  const text = searchedText(row).split(/[^\p{L}\p{N}]+/u);
  if (` ${text.join(" ")} `.includes(` ${words.join(" ")} `)) return 2;
  return words.every((word) => text.includes(word)) ? 1 : 0;
}

const searchedText = ({ feature, label, example }: FeatureRow) =>
  `${feature} ${label ?? ""} ${example?.pieces.map((piece) => piece.text).join("") ?? ""}`.toLowerCase();
