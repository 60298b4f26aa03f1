/** The client for those who run the service; each method is one call of OpsService. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";

import type { Connection } from "./connection.js";
import { AttemptOutcome } from "./gen/gearshift/v1/answer_pb.js";
import {
  CostGroup,
  OpsService,
  type CacheFilterSchema,
  type ChainStatus,
  type GetCostReportResponse,
  type GetStatusResponse,
  type GetTrafficResponse,
  type ListAttemptsResponse,
  type ListCacheEntriesResponse,
  type ReloadResponse,
  type StageStatus,
  type WatchAttemptsResponse,
} from "./gen/gearshift/v1/ops_pb.js";
import type { CallSettings } from "./options.js";
import { MessageStream } from "./streams.js";
import { valueOf, type WordOf } from "./words.js";

/** The caches. */
export type CacheName = "prompt" | "response" | "embedding";
/** What a cost report may be grouped by. */
export type CostGroupName = WordOf<typeof CostGroup>;

/** Which cache entries; what is unset chooses all. */
export interface CacheChoice extends CallSettings {
  cache?: CacheName;
  tenant?: string;
  taskId?: string;
  key?: string;
  /** Only entries at least this old, seconds. */
  minAgeSeconds?: number;
}

/** Which page of cache entries. */
export interface CachePage extends CacheChoice {
  /** 1 to 1000; unset is 100. */
  pageSize?: number;
  /** Where to go on, as the last response said. */
  pageToken?: string;
}

/** Which cost report. */
export interface CostReportChoice extends CallSettings {
  /** One row for each combination; unset is by task. */
  groupBy?: readonly CostGroupName[];
  /** Attempts that started at or after it; unset is the first. */
  since?: Date;
  /** Attempts that started before it; unset is now. */
  until?: Date;
  tenant?: string;
  taskId?: string;
  provider?: string;
  account?: string;
  model?: string;
  /** With the prices that a repricing wrote, where it did. */
  repriced?: boolean;
}

/** Which recorded attempts; what is unset chooses all. */
export interface AttemptChoice extends CallSettings {
  requestId?: string;
  tenant?: string;
  taskId?: string;
  provider?: string;
  model?: string;
  /** Only attempts that ended so. */
  outcome?: WordOf<typeof AttemptOutcome>;
  /** Attempts whose request id, task id, model, failure or reason begins with it, at most 200 characters. */
  text?: string;
  /** Attempts that started at or after it; unset is the first. */
  since?: Date;
  /** Attempts that started before it; unset is now. */
  until?: Date;
  /** 1 to 1000; unset is 100. */
  pageSize?: number;
  /** Where to go on, as the last response said. */
  pageToken?: string;
}

/** Which calls over time. */
export interface TrafficChoice extends CallSettings {
  /** Calls that began at or after it; unset is an hour before `until`. */
  since?: Date;
  /** Calls that began before it; unset is now. */
  until?: Date;
  /** Length of one point, seconds, at least 1; unset is a minute, or longer for many. */
  stepSeconds?: number;
  /** One line for each; unset is one line for all. */
  groupBy?: "task" | "tenant";
  tenant?: string;
  taskId?: string;
}

/** What `client.ops` is. It needs a key with the role `ops` where keys are configured. */
export class OpsClient {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Says what is running. */
  getStatus(settings?: CallSettings): Promise<GetStatusResponse> {
    return this.#connection.unary(OpsService.method.getStatus, {}, settings);
  }

  /** Gives the chains and their stages, by name. */
  async listChains(settings?: CallSettings): Promise<ChainStatus[]> {
    return (await this.#connection.unary(OpsService.method.listChains, {}, settings)).chains;
  }

  /** Gives the health of each account and model; of one provider when it is named. */
  async listStages({ provider = "", ...settings }: CallSettings & { provider?: string } = {}): Promise<StageStatus[]> {
    return (await this.#connection.unary(OpsService.method.listStages, { provider }, settings)).stages;
  }

  /** Gives what the caches hold, one page, and the sums of each cache. */
  listCacheEntries(page: CachePage = {}): Promise<ListCacheEntriesResponse> {
    const { pageSize = 0, pageToken = "" } = page;
    const request = { filter: filterOf(page), pageSize, pageToken };
    return this.#connection.unary(OpsService.method.listCacheEntries, request, page);
  }

  /** Drops the entries that fit all that is said, or everything; returns how many. */
  async purgeCache(choice: CacheChoice & { everything?: boolean }): Promise<bigint> {
    const request = { filter: filterOf(choice), all: choice.everything ?? false };
    return (await this.#connection.unary(OpsService.method.purgeCache, request, choice)).purged;
  }

  /** Sums the ledger, by task when nothing is said. */
  getCostReport(choice: CostReportChoice = {}): Promise<GetCostReportResponse> {
    const { since, until } = choice;
    return this.#connection.unary(
      OpsService.method.getCostReport,
      {
        groupBy: (choice.groupBy ?? []).map((name) => valueOf(CostGroup, name)),
        ...(since === undefined ? {} : { since: timestampFromDate(since) }),
        ...(until === undefined ? {} : { until: timestampFromDate(until) }),
        tenant: choice.tenant ?? "",
        taskId: choice.taskId ?? "",
        provider: choice.provider ?? "",
        account: choice.account ?? "",
        model: choice.model ?? "",
        repriced: choice.repriced ?? false,
      },
      choice,
    );
  }

  /** Finds recorded attempts in the ledger, the latest first; those of one request are its whole way. */
  listAttempts(choice: AttemptChoice = {}): Promise<ListAttemptsResponse> {
    const { outcome, since, until } = choice;
    return this.#connection.unary(
      OpsService.method.listAttempts,
      {
        requestId: choice.requestId ?? "",
        tenant: choice.tenant ?? "",
        taskId: choice.taskId ?? "",
        provider: choice.provider ?? "",
        model: choice.model ?? "",
        outcome: outcome === undefined ? AttemptOutcome.UNSPECIFIED : valueOf(AttemptOutcome, outcome),
        text: choice.text ?? "",
        ...(since === undefined ? {} : { since: timestampFromDate(since) }),
        ...(until === undefined ? {} : { until: timestampFromDate(until) }),
        pageSize: choice.pageSize ?? 0,
        pageToken: choice.pageToken ?? "",
      },
      choice,
    );
  }

  /** Gives calls over time from the ledger: how many, how long they took, what they cost and saved. */
  getTraffic(choice: TrafficChoice = {}): Promise<GetTrafficResponse> {
    const { since, until, groupBy } = choice;
    return this.#connection.unary(
      OpsService.method.getTraffic,
      {
        ...(since === undefined ? {} : { since: timestampFromDate(since) }),
        ...(until === undefined ? {} : { until: timestampFromDate(until) }),
        stepSeconds: choice.stepSeconds ?? 0,
        groupBy: groupBy === undefined ? CostGroup.UNSPECIFIED : valueOf(CostGroup, groupBy),
        tenant: choice.tenant ?? "",
        taskId: choice.taskId ?? "",
      },
      choice,
    );
  }

  /** Has the configuration read again; an invalid one changes nothing and throws. */
  reload(settings?: CallSettings): Promise<ReloadResponse> {
    return this.#connection.unary(OpsService.method.reload, {}, settings);
  }

  /** Gives attempts as they end, until it is closed; only a deadline of the call's own ends it. */
  watchAttempts({ taskId = "", tenant = "", ...settings }: CallSettings & { taskId?: string; tenant?: string } = {}): MessageStream<WatchAttemptsResponse> {
    const { method } = OpsService;
    return new MessageStream(this.#connection.stream(method.watchAttempts, { taskId, tenant }, settings, { isEndless: true }));
  }
}

function filterOf(choice: CacheChoice): MessageInitShape<typeof CacheFilterSchema> {
  const { cache = "", tenant = "", taskId = "", key = "", minAgeSeconds = 0 } = choice;
  return { cache, tenant, taskId, key, minAgeSeconds };
}
