import { describe, expect, it } from "vitest";
import { chatAddress, formatEdit, formatRange, NOTHING, parseEdit, parseRange, parseRoute, readAddress, searchAddress, type Search } from "../src/route";

describe("addresses", () => {
  it("lead where they were made", () => {
    const search: Search = { query: "golden & gate", by: "text", sort: "density", descending: true, bounds: { density: [0.001, null], neuron: [null, 0.3] } };
    for (const view of ["features", "map"] as const) expect(parseRoute(searchAddress(view, search))).toEqual({ view, search });
    expect(parseRoute(searchAddress("features", NOTHING))).toEqual({ view: "features", search: NOTHING });
    expect(parseRoute(readAddress("a + b = c?", "50 %", "mean"))).toEqual({ view: "read", text: "a + b = c?", unlike: "50 %", on: "mean" });
    const edits = [parseEdit("feature:311=10max@answer")!, parseEdit("feature:4+=-2.5")!, parseEdit("feature:5*=0.5")!, parseEdit("feature:6=0")!];
    expect(parseRoute(chatAddress(edits))).toEqual({ view: "chat", edits });
  });
  it("that are of nothing known are said to be so", () => {
    expect(parseRoute("#/nonsense")).toEqual({ view: "unknown", address: "#/nonsense" });
    expect(parseRoute("#/feature/x")).toEqual({ view: "unknown", address: "#/feature/x" });
    expect(parseRoute("")).toEqual({ view: "start" });
    expect(parseRoute("#/feature/12")).toEqual({ view: "feature", number: 12 });
  });
  it("with wrong parts keep the right ones", () => {
    expect(parseRoute("#/features?q=x&sort=colour&by=magic&density=hello")).toEqual({ view: "features", search: { ...NOTHING, query: "x" } });
    expect(parseRoute("#/chat?edit=nonsense&edit=feature%3A3%3D2max")).toEqual({ view: "chat", edits: [parseEdit("feature:3=2max")] });
  });
});

describe("edits", () => {
  it.each(["feature:311=10max@answer", "feature:3+=-1.5", "feature:3*=2@prompt", "feature:9=0", "feature:1=1e-05max"])("%s is read and written alike", (text) => {
    expect(parseEdit(formatEdit(parseEdit(text)!))).toEqual(parseEdit(text));
  });
  it.each(["", "feature:x=1", "feature:1=", "feature:1=1.2.3", "feature:1==2", "311=2"])("%j is none", (text) => expect(parseEdit(text)).toBeNull());
});

describe("ranges", () => {
  it.each([["0.1..0.5", [0.1, 0.5]], ["..3", [null, 3]], ["1e-4..", [0.0001, null]]] as const)("%s", (text, range) => {
    expect(parseRange(text)).toEqual(range);
    expect(parseRange(formatRange([...range]))).toEqual(range);
  });
  it.each(["", "..", "1", "a..b", "1..2..3"])("%j is none", (text) => expect(parseRange(text)).toBeNull());
});
