import type { Backend, SequenceWork, WeightSet } from '@copal/gpu-node/serving/contract/backend.ts'
import { GREEDY } from './greedy.ts'
import { formatSpread, line, spread } from '../measurement/report.ts'

const DECODE_STEPS = 32
const CHUNK = 256
const PREFILLS = [
  { batch: 1, length: 128 },
  { batch: 1, length: 512 },
  { batch: 8, length: 128 },
  { batch: 8, length: 512 },
]

/** A weight set and the backend that runs it. */
export interface ServedSet {
  name: string
  backend: Backend
  weights: WeightSet
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

/**
 * Prefills `sequences` with `context` tokens, decodes `steps` tokens of each, and returns tokens per second of the
 * decoding.
 */
export async function decode(
  { backend, weights }: ServedSet,
  sequences: number[],
  context: number,
  steps = DECODE_STEPS,
): Promise<number> {
  const last = await fill({ backend, weights }, sequences, context)
  const startedMs = performance.now()
  for (let step = 0; step < steps; step++) {
    const work: SequenceWork[] = sequences.map((sequence, index) => ({
      sequence,
      tokens: Int32Array.of(last[index] ?? 0),
      position: context + step,
      output: 'token',
    }))
    const { outputs } = await backend.step({ weights, work, drop: [] })
    outputs.forEach((output, index) => (last[index] = output.kind === 'token' ? output.token : 0))
  }
  const elapsedMs = performance.now() - startedMs
  await backend.step({ weights, work: [], drop: sequences })
  return (sequences.length * steps * 1000) / elapsedMs
}

/** Prefills `sequences` with `length` tokens each and returns tokens per second. */
export async function prefill(
  { backend, weights }: ServedSet,
  sequences: number[],
  length: number,
): Promise<number> {
  const startedMs = performance.now()
  await fill({ backend, weights }, sequences, length)
  const elapsedMs = performance.now() - startedMs
  await backend.step({ weights, work: [], drop: sequences })
  return (sequences.length * length * 1000) / elapsedMs
}

/** Feeds seeded tokens in chunks, all sequences in each step, and returns the token sampled after each sequence. */
async function fill(
  { backend, weights }: Omit<ServedSet, 'name'>,
  sequences: number[],
  length: number,
): Promise<number[]> {
  let last: number[] = []
  for (let from = 0; from < length; from += CHUNK) {
    const to = Math.min(from + CHUNK, length)
    const work: SequenceWork[] = sequences.map((sequence) => ({
      sequence,
      tokens: Int32Array.from(
        { length: to - from },
        (_, index) => 100 + (((from + index + sequence) * 7919) % 30_000),
      ),
      position: from,
      output: to === length ? 'token' : 'none',
      ...(from === 0 ? { sampler: { ...GREEDY, promptTokens: length } } : {}),
    }))
    const { outputs } = await backend.step({ weights, work, drop: [] })
    last = outputs.map((output) => (output.kind === 'token' ? output.token : 0))
  }
  return last
}
