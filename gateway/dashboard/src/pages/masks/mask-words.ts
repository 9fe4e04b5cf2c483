/** Masks in words. */
import { listNames } from '@copal/shared/phrases.ts'
import type { DriftReport, MaskEntry, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { Tone } from '../../components/tone.ts'
import { maskName, maskNameFirst } from '../../format/mask-names.ts'
import { formatBytes, formatShare, plural } from '../../format/numbers.ts'
import { isRejected } from '../../format/words.ts'

/**
 * The state of a mask, in a word.
 *
 * @param isCanary whether it serves a share of the conversations, by an update or by an operator
 */
export function stateOfMask(
  mask: Pick<MaskEntry, 'active' | 'previous' | 'promoted_at' | 'swept_at'>,
  update: Pick<UpdateEntry, 'state' | 'error' | 'own_domain'> | undefined,
  isCanary = update?.state === 'canary',
): { word: string; tone: Tone } {
  if (mask.active) return { word: 'serves', tone: 'good' }
  if (isCanary) return { word: 'canary', tone: 'busy' }
  if (update?.state === 'rolled_back') return { word: 'rolled back', tone: 'harm' }
  if (update?.state === 'promoted' && update.own_domain != null)
    return { word: `serves ${update.own_domain}`, tone: 'good' }
  if (mask.swept_at != null) return { word: 'file deleted', tone: 'quiet' }
  if (mask.previous) return { word: 'previous', tone: 'quiet' }
  if (mask.promoted_at !== null) return { word: 'served', tone: 'quiet' }
  if (update && isRejected(update)) return { word: 'rejected', tone: 'harm' }
  return { word: 'never active', tone: 'quiet' }
}

/** The sentence of all masks. */
export function masksSentence(masks: readonly MaskEntry[], activeVersion: number): string {
  if (masks.length === 0) return 'There is no mask yet: the dense weights serve.'
  const served = masks.filter(({ promoted_at: at }) => at !== null).length
  const active = masks.find(({ version }) => version === activeVersion)
  const previous = masks.find((mask) => mask.previous && !mask.active)
  const now = active
    ? `${maskNameFirst(active.version)} serves: it leaves out ${formatShare(active.sparsity)} of the weights, chosen for ${listNames(active.domains)}.`
    : 'The dense weights serve.'
  const back = previous ? ` ${maskNameFirst(previous.version)} is the one before.` : ''
  const count =
    served === 0
      ? 'No mask has been active yet.'
      : `${served} of ${plural(masks.length, 'mask')} ${served === 1 ? 'has' : 'have'} been active.`
  return `${now}${back} ${count}`
}

/** The sentence of one mask. */
export function maskSentence(mask: MaskEntry, { word }: { word: string }): string {
  const parent = maskName(mask.parent_version ?? 0)
  const churn =
    mask.churn === null
      ? ''
      : mask.churn === 0
        ? `, the same ones as ${parent}`
        : `, and treats ${formatShare(mask.churn)} of the weights unlike ${parent}`
  return `${maskNameFirst(mask.version)} ${STATE_CLAUSES[word] ?? `${word} now`}. It leaves out ${formatShare(mask.sparsity)} of the weights${churn}. It was chosen for ${listNames(mask.domains)}; its file has ${formatBytes(mask.bytes)}.`
}

/** Clauses of the sentence of a mask by its state; the others are `… now`. */
const STATE_CLAUSES: Readonly<Record<string, string>> = {
  previous: 'is the one before the active mask',
  served: 'has served',
  'never active': 'has never been active',
  canary: 'is a canary',
  rejected: 'was rejected',
  'rolled back': 'was rolled back',
  'file deleted': 'is gone: its file was deleted',
}

/** Perplexities of a mask on held-out text, beside its parent and the dense weights. */
export interface PerplexityRow {
  domain: string
  own: number
  parent: number | null
  dense: number | null
  /** True if the mask was chosen for the domain. */
  learned: boolean
}

/** The rows of the R matrix that concern one mask; empty if it is not in the matrix. */
export function perplexityRows(
  r: DriftReport['r'],
  mask: Pick<MaskEntry, 'version' | 'parent_version' | 'domains'>,
): PerplexityRow[] {
  const rowOf = (version: number) =>
    r.perplexity[r.stages.findIndex((stage) => stage.mask_version === version)]
  const own = rowOf(mask.version)
  const parent = rowOf(mask.parent_version ?? 0)
  const dense = rowOf(0)
  return r.domains.flatMap((domain, column) => {
    const value = own?.[column]
    if (value == null) return []
    return [
      {
        domain,
        own: value,
        parent: parent?.[column] ?? null,
        dense: dense?.[column] ?? null,
        learned: mask.domains.includes(domain),
      },
    ]
  })
}
