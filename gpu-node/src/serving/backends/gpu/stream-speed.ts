import { PAGE_TOKENS, type Backend, type SequenceWork, type WeightSet } from '../../contract/backend.ts'
import { GREEDY } from '../../contract/greedy.ts'

/** An id that the engine's scheduler never gives to a sequence. */
const SEQUENCE = 2 ** 52
const PROMPT_TOKENS = PAGE_TOKENS
const MAX_STEPS = 8
const TIME_LIMIT_MS = 300

/**
 * Measures how fast one stream decodes after a short prompt, for about {@link TIME_LIMIT_MS} at most. Nothing else may run
 * on the backend.
 *
 * @returns tokens per second, of the median step
 */
export async function measureStream(backend: Pick<Backend, 'step'>, weights: WeightSet): Promise<number> {
  const durationsMs: number[] = []
  const step = async (tokens: Int32Array, position: number, sampler?: SequenceWork['sampler']) => {
    const startedMs = performance.now()
    const work: SequenceWork = { sequence: SEQUENCE, tokens, position, output: 'token' }
    const { outputs } = await backend.step({
      weights,
      work: [sampler ? { ...work, sampler } : work],
      drop: [],
    })
    durationsMs.push(performance.now() - startedMs)
    return outputs[0]?.kind === 'token' ? outputs[0].token : 0
  }
  const startedMs = performance.now()
  const prompt = Int32Array.from(
    { length: PROMPT_TOKENS },
    (_, index) => (index * 7919) % weights.source.model.config.vocabSize,
  )
  let token = await step(prompt, 0, { ...GREEDY, promptTokens: PROMPT_TOKENS })
  durationsMs.pop()
  for (let done = 0; done < MAX_STEPS; done++) {
    if (done > 0 && performance.now() - startedMs > TIME_LIMIT_MS) break
    token = await step(Int32Array.of(token), PROMPT_TOKENS + done)
  }
  await backend.step({ weights, work: [], drop: [SEQUENCE] })
  const median = durationsMs.sort((a, b) => a - b)[durationsMs.length >> 1] ?? Number.NaN
  return 1000 / median
}
