/** Places of the labels of an axis: round numbers, and round times of the local day. */

/** Distances of round numbers, within a power of ten. */
const ROUND_STEPS = [1, 2, 2.5, 5, 10]
const [MINUTE_S, HOUR_S, DAY_S] = [60, 3_600, 86_400]
const TIME_STEPS_S = [
  ...[1, 5, 10, 15, 30].map((minutes) => minutes * MINUTE_S),
  ...[1, 2, 3, 4, 6, 8, 12].map((hours) => hours * HOUR_S),
  ...[1, 2, 5, 10].map((days) => days * DAY_S),
]
const LONGEST_STEP_S = 30 * DAY_S

/** The round numbers from `low` to `high` whose distance is at least `minStep`, which is above 0. */
export function numberTicks(low: number, high: number, minStep: number): number[] {
  const power = 10 ** Math.floor(Math.log10(minStep))
  const step = power * (ROUND_STEPS.find((round) => round * power >= minStep) ?? 10)
  const first = Math.ceil(low / step)
  // Sums of fractions are not round.
  return Array.from({ length: Math.max(0, Math.floor(high / step) - first + 1) }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)),
  )
}

/**
 * The round times from `fromS` to `toS` whose distance is at least `minStepS`: whole minutes, hours or days since a local
 * midnight.
 *
 * @returns Unix seconds, and their distance, which differs on days that have more or fewer than 24 hours
 */
export function timeTicks(fromS: number, toS: number, minStepS: number): { ticks: number[]; stepS: number } {
  const stepS = TIME_STEPS_S.find((step) => step >= minStepS) ?? LONGEST_STEP_S
  const day = new Date(fromS * 1000)
  const ticks: number[] = []
  for (let index = 0; ; index++) {
    const time = new Date(day.getFullYear(), day.getMonth(), day.getDate(), 0, 0, index * stepS)
    const at = time.getTime() / 1000
    if (at > toS) return { ticks, stepS }
    if (at >= fromS && at !== ticks.at(-1)) ticks.push(at)
  }
}
