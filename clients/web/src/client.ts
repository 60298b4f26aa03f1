/**
 * The client: call, stream, close.
 *
 * Rules: every call has a deadline. Long system prompts are sent once and named by their key after that; this is
 * invisible but for the bytes. Any number of calls may run at once.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { executeCall, policyOf, streamPolicy, taskOf, type ExecuteContext, type PolicyOptions, type SensitivityName, type StreamOptions } from "./calls.js";
import type { Connection } from "./connection.js";
import { GearshiftError } from "./errors.js";
import type { Answer } from "./gen/gearshift/v1/answer_pb.js";
import { CallSchema, type Call, type StreamPolicySchema } from "./gen/gearshift/v1/call_pb.js";
import {
  InputType,
  OutcomeVerdict,
  RouterService,
  Truncation,
  type EmbedResponse,
  type ExplainResponse,
  type PutPromptResponse,
} from "./gen/gearshift/v1/router_pb.js";
import { Health, HealthCheckResponse_ServingStatus } from "./gen/grpc/health/v1/health_pb.js";
import { OpsClient } from "./ops.js";
import type { CallSettings } from "./options.js";
import { PromptMemory, isForgotten, taskOf as taskIdOf, textOf } from "./prompt-memory.js";
import { RouteStream, type RouteCall } from "./streams.js";
import { valueOf, type WordOf } from "./words.js";

/** What a streamed call may say. */
export interface StreamSettings extends CallSettings {
  /** How it is held back and switched; unset takes the declared task's, or the defaults. */
  stream?: StreamOptions;
}

/** What a call for vectors may say. */
export interface EmbedSettings extends CallSettings {
  /** What the texts are for; unset is neither. */
  inputType?: WordOf<typeof InputType>;
  /** Length of each vector; unset is the model's own. */
  dimensions?: number;
  /** What happens to a text that is too long; unset is an error. */
  truncation?: WordOf<typeof Truncation>;
  /** The space that the vectors must be in, as an earlier response gave it. */
  vectorSpace?: string;
  /** A fallback may answer in another space, which ruins an index that mixes them. */
  allowSpaceChange?: boolean;
  /** The clearance that a provider must have. */
  sensitivity?: SensitivityName;
  /** A repeat within the server's window returns the same result. */
  requestId?: string;
  /** What is asked of the chain, such as a cap on cost. */
  policy?: PolicyOptions;
}

/** A call as `call()` builds it, or in the contract's own fields. */
export type CallInit = Call | MessageInitShape<typeof CallSchema>;

/** A client of one service. Every method throws GearshiftError when its call fails. */
export class Client {
  /** The methods for those who run the service. */
  readonly ops: OpsClient;
  readonly #connection: Connection;
  readonly #prompts = new PromptMemory();
  readonly #close: () => void;

  constructor(connection: Connection, close: () => void = () => undefined) {
    this.#connection = connection;
    this.#close = close;
    this.ops = new OpsClient(connection);
  }

  /** Ends its calls and closes its connections; calls after that are CANCELLED. Twice is fine. */
  close(): void {
    this.#connection.close();
    this.#close();
  }

  /**
   * Says whether the server takes calls (grpc.health.v1).
   *
   * @param service such as "gearshift.v1.RouterService"; empty is the whole server.
   */
  async isServing(service = "", settings?: CallSettings): Promise<boolean> {
    const { status } = await this.#connection.unary(Health.method.check, { service }, settings);
    return status === HealthCheckResponse_ServingStatus.SERVING;
  }

  /**
   * Sends one prompt to the cheapest model that can do it well.
   *
   * @param task a task type ("classify", "extract", "generate", "reason"), or the id of a declared task.
   * @param context anything that `call` takes, such as `{labels: ["bug", "praise"]}`; `task` in it names the id that
   *   cost is attributed to when `task` is a type, which otherwise stands for it.
   */
  execute(task: string, prompt: string, context: ExecuteContext = {}, settings?: CallSettings): Promise<Answer> {
    return this.route(executeCall(task, prompt, context), settings);
  }

  /**
   * Answers one call whole.
   *
   * An answer that is merely poor is no error, unless the call says `requireValid`: look at `completion.outcome`.
   */
  async route(call: CallInit, settings?: CallSettings): Promise<Answer> {
    const left = this.#connection.bounded(settings);
    const whole = create(CallSchema, call);
    const short = await this.#prompts.shorten(whole);
    try {
      return await this.#route(whole, short ?? whole, left());
    } catch (error) {
      if (short === undefined || !(error instanceof GearshiftError && isForgotten(error))) {
        throw error;
      }
      await this.#prompts.forget(taskIdOf(whole), textOf(whole));
      return this.#route(whole, whole, left());
    }
  }

  /** Answers one call as the model writes it; fold the events with `accumulate`, or with an Accumulator. */
  streamRoute(call: CallInit, settings: StreamSettings = {}): RouteStream {
    const whole = create(CallSchema, call);
    const stream = streamOf(settings.stream);
    const begin = (sent: Call, within: CallSettings, again: RouteCall["again"]): RouteCall => ({
      messages: this.#connection.stream(RouterService.method.streamRoute, { call: this.#named(sent), ...stream }, within),
      ended: (key) => this.#prompts.remember(taskIdOf(whole), textOf(whole), key),
      again,
    });
    return new RouteStream(async () => {
      const left = this.#connection.bounded(settings);
      const short = await this.#prompts.shorten(whole);
      return begin(
        short ?? whole,
        left(),
        short &&
          (async (error) => {
            if (!isForgotten(error)) {
              return undefined;
            }
            await this.#prompts.forget(taskIdOf(whole), textOf(whole));
            return begin(whole, left(), undefined);
          }),
      );
    });
  }

  /**
   * Turns texts into vectors, one each, in order.
   *
   * @param task the id that cost is attributed to.
   * @param inputs 1 to 2048 texts, none empty.
   */
  embed(task: string, inputs: readonly string[], settings: EmbedSettings = {}): Promise<EmbedResponse> {
    if (typeof inputs === "string") {
      throw new TypeError("inputs is a list of texts, not one text");
    }
    const { inputType, dimensions, truncation, sensitivity } = settings;
    const policy = policyOf(settings.policy ?? {});
    return this.#connection.unary(
      RouterService.method.embed,
      {
        task: taskOf(task, sensitivity === undefined ? {} : { sensitivity }),
        inputs: [...inputs],
        inputType: inputType === undefined ? InputType.UNSPECIFIED : valueOf(InputType, inputType),
        ...(dimensions === undefined ? {} : { dimensions }),
        truncation: truncation === undefined ? Truncation.UNSPECIFIED : valueOf(Truncation, truncation),
        vectorSpace: settings.vectorSpace ?? "",
        allowSpaceChange: settings.allowSpaceChange ?? false,
        requestId: settings.requestId ?? this.#requestId(),
        ...(policy === undefined ? {} : { policy }),
      },
      settings,
    );
  }

  /** Says what would be decided and which stages would run, without running them. */
  explain(call: CallInit, settings: StreamSettings = {}): Promise<ExplainResponse> {
    const request = { call: create(CallSchema, call), ...streamOf(settings.stream) };
    return this.#connection.unary(RouterService.method.explain, request, settings);
  }

  /** Stores a system prompt of more than 500 characters; later calls with this text send its key. */
  async putPrompt(
    taskId: string,
    text: string,
    { static: isStatic = false, ...settings }: CallSettings & { static?: boolean } = {},
  ): Promise<PutPromptResponse> {
    const request = { taskId, text, static: isStatic };
    const response = await this.#connection.unary(RouterService.method.putPrompt, request, settings);
    await this.#prompts.remember(taskId, text, response.key);
    return response;
  }

  /** Has a stored system prompt forgotten; returns whether it was there. */
  async deletePrompt(taskId: string, key: string, settings?: CallSettings): Promise<boolean> {
    this.#prompts.forgetKey(taskId, key);
    return (await this.#connection.unary(RouterService.method.deletePrompt, { taskId, key }, settings)).deleted;
  }

  /**
   * Tells what became of an answer, so that gates can learn.
   *
   * @param verdict it was right, had to be corrected, or was of no use.
   */
  async reportOutcome(
    requestId: string,
    verdict: WordOf<typeof OutcomeVerdict>,
    { correction = "", ...settings }: CallSettings & { correction?: string } = {},
  ): Promise<void> {
    const request = { requestId, verdict: valueOf(OutcomeVerdict, verdict), correction };
    await this.#connection.unary(RouterService.method.reportOutcome, request, settings);
  }

  async #route(whole: Call, sent: Call, settings: CallSettings): Promise<Answer> {
    const { answer } = await this.#connection.unary(RouterService.method.route, { call: this.#named(sent) }, settings);
    if (answer === undefined) {
      throw new GearshiftError("INTERNAL", "the response holds no answer");
    }
    await this.#prompts.remember(taskIdOf(whole), textOf(whole), answer.completion?.promptKey ?? "");
    return answer;
  }

  /** Names the request when it may be sent twice. */
  #named(call: Call): Call {
    return call.requestId === "" ? { ...call, requestId: this.#requestId() } : call;
  }

  /** Makes an id when a call may be sent twice, so that the repeat joins the first; else leaves it open. */
  #requestId(): string {
    if (this.#connection.settings.retry === undefined) {
      return "";
    }
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

function streamOf(options: StreamOptions | undefined): { stream?: MessageInitShape<typeof StreamPolicySchema> } {
  return options === undefined ? {} : { stream: streamPolicy(options) };
}
