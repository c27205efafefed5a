// Calls to the server, with the types that it publishes.
import type { components } from "./wire";

type Wire = components["schemas"];
export type IndexInfo = Wire["IndexInfo"];
export type FeatureList = Wire["FeatureList"];
export type FeatureRow = Wire["FeatureRow"];
export type FeatureView = Wire["FeatureView"];
export type ExampleView = Wire["ExampleView"];
export type Message = Wire["Message"];
export type Edit = Wire["EditView"];
export type Sort = "number" | "density" | "maximum";

async function call<T>(path: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is sonde still running?");
  }
  const body = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (!response.ok) throw new Error(body.error ?? `The server answered ${response.status}.`);
  return body as T;
}

export const getIndex = () => call<IndexInfo>("api/index");

export function getFeatures(query: string, sort: Sort, offset: number, limit: number, signal?: AbortSignal) {
  const parameters = new URLSearchParams({ query, sort, offset: String(offset), limit: String(limit) });
  return call<FeatureList>(`api/features?${parameters}`, { signal: signal ?? null });
}

export const getFeature = (number: number) => call<FeatureView>(`api/features/${number}`);

export async function ask(messages: Message[], edits: Edit[], max_new_tokens = 60): Promise<string> {
  const body = JSON.stringify({ messages, edits, max_new_tokens });
  const headers = { "Content-Type": "application/json" };
  return (await call<{ answer: string }>("api/answer", { method: "POST", headers, body })).answer;
}
