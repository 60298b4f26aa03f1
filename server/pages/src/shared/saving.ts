/** What a call saved against the strongest model of its chain. */
import type { Cost } from "../../../../clients/web/src/web.js";

/** Gives USD, below zero for a loss; empty when a price is unknown. What `Cost` calls saved is the cache's part alone. */
export function savingOf(cost: Cost | undefined): string {
  if (cost === undefined || cost.totalUsd === "" || cost.strongestUsd === "") {
    return "";
  }
  return String(Number(cost.strongestUsd) - Number(cost.totalUsd));
}
