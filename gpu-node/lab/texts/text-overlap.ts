/** Consecutive tokens that count as a quotation when both texts have them. */
const RUN_TOKENS = 32

/**
 * The share of evaluation text that calibration saw: of every {@link RUN_TOKENS} consecutive tokens of the
 * windows, how many runs stand in the sequences, at whatever position.
 *
 * @param sequences calibration tokens, any number of arrays
 * @returns 0 to 1
 */
export function overlapShare(sequences: readonly Int32Array[], windows: readonly Int32Array[]): number {
  const seen = new Set<string>()
  for (const tokens of sequences) {
    for (let at = 0; at + RUN_TOKENS <= tokens.length; at++) seen.add(runKey(tokens, at))
  }
  let runs = 0
  let found = 0
  for (const window of windows) {
    for (let at = 0; at + RUN_TOKENS <= window.length; at += RUN_TOKENS) {
      runs++
      if (seen.has(runKey(window, at))) found++
    }
  }
  return runs === 0 ? 0 : found / runs
}

function runKey(tokens: Int32Array, at: number): string {
  return tokens.subarray(at, at + RUN_TOKENS).join()
}
