import type { SampledToken, SequenceWork, TokenMask } from '../../contract/backend.ts'
import { failedOutput } from '../../contract/failed-output.ts'
import type { Candidates } from '../../sampling/candidates.ts'
import type { Sampler } from '../../sampling/token-sampler.ts'

/** What the tokens of a work are sampled from: the one after the work's own tokens, and those after its drafts. */
export interface TokenSource extends Pick<SequenceWork, 'allowed' | 'allowedAfterDrafts'> {
  readonly sampler: Sampler
  /** For each of those places; null if the work has logits instead. */
  readonly candidates: readonly Candidates[] | null
  /** The row of logits of the first place; the others follow it. */
  readonly firstRow: number
  /** The position of the first token that is sampled. */
  readonly end: number
  readonly drafts: Int32Array
}

/**
 * Returns the first place that is reached and whose candidates do not decide, so that its logits are needed; undefined if
 * there is none.
 */
export async function undecidedPlace(source: TokenSource): Promise<number | undefined> {
  const { sampler, candidates, end, drafts } = source
  const masks = await masksOf(source)
  for (const [place, list] of candidates?.slice(0, masks.length).entries() ?? []) {
    try {
      const sampled = sampler.sampleFrom(list, end + place, masks[place])
      if (!sampled) return place
      if (sampled.token !== drafts[place]) return undefined
    } catch {
      // Sampling reports it.
      return undefined
    }
  }
  return undefined
}

/**
 * Samples the next token of a work, and the one after each draft as long as drafts are what was sampled.
 *
 * @param readLogits reads those of a place, f32 `[vocab]`, which are overwritten
 * @returns at least one token
 * @throws AppError `invalid_output` if the first token cannot be sampled
 */
export async function sampleTokens(
  source: TokenSource,
  readLogits: (place: number) => Promise<Float32Array>,
): Promise<[SampledToken, ...SampledToken[]]> {
  const { sampler, candidates, end, drafts } = source
  const masks = await masksOf(source)
  const sample = async (place: number) => {
    const from = candidates?.[place]
    const token = from && sampler.sampleFrom(from, end + place, masks[place])
    return token ?? sampler.sample(await readLogits(place), end + place, masks[place])
  }
  const sampled: [SampledToken, ...SampledToken[]] = [await sample(0)]
  for (const [index, draft] of drafts.subarray(0, masks.length - 1).entries()) {
    if (sampled.at(-1)?.token !== draft) break
    sampler.observe(drafts.subarray(index, index + 1), end + index)
    try {
      sampled.push(await sample(index + 1))
    } catch (error) {
      failedOutput(error)
      // The output may end before this token. If it does not, the next step fails.
      break
    }
  }
  return sampled
}

/** Returns what may be sampled at each place where anything may; null for all tokens. */
async function masksOf({ drafts, allowed, allowedAfterDrafts }: TokenSource): Promise<(TokenMask | null)[]> {
  const first = (await allowed) ?? null
  const rest = (await allowedAfterDrafts) ?? Array.from(drafts, () => null)
  return [first, ...rest.slice(0, drafts.length)]
}
