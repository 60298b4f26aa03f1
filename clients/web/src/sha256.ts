/** SHA-256 in plain code (FIPS 180-4, section 6.2), for pages that have no WebCrypto. */

/** The first 32 bits of the fractional parts of the square and cube roots of primes (sections 4.2.2 and 5.3.3). */
const [START, ROUND] = constants();

/** Gives the 32 bytes. */
export function sha256(message: Uint8Array): Uint8Array {
  const padded = new Uint8Array(((message.length + 8) >> 6) * 64 + 64);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(message.length / 0x2000_0000));
  view.setUint32(padded.length - 4, message.length << 3);
  const state = Uint32Array.from(START);
  const words = new Uint32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    mix(state, words, view, block);
  }
  const sum = new DataView(new ArrayBuffer(32));
  state.forEach((word, place) => {
    sum.setUint32(place * 4, word);
  });
  return new Uint8Array(sum.buffer);
}

function mix(state: Uint32Array, words: Uint32Array, view: DataView, block: number): void {
  const at = (place: number): number => words[place] ?? 0;
  for (let place = 0; place < 64; place++) {
    if (place < 16) {
      words[place] = view.getUint32(block + place * 4);
      continue;
    }
    const early = at(place - 15);
    const late = at(place - 2);
    const low = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
    const high = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
    words[place] = at(place - 16) + low + at(place - 7) + high;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
  for (let place = 0; place < 64; place++) {
    const one = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const first = (h + one + ((e & f) ^ (~e & g)) + (ROUND[place] ?? 0) + at(place)) | 0;
    const two = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const second = (two + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, place) => {
    state[place] = (state[place] ?? 0) + word;
  });
}

function turn(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

function constants(): [number[], number[]] {
  const primes: number[] = [];
  for (let number = 2; primes.length < 64; number++) {
    if (primes.every((prime) => number % prime !== 0)) {
      primes.push(number);
    }
  }
  // 32 bits of the fraction and 9 of the whole fit a double's 53 exactly enough; the test compares all of them.
  const fraction = (root: number): number => ((root % 1) * 0x1_0000_0000) | 0;
  return [primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime))), primes.map((prime) => fraction(Math.cbrt(prime)))];
}
