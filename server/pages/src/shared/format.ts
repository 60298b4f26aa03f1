/** Numbers as people read them. */

/** Gives an amount of USD: "$0.0042", "$1.20", "unknown" for an empty text. */
export function money(usd: string | number): string {
  if (usd === "") {
    return "unknown";
  }
  const value = Number(usd);
  if (value === 0) {
    return "$0";
  }
  const size = Math.abs(value);
  const digits = size >= 1 ? 2 : Math.min(12, 1 - Math.floor(Math.log10(size)));
  return `${value < 0 ? "−" : ""}$${size.toFixed(digits)}`;
}

/** Gives a length of time in milliseconds: "240 ms", "3.2 s", "4 min". */
export function milliseconds(ms: number): string {
  if (ms < 1000) {
    return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  }
  return ms < 120_000 ? `${(ms / 1000).toFixed(1)} s` : `${(ms / 60_000).toFixed(0)} min`;
}

/** Gives how much of `whole` was saved: "93 % less"; empty when it is nothing or cannot be told. */
export function share(saved: string, whole: string): string {
  if (saved === "" || Number(saved) === 0 || !(Number(whole) > 0)) {
    return "";
  }
  const part = Number(saved) / Number(whole);
  return part >= 0 ? `${percent(part)} less` : `${percent(-part)} more`;
}

/** Gives a share of one as percent. */
export function percent(part: number): string {
  const value = part * 100;
  return `${value >= 99.95 || value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** Gives a whole number with thin spaces between thousands. */
export function count(value: number | bigint): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, " ");
}

/** Gives a number of things: "1 chain", "3 chains". */
export function several(value: number | bigint, thing: string): string {
  return `${count(value)} ${thing}${Number(value) === 1 ? "" : "s"}`;
}
