/** The sentences of the overview: health, cost of pruning, adaptation. */
import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { paths } from '../../navigation/routes.ts'
import { formatProgress, formatShare, plural } from '../../format/numbers.ts'
import { capitalize, listNames, type Phrase } from '../../format/phrases.ts'
import { hasEnded, UPDATE_STATES } from '../../format/words.ts'
import { secondsLeft, timeLeft } from '../../format/times.ts'

/** A share of failed requests above which the service is not called well. */
const MAX_FAILED_SHARE = 0.01

/** Present problems, one phrase each, worst first; empty when all is well. */
function problemsOf({ nodes, traffic, alerts, model }: OverviewReport): string[] {
  const alive = nodes.filter((node) => node.alive)
  const problems: string[] = []
  if (alive.length === 0) problems.push('no node is alive, so requests fail')
  else if (alive.length < nodes.length)
    problems.push(
      `${nodes.length - alive.length} of ${plural(nodes.length, 'node')} ${nodes.length - alive.length === 1 ? 'is' : 'are'} silent`,
    )
  const failed = traffic.failed_share ?? 0
  if (failed > MAX_FAILED_SHARE) problems.push(`${formatShare(failed)} of the requests fail`)
  if (alerts.length > 0)
    problems.push(`${plural(alerts.length, 'alert')} ${alerts.length === 1 ? 'holds' : 'hold'}`)
  if (alive.length > 0 && !model.converged) problems.push('nodes still change to the mask')
  return problems
}

/** Names the problems, or says that all is well; then the mask that serves, and since when. */
export function healthSentence(overview: OverviewReport): Phrase[] {
  const { model } = overview
  const problems = problemsOf(overview)
  const lead: Phrase =
    problems.length === 0 ? 'All is well.' : { harm: `${capitalize(listNames(problems, 5))}.` }
  if (model.active_version === 0) return [lead, ' The dense weights serve; no mask is active yet.']
  const mask: Phrase = { to: paths.mask(model.active_version), text: `Mask ${model.active_version}` }
  return model.active_since === null
    ? [lead, ' ', mask, ' serves.']
    : [lead, ' ', mask, ' has served ', { since: model.active_since }, '.']
}

type CostlyDomain = DomainSummary & { gap: NonNullable<DomainSummary['gap']> }

/** States the cost of pruning: the domain with the highest, and the bound of the others. */
export function costSentence({ model, domains }: OverviewReport): Phrase[] {
  if (model.active_version === 0) return []
  const known = domains
    .filter((domain): domain is CostlyDomain => domain.gap !== null)
    .toSorted((a, b) => b.gap.mean - a.gap.mean)
  const [worst, next] = known
  if (!worst)
    return domains.length === 0 ? [] : ['What pruning costs is not known yet: too few requests were scored.']
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

/** States the running update with the time left. */
export function adaptingSentence({ updates }: OverviewReport, nowMs: number): Phrase[] {
  const running = updates.filter((update) => !hasEnded(update))
  const [first] = running
  if (!first) return ['Nothing is adapting.']
  const left = first.state === 'canary' ? undefined : secondsLeft(first.created_at, first.progress, nowMs)
  return [
    { to: paths.update(first.id), text: `An update of ${listNames(first.domains)}` },
    ` is ${UPDATE_STATES[first.state]}, ${formatProgress(first.progress)}`,
    left === undefined ? '' : `, ${timeLeft(left)}`,
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
    ` "messages": [{"role": "user", "content": "Hello."}]}`,
  ].join('\n       ')
  return `curl ${origin}/v1/chat/completions \\
  -H "authorization: Bearer $COPAL_API_KEY" \\
  -H "content-type: application/json" \\
  -d '${body.replaceAll("'", String.raw`'\''`)}'`
}
