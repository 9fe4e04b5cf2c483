/** Number of consecutive tokens that count as an overlap if both texts contain them. */
const RUN_TOKENS = 32

/**
 * Returns the share of evaluation text that is also in the calibration text: the windows are cut into runs of
 * {@link RUN_TOKENS} tokens, and a run counts if the sequences contain it at any position.
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
