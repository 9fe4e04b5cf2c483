import { setTimeout as sleep } from 'node:timers/promises'
import { formatSpread, line } from './report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'

/** The speed of one round. */
export interface Speed {
  /** Generated tokens a second, of all streams. */
  tokensPerS: number
  /** Processor time of this process for each generated token, which other processes disturb less than its speed. */
  cpuMsPerToken: number
}

/** Rounds with something and without it; those at one index ran one after the other. */
export interface PairedRounds<Round> {
  with: Round[]
  without: Round[]
}

/** Runs pairs of rounds. The order alternates, so that a machine that slows down favours neither. */
export async function runPairs<Round>(
  pairs: number,
  run: (isWith: boolean) => Promise<Round>,
): Promise<PairedRounds<Round>> {
  const rounds: PairedRounds<Round> = { with: [], without: [] }
  for (let pair = 0; pair < pairs; pair++) {
    for (const isWith of pair % 2 === 0 ? [false, true] : [true, false])
      rounds[isWith ? 'with' : 'without'].push(await run(isWith))
  }
  return rounds
}

/**
 * Measures the speed for about `durationMs`.
 *
 * @param generated returns the number of tokens that were generated so far
 * @returns also the seconds that passed
 */
export async function measureSpeed(
  generated: () => number,
  durationMs: number,
): Promise<Speed & { seconds: number }> {
  const [before, startedMs, usage] = [generated(), performance.now(), process.cpuUsage()]
  await sleep(durationMs)
  const { user, system } = process.cpuUsage(usage)
  const seconds = (performance.now() - startedMs) / 1000
  const tokens = generated() - before
  return { tokensPerS: tokens / seconds, cpuMsPerToken: (user + system) / 1000 / tokens, seconds }
}

/**
 * Compares the speeds of pairs of rounds.
 *
 * @param names of the rounds without and with what is measured, and of its noun: `telemetry`
 * @param digits decimals of the processor time
 * @returns lines for people
 */
export function comparePairs(
  rounds: PairedRounds<Speed>,
  names: { without: string; with: string; noun: string },
  digits: number,
): string[] {
  const speed = (all: readonly Speed[]) =>
    formatSpread(spread(all.map(({ tokensPerS }) => tokensPerS)), 'tok/s')
  const cpu = (all: readonly Speed[]) =>
    formatSpread(spread(all.map(({ cpuMsPerToken }) => cpuMsPerToken)), 'ms/tok', digits)
  const lost = rounds.without.map(
    ({ tokensPerS }, pair) => 100 * (1 - rounds.with[pair]!.tokensPerS / tokensPerS),
  )
  return [
    line(names.without, speed(rounds.without)),
    line(names.with, speed(rounds.with)),
    line('lost, by pairs of rounds', formatSpread(spread(lost), '%')),
    line(`processor time without ${names.noun}`, cpu(rounds.without)),
    line('processor time with it', cpu(rounds.with)),
  ]
}
