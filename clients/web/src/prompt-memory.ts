/**
 * Remembers under which key the server stored a system prompt, so that the text is sent only once.
 *
 * Rules: keeps hashes and keys, never a text; bounded, the least used goes first. A key belongs to a task, and the
 * server may forget it: then the text is sent again, once.
 */
import { create } from "@bufbuild/protobuf";

import { digest } from "./digest.js";
import type { GearshiftError } from "./errors.js";
import { SystemPromptSchema, type Call } from "./gen/gearshift/v1/call_pb.js";

/** Prompts up to this many characters (code points) are sent whole, since the server does not keep them. */
export const MIN_CHARACTERS = 500;

const CAPACITY = 256;

/** The keys of the prompts that one client has sent. */
export class PromptMemory {
  // In the order of their last use.
  readonly #keys = new Map<string, string>();
  readonly #capacity: number;

  constructor(capacity = CAPACITY) {
    this.#capacity = capacity;
  }

  /** How many are kept. */
  get size(): number {
    return this.#keys.size;
  }

  /** Gives the call with the key in the place of the text, if it is known; else undefined. */
  async shorten(call: Call): Promise<Call | undefined> {
    const name = await nameOf(taskOf(call), textOf(call));
    const key = name === undefined ? undefined : this.#keys.get(name);
    if (name === undefined || key === undefined) {
      return undefined;
    }
    this.#put(name, key);
    const { variables = {}, static: isStatic = false } = call.system ?? {};
    const system = create(SystemPromptSchema, { source: { case: "key", value: key }, variables, static: isStatic });
    return { ...call, system };
  }

  /** Keeps the key that the server gave for a text; an empty one is no key. */
  async remember(taskId: string, text: string, key: string): Promise<void> {
    const name = key === "" ? undefined : await nameOf(taskId, text);
    if (name !== undefined) {
      this.#put(name, key);
    }
  }

  /** Drops the key of a text, because the server no longer knows it. */
  async forget(taskId: string, text: string): Promise<void> {
    const name = await nameOf(taskId, text);
    if (name !== undefined) {
      this.#keys.delete(name);
    }
  }

  /** Drops a key, because it was deleted. */
  forgetKey(taskId: string, key: string): void {
    for (const [name, kept] of this.#keys) {
      if (kept === key && name.slice(name.indexOf(" ") + 1) === taskId) {
        this.#keys.delete(name);
      }
    }
  }

  #put(name: string, key: string): void {
    this.#keys.delete(name);
    this.#keys.set(name, key);
    for (const oldest of this.#keys.keys()) {
      if (this.#keys.size <= this.#capacity) {
        break;
      }
      this.#keys.delete(oldest);
    }
  }
}

/** Whether an error says that the server does not know the key that was sent. */
export function isForgotten(error: GearshiftError): boolean {
  return error.code === "FAILED_PRECONDITION" && error.reason === "PROMPT_NOT_CACHED";
}

/** Gives the text of a call's system prompt; "" when it has none, or a key. */
export function textOf(call: Call): string {
  return call.system?.source.case === "text" ? call.system.source.value : "";
}

/** Gives a call's task id. */
export function taskOf(call: Call): string {
  return call.task?.id ?? "";
}

/** Gives hash and task of a text that the server may keep. */
async function nameOf(taskId: string, text: string): Promise<string | undefined> {
  // A character outside the basic plane is two of JavaScript's and one of the server's.
  const isShort = text.length <= 2 * MIN_CHARACTERS && Array.from(text).length <= MIN_CHARACTERS;
  return isShort ? undefined : `${await digest(text)} ${taskId}`;
}
