// The answers of an exported page. It is opened from a folder, where a page may load scripts and pictures but may not fetch; so the data lie in scripts.
import type { FeatureList, FeatureRow, FeatureView, IndexInfo, MapView, StartView } from "./api";
import { STATISTICS, type Search } from "./route";

type Export = {
  index: IndexInfo;
  start: StartView;
  rows: FeatureRow[];
  atOnce: number; // features in one file
  map: MapView | null;
  points: string; // base64
  take: (place: number, packed: string) => void;
};
declare global {
  interface Window { sondeExport?: Export }
}

const given: Export | undefined = typeof window === "undefined" ? undefined : window.sondeExport;
const chunks = new Map<number, Promise<FeatureView[]>>();
const waiting = new Map<number, (packed: string) => void>();

async function unpack(packed: string): Promise<FeatureView[]> {
  const stream = new Blob([toBytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text()) as FeatureView[];
}

function toBytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function chunk(place: number): Promise<FeatureView[]> {
  const known = chunks.get(place);
  if (known) return known;
  const found = new Promise<string>((done, fail) => {
    waiting.set(place, done);
    const script = document.createElement("script");
    script.src = `data/features-${place}.js`;
    script.onerror = () => fail(new Error(`data/features-${place}.js is missing from this folder.`));
    document.head.append(script);
  }).then(unpack);
  chunks.set(place, found);
  return found;
}

const said = (row: FeatureRow) => `${row.feature} ${row.label ?? ""} ${row.example?.pieces.map((piece) => piece.text).join("") ?? ""}`.toLowerCase();

export function findRows(rows: FeatureRow[], { query, sort, descending, bounds }: Search): FeatureRow[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const value = (row: FeatureRow, name: (typeof STATISTICS)[number]) => row[name] ?? 0;
  const found = rows.filter((row) => {
    const text = words.length ? said(row) : "";
    return (
      words.every((word) => text.includes(word)) &&
      STATISTICS.every((name) => {
        const [low, high] = bounds[name] ?? [null, null];
        return (low === null || value(row, name) >= low) && (high === null || value(row, name) <= high);
      })
    );
  });
  if (sort !== "best" && sort !== "number") found.sort((one, other) => value(one, sort) - value(other, sort));
  return descending ? found.reverse() : found;
}

export const frozen = given && {
  getIndex: async (): Promise<IndexInfo> => given.index,
  getStart: async (): Promise<StartView> => given.start,
  async getFeatures(search: Search, offset: number, limit: number): Promise<FeatureList> {
    const found = findRows(given.rows, search);
    return { total: found.length, features: found.slice(offset, offset + limit) };
  },
  getNumbers: async (search: Search): Promise<number[]> => findRows(given.rows, search).map((row) => row.feature),
  async getFeature(number: number): Promise<FeatureView> {
    if (number >= given.index.n_features) throw new Error(`there is no feature ${number}: the index has features 0 to ${given.index.n_features - 1}`);
    return (await chunk(Math.floor(number / given.atOnce)))[number % given.atOnce]!;
  },
  async getMap(): Promise<MapView> {
    if (!given.map) throw new Error("This export has no map.");
    return given.map;
  },
  getPoints: async (): Promise<ArrayBuffer> => toBytes(given.points).buffer,
};

if (given) given.take = (place, packed) => { waiting.get(place)?.(packed); waiting.delete(place); };
