import type { Backend, SequenceWork, WeightSet } from '../contract/backend.ts'
import { GREEDY } from '../contract/greedy.ts'

/** A weight set and the backend that runs it. */
export interface LoadedWeights {
  backend: Pick<Backend, 'step'>
  weights: WeightSet
}

const DECODE_STEPS = 32
/** Tokens of a prompt that one step takes. */
const CHUNK = 256

/**
 * Prefills `sequences` with `context` tokens, decodes `steps` tokens of each, and returns tokens per second of the
 * decoding.
 */
export async function decode(
  { backend, weights }: LoadedWeights,
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
  { backend, weights }: LoadedWeights,
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
  { backend, weights }: LoadedWeights,
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
        (_, index) => ((from + index + sequence) * 7919) % weights.source.model.config.vocabSize,
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
