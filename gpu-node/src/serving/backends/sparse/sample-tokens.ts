import type { SampledToken, SequenceWork, TokenMask } from '../../contract/backend.ts'
import { failedOutput } from '../../contract/failed-output.ts'
import type { Candidates } from '../../sampling/candidates.ts'
import type { Sampler } from '../../sampling/token-sampler.ts'

/** What the tokens of a work are sampled from: the one after the work's own tokens, and those after its drafts. */
export interface TokenSource {
  readonly sampler: Sampler
  /** For each of those places; null if the work has logits instead. */
  readonly candidates: readonly Candidates[] | null
  /** The row of logits of the first place; the others follow it. */
  readonly firstRow: number
  /** The position of the first token that is sampled. */
  readonly end: number
  readonly drafts: Int32Array
  /** As in the work. */
  readonly allowed: SequenceWork['allowed'] | undefined
  readonly allowedAfterDrafts: SequenceWork['allowedAfterDrafts'] | undefined
}

/** The tokens of a work so far. */
export interface Sampled {
  tokens: SampledToken[]
  /** The place whose token comes next; undefined if none does. */
  next: number | undefined
}

/** Samples the tokens of a work as far as candidates decide. */
export async function sampleCertain(source: TokenSource): Promise<Sampled> {
  const { sampler, candidates, end } = source
  const masks = await masksOf(source)
  const tokens: SampledToken[] = []
  let next = placeAfter(tokens, source, masks)
  try {
    while (next !== undefined) {
      if (next > 0) observeDraft(source, next)
      const from = candidates?.[next]
      const token = from && sampler.sampleFrom(from, end + next, masks[next])
      if (!token) break
      tokens.push(token)
      next = placeAfter(tokens, source, masks)
    }
  } catch (error) {
    // Sampling from the logits reports it.
    failedOutput(error)
  }
  return { tokens, next }
}

/**
 * Goes on to sample the tokens of a work: the next one, and the one after each draft as long as drafts are what was sampled.
 *
 * @param readLogits reads those of a place, f32 `[vocab]`, which are overwritten
 * @returns at least one token
 * @throws AppError `invalid_output` if the first token cannot be sampled
 */
export async function sampleTokens(
  source: TokenSource,
  { tokens, next }: Sampled,
  readLogits: (place: number) => Promise<Float32Array>,
): Promise<SampledToken[]> {
  const { sampler, candidates, end } = source
  const masks = await masksOf(source)
  const sampled = [...tokens]
  try {
    for (let place = next; place !== undefined; place = placeAfter(sampled, source, masks)) {
      if (place > 0) observeDraft(source, place)
      const from = place === next ? undefined : candidates?.[place]
      const token = from && sampler.sampleFrom(from, end + place, masks[place])
      sampled.push(token ?? sampler.sample(await readLogits(place), end + place, masks[place]))
    }
  } catch (error) {
    failedOutput(error)
    // The output may end before a later token. If it does not, the next step fails.
    if (sampled.length === 0) throw error
  }
  return sampled
}

/** Passes the draft before a place to the sampler: it is what was sampled. A second time it is skipped. */
function observeDraft({ sampler, drafts, end }: TokenSource, place: number): void {
  sampler.observe(drafts.subarray(place - 1, place), end + place - 1)
}

/** Returns the first place, and then the one after each draft that is what was sampled. */
function placeAfter(
  tokens: readonly SampledToken[],
  { drafts }: TokenSource,
  masks: readonly unknown[],
): number | undefined {
  const { length } = tokens
  if (length === 0) return 0
  return length < masks.length && tokens[length - 1]?.token === drafts[length - 1] ? length : undefined
}

/** Returns what may be sampled at each place where anything may; null for all tokens. */
async function masksOf({ drafts, allowed, allowedAfterDrafts }: TokenSource): Promise<(TokenMask | null)[]> {
  const first = (await allowed) ?? null
  const rest = (await allowedAfterDrafts) ?? Array.from(drafts, () => null)
  return [first, ...rest.slice(0, drafts.length)]
}
