/** Returns how long a random test runs: `COPAL_FUZZ_SECONDS`, otherwise `usual`, which suits a run of all tests. */
export function fuzzSeconds(usual: number): number {
  const seconds = Number(process.env['COPAL_FUZZ_SECONDS'] ?? usual)
  return Number.isFinite(seconds) && seconds > 0 ? seconds : usual
}
