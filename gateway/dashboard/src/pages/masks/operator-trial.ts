/** Trials that an operator starts and ends, not an update: in which one a mask is, and what it has shown. */
import type { CanaryReport, ShadowReport, VersionTraffic } from '@copal/shared/wire/admin-trials.ts'
import type { MaskEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { formatShare } from '../../format/numbers.ts'
import { maskName, maskNameFirst, maskVerb } from '../../format/mask-names.ts'

/** The kind of a trial: a canary answers clients, a shadow only scores. */
export type TrialKind = 'canary' | 'shadow'
type Model = StatusReport['models'][number]

/** The kinds of trials of a mask that an operator started. */
export function operatorTrials(model: Model, version: number): TrialKind[] {
  return (['canary', 'shadow'] as const).filter((kind) => {
    const trial = model[kind]
    return trial?.mask_version === version && trial.update_id === null
  })
}

/** Returns whether an operator may start a trial of a mask: it has its file, is not active, and no update has a canary. */
export function mayStartTrial(model: Model, mask: MaskEntry): boolean {
  const isBusy = model.canary !== null && model.canary.update_id !== null
  return mask.version !== model.active_version && mask.swept_at == null && !isBusy
}

/** Largest shares of trials, per cent: some conversations must be left that a canary is compared with. */
export const MAX_PERCENT: Readonly<Record<TrialKind, number>> = { canary: 90, shadow: 100 }

/** Reads a share as a person types it, in per cent: above 0, at most {@link MAX_PERCENT}. `undefined` is not a share. */
export function parseShare(kind: TrialKind, text: string): number | undefined {
  const percent = Number(text.trim().replace(/\s*%$/, ''))
  return text.trim() !== '' && percent > 0 && percent <= MAX_PERCENT[kind] ? percent / 100 : undefined
}

/** The effects of starting a trial, told to the operator before. */
export function startConsequences(kind: TrialKind, model: Model, version: number): string[] {
  const running = model[kind]
  const replaces =
    running && running.mask_version !== version
      ? [`It takes the place of the ${kind} of ${maskName(running.mask_version)}.`]
      : []
  const active = maskName(model.active_version)
  return kind === 'canary'
    ? [
        `Mask ${version} answers this share of the conversations of ${model.id}, and ${active} the others.`,
        ...replaces,
        'It runs until you end it or another mask becomes active; nothing ends it by itself, whatever it shows.',
      ]
    : [
        `Mask ${version} scores this share of the sampled requests of ${model.id} after ${active} has answered them. Clients do not notice it; nodes load the mask and compute more.`,
        ...replaces,
        'It runs until you end it or another mask becomes active.',
      ]
}

/** The effects of ending a trial. */
export function endConsequences(kind: TrialKind, model: Model): string[] {
  const active = model.active_version
  return kind === 'canary'
    ? [
        `${maskNameFirst(active)} ${maskVerb(active, 'answers', 'answer')} all conversations of ${model.id} again, within some 2 seconds. Running requests end where they are.`,
        'Start another canary to try the mask again.',
      ]
    : ['Nothing is scored under the mask any more. Its scores are kept for 30 days.']
}

/** A row of the comparison of a canary: the traffic of one mask since it began. */
export interface CanaryRow extends VersionTraffic {
  /** Share of its requests that failed; null without requests. */
  failedShare: number | null
  /** Loss under the mask minus loss under dense weights, nats a token; null while nothing was scored. */
  cost: number | null
}

/** The traffic of the canary and of the active mask, the canary first. */
export function canaryRows({ versions, active_version: active }: CanaryReport): CanaryRow[] {
  return versions
    .toSorted((a, b) => Number(a.mask_version === active) - Number(b.mask_version === active))
    .map((traffic) => ({
      ...traffic,
      failedShare: traffic.requests === 0 ? null : traffic.failed / traffic.requests,
      cost: difference(traffic.nll_masked, traffic.nll_dense),
    }))
}

/** A row of the comparison of a shadow: one domain. */
export interface ShadowRow {
  domain: string
  requests: number
  tokens: number
  /** Loss of the prompts under the shadow minus that under the active mask, nats a token. */
  change: number | null
}

/** The domains of a shadow, by scored tokens, most first. */
export function shadowRows({ domains }: ShadowReport): ShadowRow[] {
  return domains
    .map(({ domain, requests, prompt }) => ({
      domain,
      requests,
      tokens: prompt.tokens,
      change: difference(prompt.nll_shadow, prompt.nll_active),
    }))
    .toSorted((a, b) => b.tokens - a.tokens)
}

/** The sentence above a comparison: who started it, its share, and whether the nodes have the mask. */
export function trialSentence(
  kind: TrialKind,
  share: number,
  nodes: CanaryReport['nodes'] | undefined,
): string {
  const what =
    kind === 'canary'
      ? `Answers ${formatShare(share)} of the conversations`
      : `Scores ${formatShare(share)} of the sampled requests`
  const ready =
    !nodes || nodes.ready === nodes.alive
      ? ''
      : ` ${nodes.ready} of ${nodes.alive} live nodes have loaded it.`
  return `${what}, because an operator started it.${ready}`
}

function difference(value: number | null, from: number | null): number | null {
  return value === null || from === null ? null : value - from
}
