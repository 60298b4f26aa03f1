/** The names of options: an unknown one is refused with the nearest that is known. */

/** Refuses names that nobody reads: a page without types would never learn of its slip. */
export function refuseUnknown(options: object, known: readonly string[], where: string): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      const near = known.find((one) => one.toLowerCase() === name.replaceAll("_", "").toLowerCase()) ?? nearest(name, known);
      throw new TypeError(`${where} has ${JSON.stringify(name)}, which is not known${near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`}`);
    }
  }
}

/** Gives the name that is at most a third of its letters away, if there is one. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((one) => ({ one, steps: distance(name.toLowerCase(), one.toLowerCase()) }))
    .sort((left, right) => left.steps - right.steps);
  return best !== undefined && best.steps <= Math.max(name.length, best.one.length) / 3 ? best.one : undefined;
}

/** Counts the letters to put in, take out or change. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, place) => place);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
