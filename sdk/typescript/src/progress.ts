/** Server-sent events: pieces of a stream go in, states come out, and a broken stream is taken up again. */

import type { Progress } from "./answers.js";
import { UnexpectedAnswer } from "./errors.js";

/** A stream says something every 15 seconds: after three times that it is dead. */
export const SILENCE_MS = 45_000;

/** One job's stream through all its connections. */
export class Following {
  /** Of the last event that came whole: where a new connection goes on. */
  id = "";
  /** Before connecting again; the server says. */
  pauseMs = 3000;
  isOver = false;
  #nextId = "";
  #data: string[] = [];
  #rest = "";
  #decoder = new TextDecoder();
  #shown = "";
  #silent = 0;

  /** States that were not shown before. */
  feed(piece: Uint8Array): Progress[] {
    const lines = (this.#rest + this.#decoder.decode(piece, { stream: true })).split(/\r?\n/);
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  /** The connection ended before the job did. Whether to connect again: not when three in a row said nothing. */
  broke(): boolean {
    this.#nextId = this.id;
    this.#data = [];
    this.#rest = "";
    this.#decoder = new TextDecoder();
    this.#silent += 1;
    return this.#silent <= 3;
  }

  #line(line: string): Progress[] {
    if (line === "") return this.#state();
    const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (name === "data") this.#data.push(value);
    else if (name === "id") this.#nextId = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.pauseMs = Number(value);
    return []; // comments, and the event's name: both kinds hold the whole state
  }

  #state(): Progress[] {
    const data = this.#data.join("\n");
    this.#data = [];
    this.id = this.#nextId;
    if (data === "") return [];
    const state = parsed(data);
    this.#silent = 0;
    this.isOver = state.status === "completed" || state.status === "failed";
    if (data === this.#shown) return [];
    this.#shown = data;
    return [state];
  }
}

function parsed(data: string): Progress {
  try {
    return JSON.parse(data) as Progress;
  } catch (cause) {
    throw new UnexpectedAnswer("the stream holds what is no state of a job", { cause });
  }
}
