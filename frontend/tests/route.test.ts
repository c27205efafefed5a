import { describe, expect, it } from "vitest";
import { parseEdit } from "../src/edits";
import { chatAddress, NOTHING, parseRoute, readAddress, searchAddress, type Search } from "../src/route";

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
