import { decode, prefill, type LoadedWeights } from '@copal/gpu-node/serving/advice/decode-speed.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'

export { decode, prefill }

const PREFILLS = [
  { batch: 1, length: 128 },
  { batch: 1, length: 512 },
  { batch: 8, length: 128 },
  { batch: 8, length: 512 },
]

/** A weight set with its name. */
export interface ServedSet extends LoadedWeights {
  name: string
}

/** One case; it returns tokens per second over the whole batch. */
interface Case {
  name: string
  run: (set: ServedSet) => Promise<number>
}

/**
 * Measures decode and prefill of several weight sets in one interleaved run: every repetition measures every case on
 * every set before the next one begins.
 *
 * @returns lines for people
 */
export async function benchServing(sets: readonly ServedSet[], repetitions: number): Promise<string[]> {
  let sequence = 1_000_000
  const next = () => sequence++
  const cases: Case[] = [
    ...[1, 8].map((batch) => ({
      name: `decode, batch ${batch}, context 128`,
      run: (set: ServedSet) => decode(set, Array.from({ length: batch }, next), 128),
    })),
    ...PREFILLS.map(({ batch, length }) => ({
      name: `prefill, batch ${batch}, prompt ${length}`,
      run: (set: ServedSet) => prefill(set, Array.from({ length: batch }, next), length),
    })),
  ]
  const figures = new Map<string, number[]>()
  for (let repetition = -1; repetition < repetitions; repetition++) {
    for (const { name, run } of cases) {
      for (const set of sets) {
        const tokensPerSecond = await run(set)
        if (repetition < 0) continue
        const key = `${name}, ${set.name}`
        figures.set(key, [...(figures.get(key) ?? []), tokensPerSecond])
      }
    }
  }
  return [...figures].map(([key, values]) => line(key, formatSpread(spread(values), 'tokens/s')))
}
