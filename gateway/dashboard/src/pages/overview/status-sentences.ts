/** The sentences of the overview: health, cost of pruning, adaptation. */
import { listNames } from '@copal/shared/phrases.ts'
import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { paths } from '../../navigation/routes.ts'
import { formatProgress, plural } from '../../format/numbers.ts'
import type { Phrase } from '../../format/phrases.ts'
import { hasEnded } from '../../format/words.ts'

/** Names the problems, or says that all is well as far as it is known; then the mask that serves, and since when. */
export function healthSentence({ health, model }: OverviewReport): Phrase[] {
  // A number stays on the line of its sign.
  const text = health.text.replaceAll(' %', '\u202f%')
  const lead: Phrase = health.problems.length === 0 ? text : { harm: text }
  if (model.active_version === 0) {
    const { previous_version: previous } = model
    return previous === null || previous === 0
      ? [lead, ' The dense weights serve; no mask is active yet.']
      : [
          lead,
          ' The dense weights serve; ',
          { to: paths.mask(previous), text: `mask ${previous}` },
          ' served before.',
        ]
  }
  const mask: Phrase = { to: paths.mask(model.active_version), text: `Mask ${model.active_version}` }
  return model.active_since === null
    ? [lead, ' ', mask, ' serves.']
    : [lead, ' ', mask, ' has served ', { since: model.active_since }, '.']
}

type CostlyDomain = DomainSummary & { gap: NonNullable<DomainSummary['gap']> }

/** States the cost of pruning: the domain with the highest, and the bound of the others. */
export function costSentence({ model, domains, health }: OverviewReport): Phrase[] {
  if (model.active_version === 0) return []
  const known = domains
    .filter((domain): domain is CostlyDomain => domain.gap !== null)
    .toSorted((a, b) => b.gap.mean - a.gap.mean)
  const [worst, next] = known
  if (!worst) {
    // Without problems the sentence of the health says that no request was scored.
    const isSaid =
      health.problems.length === 0 && domains.every(({ missing_observations: missing }) => missing === null)
    return domains.length === 0 || isSaid
      ? []
      : ['What pruning costs is not known yet: too few requests were scored.']
  }
  const first: Phrase[] = [
    'Pruning costs ',
    { to: paths.domain(worst.name), text: worst.name },
    next ? ' most, ' : ' ',
    { nats: worst.gap.mean, lower: worst.gap.lower, upper: worst.gap.upper },
    ' perplexity over dense',
  ]
  if (!next) return [...first, '.']
  return [
    ...first,
    '; no other domain more than ',
    { nats: next.gap.mean, lower: next.gap.lower, upper: next.gap.upper },
    '.',
  ]
}

/** States the running update with its progress; how long its steps take depends on their work, so no time left follows from it. */
export function adaptingSentence({ updates }: OverviewReport): Phrase[] {
  const running = updates.filter((update) => !hasEnded(update))
  const [first] = running
  if (!first) return ['Nothing is adapting.']
  return [
    { to: paths.update(first.id), text: `An update of ${listNames(first.domains)}` },
    ` is ${UPDATE_STATES[first.state]}, ${formatProgress(first.progress)}`,
    running.length > 1 ? `, and ${plural(running.length - 1, 'other update')} runs` : '',
    '.',
  ]
}

/** Whether the service has had no traffic and nothing was decided: it just started. */
export function isUnused({ domains, traffic, decisions }: OverviewReport): boolean {
  return (
    decisions.length === 0 &&
    domains.every(({ requests }) => requests === 0) &&
    traffic.running === 0 &&
    traffic.tokens_trend.every((tokens) => tokens === 0)
  )
}

/** A first request, to copy. */
export function curlExample(origin: string, model: string): string {
  const body = [
    `{"model": ${JSON.stringify(model)},`,
    ` "max_tokens": 64, "messages": [{"role": "user", "content": "Hello."}]}`,
  ].join('\n       ')
  return `curl ${origin}/v1/chat/completions \\
  -H "authorization: Bearer $COPAL_API_KEY" \\
  -H "content-type: application/json" \\
  -d '${body.replaceAll("'", String.raw`'\''`)}'`
}
