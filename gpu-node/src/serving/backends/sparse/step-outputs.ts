import { setImmediate as nextTurn } from 'node:timers/promises'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { SampledToken, SequenceOutput, SequenceWork, TokenScores } from '../../contract/backend.ts'
import { failedOutput } from '../../contract/failed-output.ts'
import { scoredTargets } from '../../contract/token-scores.ts'
import type { Candidates } from '../../sampling/candidates.ts'
import type { Sampler } from '../../sampling/token-sampler.ts'
import type { StepLogits } from './model-engine.ts'
import { readTokenScores } from './read-token-scores.ts'

/** Longest time that sampling occupies the event loop before it yields. */
const SAMPLING_TURN_MS = 2

/** The results of a step, and access to its logits. */
interface StepResults {
  config: Pick<LlamaConfig, 'hiddenSize' | 'vocabSize'>
  /** The sampler of each work that samples. */
  samplers: readonly (Sampler | undefined)[]
  /** As `ModelEngine.step` returns it. */
  results: Float32Array
  /** Returns how many candidates a work has among the results. */
  candidates: (index: number) => number
  logits: StepLogits
  /** Scratch space, f32 `[vocab]`. */
  row: Float32Array
}

/** Reads the outputs of a step from the results of the addon, and samples its tokens. */
export async function readStepOutputs(
  work: readonly SequenceWork[],
  step: StepResults,
): Promise<SequenceOutput[]> {
  const { config, samplers, results, candidates } = step
  const outputs: SequenceOutput[] = []
  let read = 0
  const take = (size: number) => results.subarray(read, (read += size))
  let sampled = 0
  const yieldTurn = createTurns()
  for (const [index, item] of work.entries()) {
    const { output, targets, promptScores } = item
    const alternatives = promptScores?.alternatives ?? 0
    const scores = promptScores && take(scoredTargets(promptScores) * (1 + 2 * alternatives))
    if (output === 'nll' || output === 'hidden_sum') {
      const nll = take(targets ? scoredTargets({ targets }) : 0).slice()
      if (output === 'nll') outputs.push({ kind: 'nll', nll })
      else outputs.push({ kind: 'hidden_sum', sum: take(config.hiddenSize).slice(), nll })
      continue
    }
    const count = candidates(index)
    const floats = count > 0 ? take(candidateFloats(count, config.vocabSize)) : null
    const sampler = output === 'token' ? samplers[index] : undefined
    const logitsAt = sampled
    if (sampler) sampled += 1 + (item.drafts ?? 0)
    await yieldTurn()
    try {
      const scored: { promptScores?: TokenScores } = scores
        ? { promptScores: readTokenScores(scores, alternatives) }
        : {}
      if (!sampler) outputs.push({ kind: 'none', ...scored })
      else {
        const found = floats && readCandidates(floats, count, config.vocabSize)
        outputs.push({
          kind: 'token',
          ...(await sampleTokens(item, sampler, found, step, logitsAt, yieldTurn)),
          ...scored,
        })
      }
    } catch (error) {
      outputs.push(failedOutput(error))
    }
  }
  return outputs
}

/**
 * Samples from the candidates of a work, or from its logits where there are none or they do not decide; then after each
 * draft, as long as they are what was sampled.
 */
async function sampleTokens(
  { position, tokens, drafts = 0, allowed, allowedAfterDrafts }: SequenceWork,
  sampler: Sampler,
  candidates: Candidates | null,
  { logits, row }: StepResults,
  logitsAt: number,
  yieldTurn: () => Promise<void>,
): Promise<SampledToken & { more?: SampledToken[] }> {
  const mask = (await allowed) ?? null
  const end = position + tokens.length - drafts
  const token = candidates && sampler.sampleFrom(candidates, end)
  if (token) return token
  if (candidates) await logits.download(logitsAt)
  logits.read(logitsAt, row)
  const first = sampler.sample(row, end, mask)
  if (drafts === 0) return first
  const masks = await allowedAfterDrafts
  const most = masks ? Math.min(drafts, masks.length) : drafts
  const more: SampledToken[] = []
  for (let last = first, next = 0; next < most; next++) {
    const draft = tokens.subarray(tokens.length - drafts + next).subarray(0, 1)
    if (last.token !== draft[0]) break
    await yieldTurn()
    logits.read(logitsAt + 1 + next, row)
    sampler.observe(draft, end + next)
    try {
      last = sampler.sample(row, end + 1 + next, masks?.[next])
    } catch {
      // The output may end before this token. If it does not, the next step fails.
      break
    }
    more.push(last)
  }
  return { ...first, more }
}

/** Returns a function to call between two tokens, which lets the event loop run when sampling has occupied it for long. */
function createTurns(): () => Promise<void> {
  let turnMs = performance.now()
  return async () => {
    if (performance.now() - turnMs <= SAMPLING_TURN_MS) return
    await nextTurn()
    turnMs = performance.now()
  }
}

/** Reads the results of the GPU addon for a work with candidates. */
function readCandidates(results: Float32Array, count: number, vocabSize: number): Candidates {
  const [sum = NaN, sumAtTemperature = NaN, part = -1, before = NaN] = results
  const [pairs, logits] = [results.subarray(4, 4 + 2 * count), results.subarray(4 + 2 * count)]
  return {
    pairs,
    vocabSize,
    sum,
    sumAtTemperature,
    part: part < 0 ? undefined : { start: part * logits.length, before, logits },
  }
}

/** Numbers of the GPU addon for a work with candidates. */
function candidateFloats(count: number, vocabSize: number): number {
  return 4 + 2 * count + Math.ceil(vocabSize / 256)
}
