// The conversation. It outlives its view, so that an answer goes on being written while a person looks at a feature,
// and a reload.
import { ask } from "./api";
import { conversation, type Turn } from "./chat";
import { kept } from "./kept";
import { isStop } from "./problem";
import type { Edit, Message } from "./types";

type Asker = typeof ask;

export class Talk {
  turns = $state<Turn[]>([]);
  question = $state(""); // as it is typed
  waiting = $state(false);
  #stop = new AbortController();

  constructor(private readonly asker: Asker = ask) {}

  async send(text: string, edits: Edit[], isShown: () => void = () => {}): Promise<void> {
    if (!text.trim() || this.waiting) return;
    this.waiting = true;
    this.question = "";
    const { signal } = (this.#stop = new AbortController());
    const asked: Message = { role: "user", content: text };
    const past = $state.snapshot(this.turns) as Turn[];
    this.turns.push({ question: text, plain: null, edited: null, edits, problem: "" });
    const turn = this.turns[this.turns.length - 1]!;
    isShown();
    try {
      await Promise.all([
        this.asker([...conversation(past, "plain"), asked], [], (answer) => (turn.plain = answer), signal),
        this.asker([...conversation(past, "edited"), asked], edits, (answer) => (turn.edited = answer), signal),
      ]);
    } catch (error) {
      if (!isStop(error)) {
        turn.problem = (error as Error).message;
        this.question ||= text; // to be asked again
      }
      this.#stop.abort(); // where one of the two failed, nothing waits for the other
    } finally {
      this.waiting = false;
      isShown();
    }
  }
  // Ends the answers where they are; what was written stays.
  stop = (): void => this.#stop.abort();
  clear = (): void => {
    this.turns = [];
  };
  load(): void {
    this.turns = kept.get<Turn[]>("talk", []);
    this.question = kept.get("question", "");
    kept.keep("talk", () => $state.snapshot(this.turns));
    kept.keep("question", () => this.question);
  }
}

export const talk = new Talk();
