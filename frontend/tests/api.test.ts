import { afterEach, describe, expect, it, vi } from "vitest";
import { ask, getFeatures, getMap, pictureAddress, readText } from "../src/api";
import { errorMessage } from "../src/stream";
import { ALL_FEATURES } from "../src/search";

const serve = (...answers: (Response | Error)[]) => {
  const fetched = vi.fn<(path: string, init?: RequestInit) => Promise<Response>>();
  for (const answer of answers) {
    if (answer instanceof Error) fetched.mockRejectedValueOnce(answer);
    else fetched.mockResolvedValueOnce(answer);
  }
  vi.stubGlobal("fetch", fetched);
  return fetched;
};
afterEach(() => vi.unstubAllGlobals());

describe("a call", () => {
  it("asks for a stretch of the features that are searched for", async () => {
    const fetched = serve(Response.json({ total: 0, features: [] }));
    expect(await getFeatures({ ...ALL_FEATURES, query: "x" }, 50, 25)).toEqual({ total: 0, features: [] });
    const address = "api/features?query=x&by=words&sort=best&descending=false&offset=50&limit=25";
    expect(fetched.mock.calls[0]![0]).toBe(address);
  });
  it("sends a body as JSON", async () => {
    const fetched = serve(Response.json({}));
    await readText("a", "b", "last", new AbortController().signal);
    const { method, body, headers } = fetched.mock.calls[0]![1]!;
    expect([method, headers]).toEqual(["POST", { "Content-Type": "application/json" }]);
    expect(JSON.parse(body as string)).toEqual({ text: "a", unlike: "b", on: "last" });
  });
  it("fails with the server's message, or with its status, or because there is no server", async () => {
    serve(Response.json({ error: "no feature 9" }, { status: 404 }), new Response("?", { status: 502 }), new Error());
    const call = () => getFeatures(ALL_FEATURES, 0, 1);
    await expect(call()).rejects.toThrow("no feature 9");
    await expect(call()).rejects.toThrow("The server answered 502.");
    await expect(call()).rejects.toThrow("The server does not answer.");
  });
  it("says whether the same call may be answered later", async () => {
    serve(Response.json({ error: "no feature 9" }, { status: 404 }), new Response("?", { status: 502 }), new Error(),
      Response.json({ error: "wait" }, { status: 429 }));
    for (const passes of [false, true, true, true]) {
      await expect(getFeatures(ALL_FEATURES, 0, 1)).rejects.toMatchObject({ passes });
    }
  });
  it("ends after a minute without an answer", async () => {
    vi.useFakeTimers();
    vi.spyOn(AbortSignal, "timeout").mockImplementation((wait_ms) => {
      const late = new AbortController();
      setTimeout(() => late.abort(new DOMException("", "TimeoutError")), wait_ms);
      return late.signal;
    });
    vi.stubGlobal("fetch", (_: string, { signal }: { signal: AbortSignal }) =>
      new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason as Error))));
    const failed = expect(getFeatures(ALL_FEATURES, 0, 1)).rejects.toThrow("has not answered for 60 seconds");
    await vi.advanceTimersByTimeAsync(60_000);
    await failed;
    vi.useRealTimers();
    vi.restoreAllMocks();
  });
  it("that the page gave up says so, also while its body is read", async () => {
    const gaveUp = new DOMException("", "AbortError");
    const broken = { ok: true, text: () => Promise.reject(gaveUp) } as unknown as Response;
    serve(gaveUp as unknown as Error, broken);
    for (let n = 0; n < 2; n++) await expect(getFeatures(ALL_FEATURES, 0, 1)).rejects.toBe(gaveUp);
  });
});

it("the map's columns are cut from one array of bytes", async () => {
  const bytes = new ArrayBuffer(32);
  new Float32Array(bytes).set([1, 2, 3, 4, 0, 0, 0.5, 0.25]);
  new Int32Array(bytes).set([-1, 7], 4);
  serve(Response.json({ n_features: 2, clusters: [] }), new Response(bytes));
  const { map, points } = await getMap();
  expect(map.n_features).toBe(2);
  expect(Object.values(points).map((column) => [...column])).toEqual([[1, 2], [3, 4], [-1, 7], [0.5, 0.25]]);
});

it("pictures come from the server", () => expect(pictureAddress(3, 1)).toBe("api/pictures/3/1"));

describe("a streamed answer", () => {
  const chunk = (content?: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
  const stream = (...parts: string[]) => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const part of parts) controller.enqueue(new TextEncoder().encode(part));
        controller.close();
      },
    });
    return new Response(body);
  };
  const answer = async () => {
    const shown: string[] = [];
    await ask([{ role: "user", content: "who?" }], [], (text) => shown.push(text), new AbortController().signal);
    return shown;
  };

  it("grows with each event, wherever the network cuts it", async () => {
    const all = chunk() + chunk("I am ") + chunk("a brück\u00e9") + "data: [DONE]\n\n";
    for (const cut of [1, 20, 77, all.length - 3]) {
      serve(stream(all.slice(0, cut), all.slice(cut)));
      expect(await answer()).toEqual(["", "I am ", "I am a brück\u00e9"]);
    }
  });
  it("ends at a connection that closes", async () => {
    serve(stream(chunk("I am")));
    expect(await answer()).toEqual(["I am"]);
  });
  it("fails with the message of an error, before it or within it", async () => {
    const error = { error: { message: "too far" } };
    serve(
      Response.json(error, { status: 400 }), new Response("?", { status: 500 }),
      stream(chunk("I"), `data: ${JSON.stringify(error)}\n\n`), new Error(),
    );
    await expect(answer()).rejects.toThrow("too far");
    await expect(answer()).rejects.toThrow("The server answered 500.");
    await expect(answer()).rejects.toThrow("too far");
    await expect(answer()).rejects.toThrow("The server does not answer.");
  });
});

it.each([['{"error": "a"}', "a"], ['{"error": {"message": "b"}}', "b"], ["{}", undefined], ["<html>", undefined]])(
  "the message in %s is %s",
  (text, message) => expect(errorMessage(text)).toBe(message),
);
