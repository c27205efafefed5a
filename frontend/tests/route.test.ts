import { describe, expect, it } from "vitest";
import { parseEdit } from "../src/edits";
import { formatRange, parseRange } from "../src/ranges";
import { chatAddress, findAddress, likeAddress, pageTitle, parseRoute, readAddress, searchAddress } from "../src/route";
import { ALL_FEATURES, type Search } from "../src/search";

describe("addresses", () => {
  it("lead where they were made", () => {
    const bounds: Search["bounds"] = { density: [0.001, null], neuron: [null, 0.3] };
    const search: Search = { query: "golden & gate", by: "text", sort: "density", descending: true, bounds };
    for (const view of ["features", "map"] as const) {
      expect(parseRoute(searchAddress(view, search))).toEqual({ view, search, wrong: [] });
    }
    const all = { view: "features", search: ALL_FEATURES, wrong: [] };
    expect(parseRoute(searchAddress("features", ALL_FEATURES))).toEqual(all);
    const reading = { view: "read", text: "a + b = c?", unlike: "50 %", on: "mean", wrong: [] };
    expect(parseRoute(readAddress("a + b = c?", "50 %", "mean"))).toEqual(reading);
    const texts = ["feature:311=10max@answer", "feature:4+=-2.5", "feature:5*=0.5", "feature:6=0"];
    const edits = texts.map((text) => parseEdit(text)!);
    expect(parseRoute(chatAddress(edits))).toEqual({ view: "chat", edits, wrong: [] });
  });
  it("that are of nothing known are said to be so", () => {
    expect(parseRoute("#/nonsense")).toEqual({ view: "unknown", address: "#/nonsense" });
    expect(parseRoute("#/feature/x")).toEqual({ view: "unknown", address: "#/feature/x" });
    expect(parseRoute("")).toEqual({ view: "start" });
    expect(parseRoute("#/feature/12")).toEqual({ view: "feature", number: 12 });
  });
  it("with wrong parts keep the right ones", () => {
    const search = { ...ALL_FEATURES, query: "x" };
    const wrong = ["sort=colour", "by=magic", "density=hello"];
    expect(parseRoute(`#/features?q=x&${wrong.join("&")}`)).toEqual({ view: "features", search, wrong });
    const edits = [parseEdit("feature:3=2max")];
    expect(parseRoute("#/chat?edit=nonsense&edit=feature%3A3%3D2max&edit=feature%3A3%3D0&dose=2")).toEqual({
      view: "chat", edits, wrong: ["edit=nonsense", "edit=feature:3=0", "dose=2"],
    });
    expect(parseRoute("#/read?text=a&on=least")).toEqual({
      view: "read", text: "a", unlike: "", on: "max", wrong: ["on=least"],
    });
  });
  it("of a search by words, and of what is like a feature", () => {
    expect(findAddress("a b")).toBe("#/features?q=a+b");
    const search = { ...ALL_FEATURES, query: "7", by: "like" };
    expect(parseRoute(likeAddress(7))).toEqual({ view: "features", search, wrong: [] });
  });
  it("are the title of the browser's tab", () => {
    expect(pageTitle({ view: "feature", number: 7 }, undefined, "gpt2")).toBe("feature 7 - gpt2 - sonde");
    expect(pageTitle({ view: "start" }, "Start", undefined)).toBe("Start - sonde");
  });
});

describe("ranges", () => {
  it.each([["0.1..0.5", [0.1, 0.5]], ["..3", [null, 3]], ["1e-4..", [0.0001, null]]] as const)("%s", (text, range) => {
    expect(parseRange(text)).toEqual(range);
    expect(parseRange(formatRange([...range]))).toEqual(range);
  });
  it.each(["", "..", "1", "a..b", "1..2..3"])("%j is none", (text) => expect(parseRange(text)).toBeNull());
});
