/** The chat page: a conversation whose answers shift gears before one's eyes. */
import {
  Accumulator,
  GearshiftError,
  StreamProtocolError,
  accumulate,
  assistant,
  call,
  createClient,
  user,
  type CallOptions,
  type Client,
  type Message,
  type RouteStream,
  type SensitivityName,
  type Snapshot,
  type StreamOptions,
  type TaskTypeName,
} from "../../../../clients/web/src/web.js";
import "./chat.css";
import { element, fill, find } from "../shared/dom";
import { KeyHolder } from "../shared/key";
import { savingOf } from "../shared/saving";
import { followTheme } from "../shared/theme";
import { AnswerView, type AnswerActions } from "./answer";
import { Totals } from "./totals";

const RECONNECT_MS = [500, 1000, 2000, 4000];
const CHAT_TASK = "chat";
const TYPES = ["generate", "reason", "classify", "extract"] as const;

/** The page as a whole. */
class Chat {
  readonly #log = find("log");
  readonly #prompt = find<HTMLTextAreaElement>("prompt");
  readonly #send = find<HTMLButtonElement>("send");
  readonly #stop = find<HTMLButtonElement>("stop");
  readonly #task = find<HTMLSelectElement>("task");
  readonly #totals = new Totals();
  readonly #keys = new KeyHolder("caller", () => void this.#connect());
  #client: Client = createClient();
  #turns: Message[] = [];
  #stream: RouteStream | undefined;
  #isStopped = false;
  /** Ends the wait before another try. */
  #wake = (): void => undefined;

  begin(): void {
    followTheme(find<HTMLButtonElement>("theme"));
    find("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#ask(this.#prompt.value);
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        void this.#ask(this.#prompt.value);
      }
    });
    this.#prompt.addEventListener("input", () => this.#grow());
    this.#stop.addEventListener("click", () => this.#cancel());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#stream !== undefined && !find<HTMLDialogElement>("key-dialog").open) {
        this.#cancel();
      }
    });
    find("new").addEventListener("click", () => this.#reset());
    for (const example of document.querySelectorAll<HTMLButtonElement>(".example")) {
      example.addEventListener("click", () => void this.#ask(example.dataset["prompt"] ?? ""));
    }
    void this.#connect();
    this.#prompt.focus();
  }

  /** Takes the key that there is now, and asks which tasks it may use. */
  async #connect(): Promise<void> {
    this.#client = createClient({ key: this.#keys.key, plaintextKey: true, deadlineMs: 600_000 });
    try {
      const headers = this.#keys.key === "" ? {} : { authorization: `Bearer ${this.#keys.key}` };
      const response = await fetch("/v1/models", { headers });
      if (response.status === 401) {
        this.#keys.ask("This service needs a key.");
      }
      if (response.ok) {
        const { data } = (await response.json()) as { data: { id: string }[] };
        this.#offer(data.map(({ id }) => id).filter((id) => id.startsWith("task:")).map((id) => id.slice(5)));
      }
    } catch {
      // The types stay; a call will say what is wrong.
    }
  }

  #offer(ids: readonly string[]): void {
    const group = find("declared");
    fill(group, ...ids.map((id) => element("option", { value: `task:${id}` }, id)));
    group.hidden = ids.length === 0;
  }

  async #ask(text: string): Promise<void> {
    if (text.trim() === "" || this.#stream !== undefined) {
      return;
    }
    this.#prompt.value = "";
    this.#grow();
    document.body.classList.add("talking");
    const mine = element("article.turn.mine", { "aria-label": "You" }, element("p", {}, text));
    this.#log.append(mine);
    this.#turns.push(user(text));
    await this.#answer(text);
  }

  async #answer(text: string): Promise<void> {
    const view = new AnswerView((words) => this.#say(words));
    this.#log.append(view.root);
    this.#follow(view.root);
    const place = this.#turns.length;
    const before = this.#turns.slice(0, -1);
    const answer = new Accumulator();
    let last: Snapshot | undefined;
    const actions: AnswerActions = {
      retry: () => void this.#retry(text, view, place),
      judge: (verdict) => this.#client.reportOutcome(last?.started?.requestId ?? "", verdict),
    };
    this.#isStopped = false;
    this.#busy(true);
    try {
      for (let tries = 0; ; tries++) {
        try {
          const [made, stream] = this.#call(text, before);
          this.#stream = this.#client.streamRoute(made, { stream });
          for await (last of accumulate(this.#stream, answer)) {
            view.show(last);
            this.#follow(view.root);
          }
          break;
        } catch (error) {
          // Nothing has come, and the service is away: it may be starting again.
          const wait = RECONNECT_MS[tries];
          const isAway = error instanceof GearshiftError && error.code === "UNAVAILABLE" && error.reason === "";
          if (this.#isStopped || last !== undefined || !isAway || wait === undefined) {
            throw error;
          }
          this.#status("The service does not answer; trying again …");
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
            setTimeout(resolve, wait);
          });
          if (this.#isStopped) {
            throw error;
          }
        }
      }
      this.#status("");
      view.end(last, actions);
    } catch (error) {
      this.#status("");
      if (this.#isStopped) {
        view.stopped(actions);
      } else {
        view.fail(wordsOf(error), actions);
        if (error instanceof GearshiftError && error.code === "UNAUTHENTICATED") {
          this.#keys.ask("The key was not accepted, or there is none.");
        }
      }
    } finally {
      this.#settle(view, last, place);
      const cost = last?.cost;
      this.#totals.add(cost?.totalUsd ?? "", savingOf(cost));
      this.#stream = undefined;
      this.#busy(false);
      this.#follow(view.root);
    }
  }

  /** Takes the answer into the conversation, or the question out of it when nothing was written; a new one is left alone. */
  #settle(view: AnswerView, last: Snapshot | undefined, place: number): void {
    if (!view.root.isConnected) {
      return;
    }
    if (last !== undefined && last.text !== "") {
      this.#turns.push(assistant(last.text));
    } else {
      this.#turns.length = place - 1;
    }
  }

  async #retry(text: string, view: AnswerView, place: number): Promise<void> {
    if (this.#stream !== undefined) {
      return;
    }
    // What came after the question goes with its answer.
    while (view.root.nextSibling !== null) {
      view.root.nextSibling.remove();
    }
    view.root.remove();
    this.#turns = [...this.#turns.slice(0, place - 1), user(text)];
    await this.#answer(text);
  }

  #call(text: string, before: readonly Message[]): [ReturnType<typeof call>, StreamOptions] {
    const chosen = this.#task.value;
    const id = chosen.startsWith("task:") ? chosen.slice(5) : CHAT_TASK;
    const type = TYPES.find((each) => each === chosen);
    const options: CallOptions = { messages: before, noCache: false };
    if (type !== undefined) {
      options.taskType = type satisfies TaskTypeName;
    }
    const sensitivity = find<HTMLSelectElement>("sensitivity").value;
    if (sensitivity !== "") {
      options.sensitivity = sensitivity as SensitivityName;
    }
    const labels = find<HTMLInputElement>("labels").value.split(",").map((label) => label.trim()).filter((label) => label !== "");
    if (labels.length > 1) {
      options.labels = labels;
    }
    const mode = find<HTMLSelectElement>("mode").value;
    const held = find<HTMLInputElement>("hold").value;
    const stream: StreamOptions = {
      ...(mode === "" ? {} : { mode: mode as NonNullable<StreamOptions["mode"]> }),
      ...(held === "" ? {} : { holdBackTokens: Number(held) }),
    };
    return [call(id, text, options), stream];
  }

  #cancel(): void {
    this.#isStopped = true;
    this.#stream?.close();
    this.#wake();
  }

  #reset(): void {
    this.#cancel();
    this.#turns = [];
    fill(this.#log);
    this.#totals.reset();
    document.body.classList.remove("talking");
    this.#prompt.focus();
  }

  #busy(isBusy: boolean): void {
    this.#send.hidden = isBusy;
    this.#stop.hidden = !isBusy;
    if (!isBusy) {
      this.#prompt.focus({ preventScroll: true });
    }
  }

  #grow(): void {
    this.#prompt.style.height = "auto";
    this.#prompt.style.height = `${Math.min(this.#prompt.scrollHeight, window.innerHeight * 0.4)}px`;
  }

  /** Keeps the end in sight, unless somebody has scrolled up to read. */
  #follow(end: Element): void {
    const room = document.documentElement;
    if (room.scrollHeight - room.scrollTop - room.clientHeight < 240) {
      end.scrollIntoView({ block: "end" });
    }
  }

  #say(words: string): void {
    find("spoken").textContent = words;
  }

  #status(words: string): void {
    find("status").textContent = words;
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof GearshiftError) {
    const wait = error.retryAfter === 0 ? "" : ` Try again in ${Math.ceil(error.retryAfter)} s.`;
    return `${error.message}${wait}`;
  }
  if (error instanceof StreamProtocolError) {
    return `The service's events break the contract: ${error.message}`;
  }
  return error instanceof Error ? error.message : String(error);
}

new Chat().begin();
