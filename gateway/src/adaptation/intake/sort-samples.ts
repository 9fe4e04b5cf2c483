import { AppError } from '@copal/shared/errors.ts'
import { effectivePolicy } from '@copal/shared/wire/admin-policy.ts'
import type { TextDescription } from '@copal/shared/wire/node-calls.ts'
import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { OfferedSample } from '../../contracts/reservoir-object.ts'
import { describeTexts, TEXTS_PER_CALL } from '../../fleet/client/describe-texts.ts'
import {
  findSortContext,
  type KeyReach,
  type SortContext,
} from '../../storage/db/queries/discovery-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { classify } from '../discovery/classify.ts'
import { MIN_TOKENS } from '../discovery/train-classifier.ts'
import { openClassifier, type StoredClassifier } from './classifier-store.ts'

/** Texts of a batch of messages that a node describes; the n-grams alone decide about more. */
const MAX_DESCRIBED = 2 * TEXTS_PER_CALL
/** Characters of a text that are described and classified: more than the tokens that a node reads. */
const HEAD_CHARACTERS = 1024
/** Characters of a token, to estimate the length of a text that no node has read. */
const CHARACTERS_PER_TOKEN = 4

/** A sample whose domain is to be found, and whether this is the last attempt, at which it must not wait for a node. */
export interface UnsortedSample {
  sample: Pick<SampleMessage, 'keyId' | 'tenant' | 'model' | 'domain' | 'text'>
  isLastAttempt: boolean
}

/** Where a sample goes and what is offered with it, or that it must be tried again later. */
export type SortedSample =
  | { domain: string; extra: Pick<OfferedSample, 'nllMean' | 'description' | 'found'> }
  | { retry: unknown }

type SortDeps = Pick<
  Deps,
  'db' | 'artifacts' | 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs' | 'adaptationPreset'
>

/**
 * Finds the domains of samples by their text: the classifier's domain where it is certain and the key may use it, the key's
 * default for short texts, and `(unassigned)` for what is unlike every domain. Without a classifier, and for texts beyond
 * the maximum of a batch, no node is asked; the others are tried again later while no node responds.
 *
 * @returns in the order of the samples
 */
export async function sortSamples(
  deps: SortDeps,
  samples: readonly UnsortedSample[],
): Promise<SortedSample[]> {
  const sorted: SortedSample[] = []
  const models = Map.groupBy(samples.keys(), (index) => samples[index]?.sample.model ?? '')
  for (const [id, indices] of models) {
    const group = indices.flatMap((index) => samples[index] ?? [])
    const keyIds = [...new Set(group.map(({ sample }) => sample.keyId))]
    const context = await findSortContext(deps.db, id, keyIds)
    const results = await sortForModel(deps, context, group)
    for (const [at, index] of indices.entries()) {
      const { sample } = group[at] as UnsortedSample
      const result = results[at] as SortedSample
      sorted[index] = 'retry' in result ? result : admit(result, sample, context)
    }
  }
  return sorted
}

/** Replaces a domain that the key may not use, or that is gone or another tenant's, by the key's default. */
function admit(
  result: Extract<SortedSample, { domain: string }>,
  sample: UnsortedSample['sample'],
  { reaches, owners }: SortContext,
): SortedSample {
  const reach = reaches.get(sample.keyId)
  const toDefault = { ...result, domain: sample.domain, extra: { nllMean: result.extra.nllMean } }
  if (result.domain === sample.domain) return result
  // A key with a list may use no domain that is found later, so its texts need not wait for one.
  if (result.domain === UNASSIGNED) return reach?.allowedDomains ? toDefault : result
  return mayUse(result.domain, reach ?? { tenant: sample.tenant ?? '', allowedDomains: null }, owners)
    ? result
    : toDefault
}

/** Returns whether the texts of a key may go into a domain that was not named. */
export function mayUse(
  domain: string,
  { tenant, allowedDomains }: Pick<KeyReach, 'tenant' | 'allowedDomains'>,
  owners: ReadonlyMap<string, string | null>,
): boolean {
  const owner = owners.get(domain)
  if (owner === undefined || (owner !== null && owner !== tenant)) return false
  return allowedDomains === null || allowedDomains.includes(domain)
}

async function sortForModel(
  deps: SortDeps,
  { model, overrides, classifier }: SortContext,
  samples: readonly UnsortedSample[],
): Promise<SortedSample[]> {
  const toDefault = ({ sample }: UnsortedSample): SortedSample => ({ domain: sample.domain, extra: {} })
  if (!model || !effectivePolicy(deps.adaptationPreset, overrides).discovery.enabled)
    return samples.map(toDefault)
  const stored = classifier && (await openClassifier(deps, model, classifier))
  if (!stored) {
    return samples.map((unsorted) =>
      estimateTokens(unsorted.sample.text) < MIN_TOKENS
        ? toDefault(unsorted)
        : { domain: UNASSIGNED, extra: {} },
    )
  }
  const descriptions = await describeAll(deps, model, samples, stored)
  return samples.map((unsorted, index) => {
    const described = descriptions[index]
    if (described && 'retry' in described && !unsorted.isLastAttempt) return described
    return sortOne(unsorted, stored, described && 'tokens' in described ? described : undefined)
  })
}

/** Returns the description of each text; undefined for those that no node need read, or the reason that none could. */
async function describeAll(
  deps: SortDeps,
  model: ModelRow,
  samples: readonly UnsortedSample[],
  { classifier }: StoredClassifier,
): Promise<(TextDescription | { retry: unknown } | undefined)[]> {
  const wanted = [...samples.keys()]
    .filter((index) => estimateTokens(samples[index]?.sample.text ?? '') >= classifier.minTokens / 2)
    .slice(0, MAX_DESCRIBED)
  const descriptions: (TextDescription | { retry: unknown } | undefined)[] = samples.map(() => undefined)
  for (let from = 0; from < wanted.length; from += TEXTS_PER_CALL) {
    const part = wanted.slice(from, from + TEXTS_PER_CALL)
    const texts = part.map((index) => headOfSample(samples[index]?.sample.text ?? ''))
    try {
      const described = await describeTexts(deps, model.id, texts)
      for (const [at, index] of part.entries()) descriptions[index] = described[at]
    } catch (error) {
      for (const index of wanted.slice(from)) descriptions[index] = { retry: error }
      // The rest would wait as long for nothing.
      if (error instanceof AppError) break
      throw error
    }
  }
  return descriptions
}

function sortOne(
  { sample }: UnsortedSample,
  { classifier, baseSha256 }: StoredClassifier,
  described: TextDescription | undefined,
): SortedSample {
  const { tokens = estimateTokens(sample.text), embedding = [], nllMean = null } = described ?? {}
  const result = classify(classifier, { text: headOfSample(sample.text), embedding, tokens })
  const loss = nllMean === null ? {} : { nllMean }
  if ('domain' in result) return { domain: result.domain, extra: { ...loss, found: true } }
  if (result.rejected === 'too_short') return { domain: sample.domain, extra: loss }
  const description = embedding.length > 0 ? { baseSha256, tokens, embedding, nllMean } : undefined
  return { domain: UNASSIGNED, extra: { ...loss, ...(description ? { description } : {}) } }
}

function headOfSample(text: string): string {
  return text.slice(0, HEAD_CHARACTERS).toWellFormed()
}

function estimateTokens(text: string): number {
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN)
}
