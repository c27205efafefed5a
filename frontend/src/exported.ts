// The answers of an exported page. It is opened from a folder, where a page may load scripts and pictures but may not
// fetch; so its data are scripts.
import { findRows, type Search } from "./search";
import type { FeatureList, FeatureRow, FeatureView, FoundNumbers, IndexInfo, MapView, StartView } from "./types";

export type Export = {
  index: IndexInfo;
  start: StartView;
  rows: FeatureRow[];
  atOnce: number; // features in one file
  map: MapView | null;
  points: string; // base64
  take: (place: number, packed: string) => void; // called by each file of features
};
declare global {
  interface Window {
    sondeExport?: Export;
  }
}

const data = typeof window === "undefined" ? undefined : window.sondeExport;
export const exported = data && answersOf(data);

export function answersOf(data: Export) {
  const files = new Map<number, Promise<FeatureView[]>>();
  const waiting = new Map<number, (packed: string) => void>();
  data.take = (place, packed) => waiting.get(place)?.(packed);

  function loadFile(place: number): Promise<FeatureView[]> {
    const known = files.get(place);
    if (known) return known;
    const loaded = new Promise<string>((done, fail) => {
      waiting.set(place, done);
      const script = document.createElement("script");
      script.src = `data/features-${place}.js`;
      script.onerror = () => fail(new Error(`data/features-${place}.js is missing from this folder.`));
      document.head.append(script);
    }).then(unpack);
    files.set(place, loaded);
    return loaded;
  }

  return {
    getIndex: async (): Promise<IndexInfo> => data.index,
    getStart: async (): Promise<StartView> => data.start,
    async getFeatures(search: Search, offset: number, limit: number): Promise<FeatureList> {
      const found = findRows(data.rows, search);
      return { total: found.length, more: false, features: found.slice(offset, offset + limit) };
    },
    getNumbers: async (search: Search): Promise<FoundNumbers> =>
      ({ more: false, numbers: findRows(data.rows, search).map((row) => row.feature) }),
    async getFeature(number: number): Promise<FeatureView> {
      const n = data.index.n_features;
      if (number >= n) throw new Error(`there is no feature ${number}: the index has features 0 to ${n - 1}`);
      return (await loadFile(Math.floor(number / data.atOnce)))[number % data.atOnce]!;
    },
    async getMap(): Promise<MapView> {
      if (!data.map) throw new Error("This export has no map.");
      return data.map;
    },
    getPoints: async (): Promise<ArrayBuffer> => toBytes(data.points).buffer,
  };
}

async function unpack(packed: string): Promise<FeatureView[]> {
  const stream = new Blob([toBytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text()) as FeatureView[];
}

function toBytes(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
