/** The sentences of a domain's page. */
import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import type { TriggerDomain, TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { paths } from '../../navigation/routes.ts'
import { formatLossDifference, formatShare } from '../../format/numbers.ts'
import { endSentence, type Phrase } from '../../format/phrases.ts'

/** States a domain's share of the traffic, its cost of pruning and mask, and its drift. */
export function costPhrases(summary: DomainSummary, entry: DomainEntry | undefined): Phrase[] {
  const { name, mask_version: version } = summary
  if (summary.requests === 0) return [`${name} had no traffic in the last 24 hours.`]
  const share = `${name} brings ${formatShare(summary.traffic_share)} of the traffic. `
  const drifts = driftPhrases(summary)
  if (version === 0) return [share, 'The dense weights serve it.', ...drifts]
  const mask: Phrase[] = [
    ' under ',
    {
      to: paths.mask(version),
      text: entry?.own_mask === version ? `its own mask ${version}` : `mask ${version}`,
    },
  ]
  if (summary.gap === null)
    return [
      share,
      'What pruning costs it',
      ...mask,
      ' is not known: too few requests were scored.',
      ...drifts,
    ]
  const { mean, lower, upper } = summary.gap
  return [
    share,
    'Pruning costs it ',
    { nats: mean, lower, upper },
    ` perplexity over dense (${formatLossDifference(lower)} to ${formatLossDifference(upper)})`,
    ...mask,
    '.',
    ...drifts,
  ]
}

/** States whether a domain drifts, unless it is steady. */
function driftPhrases(summary: DomainSummary): Phrase[] {
  const { state, words } = knownDrift(summary)
  if (state === 'steady') return []
  if (state === 'drifting') return [' ', { harm: 'It drifts.' }]
  return [` Whether it drifts is ${state === 'unjudged' ? 'not known: it is ' : ''}${words}.`]
}

/** One trigger of an update of a domain, and its progress. */
export interface TriggerRow {
  name: string
  /** 0 to 1; `undefined` where it cannot be measured. */
  progress: number | undefined
  now: string
  dueAt: string
}

/** The triggers of an update of a domain with their progress. */
export function triggerRows(
  domain: TriggerDomain,
  policy: AdaptationPolicy['triggers'] | undefined,
): TriggerRow[] {
  if (!policy) return []
  const rows: TriggerRow[] = [
    {
      name: 'New text',
      progress: Math.min(1, domain.new_segments / policy.new_segments),
      now: `${domain.new_segments}`,
      dueAt: `${policy.new_segments} segments of 512 tokens`,
    },
  ]
  if (policy.max_gap !== null)
    rows.push({
      name: 'Cost of pruning',
      progress: domain.gap === null ? undefined : Math.max(0, Math.min(1, domain.gap / policy.max_gap)),
      now: domain.gap === null ? 'too few scores' : formatLossDifference(domain.gap),
      dueAt: formatLossDifference(policy.max_gap),
    })
  return rows
}

/** Until when a domain waits because updates of it left no mask in use, and how to say so; undefined if it does not wait. */
export function waitAfterFailures(
  { failures, not_before: until }: TriggerDomain,
  nowMs: number,
): { until: string; reason: string } | undefined {
  if (until === null || Date.parse(until) <= nowMs) return undefined
  const updates = failures === 1 ? 'its last update' : `its last ${failures} updates`
  return { until, reason: `because ${updates} left no mask in use` }
}

/** States when the next update of a domain starts, or why it waits. */
export function nextUpdatePhrases(name: string, triggers: TriggersReport, nowMs: number): Phrase[] {
  const domain = triggers.domains.find((entry) => entry.domain === name)
  const { running } = triggers
  if (running?.domains.includes(name))
    return ['An ', { to: paths.update(running.id), text: 'update' }, ' of it runs now.']
  if (!triggers.enabled) return ['Updates do not start by themselves: an operator starts them.']
  if (!domain) return ['No text of it is kept yet, so no update can be made of it.']
  const trials = triggers.dry_run ? ' Nothing starts: triggers are in a dry run.' : ''
  if (domain.due === null) return [`It is not due for an update: ${endSentence(domain.reason)}${trials}`]
  const waits = triggers.waits_for === null ? '' : ` It waits: ${endSentence(triggers.waits_for)}`
  const start: Phrase[] =
    triggers.next_start_at === null
      ? []
      : [
          ' The next update may start ',
          Date.parse(triggers.next_start_at) <= nowMs ? 'now' : { at: triggers.next_start_at },
          '.',
        ]
  return [`It is due for an update: ${endSentence(domain.reason)}${waits}`, ...start, trials]
}
