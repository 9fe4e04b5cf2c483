import { setImmediate as nextTurn } from 'node:timers/promises'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { SampledToken, SequenceOutput, SequenceWork } from '../../contract/backend.ts'
import { failedOutput } from '../../contract/failed-output.ts'
import { scoredTargets } from '../../contract/token-scores.ts'
import type { CandidateRequest, Candidates } from '../../sampling/candidates.ts'
import type { Sampler } from '../../sampling/token-sampler.ts'
import type { StepLogits } from './model-engine.ts'
import { readTokenScores } from './read-token-scores.ts'
import { sampleCertain, sampleTokens, type Sampled, type TokenSource } from './sample-tokens.ts'

/** What is sampled of a work before its logits are read, where it has no candidates. */
const NOTHING: Sampled = { tokens: [], next: 0 }
/** Longest time that sampling occupies the event loop before it yields. */
const SAMPLING_TURN_MS = 2

/** The results of a step, and access to its logits. */
interface StepResults {
  config: Pick<LlamaConfig, 'hiddenSize' | 'vocabSize'>
  /** The sampler of each work that samples. */
  samplers: readonly (Sampler | undefined)[]
  /** As `ModelEngine.step` returns it. */
  results: Float32Array
  /** How many candidates each token of a work with a request has among the results. */
  candidates: number
  requests: readonly (CandidateRequest | undefined)[]
  logits: StepLogits
  /** Scratch space, f32 `[vocab]`. */
  row: Float32Array
}

/** The results of a work. */
interface WorkResults {
  readonly work: SequenceWork
  readonly scores: Float32Array
  readonly sum: Float32Array
  /** Set if the work samples. */
  readonly source: TokenSource | undefined
}

/**
 * Reads the outputs of a step from the results of the addon, and samples its tokens. Logits of tokens that candidates do not
 * decide are downloaded at once for all works; only those after such a token come one by one.
 */
export async function readStepOutputs(
  work: readonly SequenceWork[],
  step: StepResults,
): Promise<SequenceOutput[]> {
  const { logits, row } = step
  const all = divideResults(work, step)
  const yieldTurn = createTurns()
  const certain = new Map<TokenSource, Sampled>()
  const undecided: number[] = []
  for (const { source } of all) {
    if (!source?.candidates) continue
    await yieldTurn()
    const sampled = await sampleCertain(source)
    certain.set(source, sampled)
    if (sampled.next !== undefined) undecided.push(source.firstRow + sampled.next)
  }
  if (undecided.length > 0) await logits.download(undecided)
  const readLogits = async (source: TokenSource, place: number) => {
    const at = source.firstRow + place
    if (source.candidates && !undecided.includes(at)) await logits.download([at])
    await yieldTurn()
    logits.read(at, row)
    return row
  }
  const outputs: SequenceOutput[] = []
  for (const results of all) {
    await yieldTurn()
    try {
      outputs.push(await outputOf(results, certain, readLogits))
    } catch (error) {
      outputs.push(failedOutput(error))
    }
  }
  return outputs
}

async function outputOf(
  { work: { output, promptScores }, scores, sum, source }: WorkResults,
  certain: ReadonlyMap<TokenSource, Sampled>,
  readLogits: (source: TokenSource, place: number) => Promise<Float32Array>,
): Promise<SequenceOutput> {
  if (output === 'nll') return { kind: 'nll', nll: scores.slice() }
  if (output === 'hidden_sum') return { kind: 'hidden_sum', sum: sum.slice(), nll: scores.slice() }
  const scored = promptScores ? { promptScores: readTokenScores(scores, promptScores.alternatives) } : {}
  if (!source) return { kind: 'none', ...scored }
  const known = certain.get(source) ?? NOTHING
  const [token, ...more] = await sampleTokens(source, known, (place) => readLogits(source, place))
  return {
    kind: 'token',
    ...(token as SampledToken),
    ...(source.drafts.length > 0 ? { more } : {}),
    ...scored,
  }
}

/** Divides the results of the addon, and the rows of logits, among the works. */
function divideResults(
  work: readonly SequenceWork[],
  { config: { hiddenSize, vocabSize }, samplers, results, candidates, requests }: StepResults,
): WorkResults[] {
  let read = 0
  const take = (size: number) => results.subarray(read, (read += size))
  let rows = 0
  return work.map((item, index) => {
    const { output, position, tokens, promptScores, drafts = 0 } = item
    const targets = output === 'nll' || output === 'hidden_sum' ? item.targets : promptScores?.targets
    const scores = take(
      targets ? scoredTargets({ targets }) * (1 + 2 * (promptScores?.alternatives ?? 0)) : 0,
    )
    const request = requests[index]
    const listOf = (place: number): Candidates => {
      const list = readCandidates(take(candidateFloats(candidates, vocabSize)), candidates, vocabSize)
      const adjusted = request?.adjusted?.[place]?.tokens
      return adjusted && adjusted.length > 0
        ? { ...list, withheld: { tokens: adjusted, logits: take(adjusted.length) } }
        : list
    }
    const lists = request ? request.chances.map((_, place) => listOf(place)) : null
    const sum = take(output === 'hidden_sum' ? hiddenSize : 0)
    const sampler = output === 'token' ? samplers[index] : undefined
    if (!sampler) return { work: item, scores, sum, source: undefined }
    const source: TokenSource = {
      sampler,
      candidates: lists,
      firstRow: rows,
      end: position + tokens.length - drafts,
      drafts: tokens.subarray(tokens.length - drafts),
      allowed: item.allowed,
      allowedAfterDrafts: item.allowedAfterDrafts,
    }
    rows += 1 + drafts
    return { work: item, scores, sum, source }
  })
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

/** Reads the results of the GPU addon for a token with candidates. */
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

/** Numbers of the GPU addon for a token with candidates. */
function candidateFloats(count: number, vocabSize: number): number {
  return 4 + 2 * count + Math.ceil(vocabSize / 256)
}
