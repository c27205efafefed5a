import { afterEach, describe, expect, it, vi } from "vitest";
import { answersOf, type Export } from "../src/exported";
import { ALL_FEATURES } from "../src/search";
import { feature, info, row } from "./fixtures";

const base64 = (bytes: ArrayBuffer) => btoa(String.fromCharCode(...new Uint8Array(bytes)));

async function pack(value: object): Promise<string> {
  const stream = new Blob([JSON.stringify(value)]).stream().pipeThrough(new CompressionStream("gzip"));
  return base64(await new Response(stream).arrayBuffer());
}

// Three features in files of two; the second file is missing.
async function exportOf(more: Partial<Export> = {}) {
  const packed = await pack([feature(0), feature(1)]);
  const rows = [row(0, { density: 0.2 }), row(1), row(2, { density: 0.3 })];
  const data: Export = {
    index: info(3), start: {} as Export["start"], rows, atOnce: 2, map: null, points: "", take: () => {}, ...more,
  };
  const loaded: string[] = [];
  const append = (script: { src: string; onerror: () => void }) => {
    loaded.push(script.src);
    if (script.src === "data/features-0.js") data.take(0, packed);
    else script.onerror();
  };
  vi.stubGlobal("document", { createElement: () => ({}), head: { append } });
  return { answers: answersOf(data), loaded };
}
afterEach(() => vi.unstubAllGlobals());

describe("an exported page", () => {
  it("answers what it is and what is searched for from its rows", async () => {
    const { answers } = await exportOf();
    expect((await answers.getIndex()).n_features).toBe(3);
    const search = { ...ALL_FEATURES, sort: "density", descending: true } as const;
    expect(await answers.getNumbers(search)).toEqual({ more: false, numbers: [2, 0, 1] });
    const found = await answers.getFeatures(search, 1, 1);
    expect([found.total, found.features.map((one) => one.feature)]).toEqual([3, [0]]);
  });
  it("loads the file that a feature is in, once", async () => {
    const { answers, loaded } = await exportOf();
    const shown = await Promise.all([answers.getFeature(1), answers.getFeature(0)]);
    expect(shown.map((view) => view.feature)).toEqual([1, 0]);
    expect(loaded).toEqual(["data/features-0.js"]);
  });
  it("says which feature or file is not there", async () => {
    const { answers } = await exportOf();
    await expect(answers.getFeature(3)).rejects.toThrow("features 0 to 2");
    await expect(answers.getFeature(2)).rejects.toThrow("data/features-1.js is missing");
  });
  it("has a map where the index has one", async () => {
    const { answers } = await exportOf();
    await expect(answers.getMap()).rejects.toThrow("no map");
    const map = { n_features: 3, clusters: [] };
    const withMap = (await exportOf({ map, points: base64(Float32Array.of(1.5).buffer) })).answers;
    expect(await withMap.getMap()).toEqual(map);
    expect([...new Float32Array(await withMap.getPoints())]).toEqual([1.5]);
  });
});
