import type { Command } from 'commander'
import { listNames } from '@copal/shared/phrases.ts'
import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import { updateStateWord } from '@copal/shared/wire/update-states.ts'
import { overviewReport, type DomainSummary, type OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import {
  counted,
  formatBytes,
  formatCount,
  formatDuration,
  formatMask,
  formatNatsInterval,
  formatPercent,
  formatTime,
  formatTimeOfDay,
} from '@copal/gpu-node/platform/quantities.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { withCommands } from '../api/command-wording.ts'
import { withTimeLeft } from '../api/follow-update.ts'
import type { Session } from '../api/session.ts'
import { modelQuery } from '../input/mask-argument.ts'
import { wholeNumber } from '../options/option-parsers.ts'
import { liveView } from '../output/live-view.ts'
import { sparkline } from '../output/sparkline.ts'
import { nodeTable } from './node-table.ts'
import { describeUnlisted } from './unlisted-domains.ts'

/** Minutes of tokens that the line of traffic shows. */
const TREND_MINUTES = 30

interface TopOptions {
  model?: string
  interval: number
  once?: boolean
  json?: boolean
}

/** Adds `copal top`. */
export function addTop(program: Command, session: Session): void {
  program
    .command('top')
    .description('watch the fleet: traffic, nodes, domains, updates and alerts, until Ctrl-C')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--interval <seconds>', 'time between two drawings', wholeNumber, 2)
    .option('--once', 'print the present state and end')
    .option('--json', 'print the present state as JSON and end')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal top\n  npx copal top --once\n  npx copal top --json | jq .traffic',
    )
    .action(async ({ model, interval, once, json }: TopOptions) => {
      const path = `/overview${modelQuery(model)}`
      if (once || json) {
        const report = await fetchOverview(session, path)
        return session.print(json, report, () => describeOverview(report, session.table))
      }
      let shown: string | undefined
      await liveView(session.terminal, Math.max(1, interval) * 1000, async () => {
        try {
          shown = describeOverview(await fetchOverview(session, path), session.table)
          return shown
        } catch (error) {
          // A gateway that restarts does not end the view; the first drawing must succeed.
          if (shown === undefined || session.terminal.signal.aborted || !(error instanceof UserError))
            throw error
          return `${shown}\n\nNo news: ${error.message}`
        }
      })
    })
}

async function fetchOverview(session: Session, path: string): Promise<OverviewReport> {
  try {
    return await session.client().admin('GET', path, overviewReport)
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    if (error.code === 'other_version')
      throw new UserError(
        error.code,
        `${error.message} 'npx copal status' reads less, and may work meanwhile.`,
      )
    if (error.code !== 'not_found') throw error
    throw new UserError(
      'not_found',
      `${error.message} 'npx copal top' needs a node that has registered, and a gateway with GET /admin/overview. 'npx copal status' works without.`,
    )
  }
}

/** Renders the state of the fleet: traffic, alerts, nodes, domains, updates. */
function describeOverview(report: OverviewReport, table: Session['table']): string {
  const { nodes, domains, alerts } = report
  return [
    [describeModel(report), describeTraffic(report), report.health.text].join('\n'),
    alerts.map(({ message, raised_at: at }) => `! ${formatTime(at)}  ${withCommands(message)}`).join('\n'),
    nodes.length === 0 ? 'No node is known.' : nodeTable(nodes, { table }),
    domains.length === 0
      ? 'No domain has traffic in the last 24 hours.'
      : [domainTable(domains, table), ...describeUnlisted(report)].join('\n'),
    describeUpdates(report),
  ]
    .filter((part) => part !== '')
    .join('\n\n')
}

function describeModel({ at, version, model }: OverviewReport): string {
  const { id, active_version: active, mask, weight_bytes: bytes, dense_bytes: dense, converged } = model
  const size =
    bytes === null
      ? []
      : [`${formatBytes(bytes)} of weights${dense === null ? '' : ` (dense ${formatBytes(dense)})`}`]
  const facts = [
    `${id} ${formatMask(active)}`,
    ...(mask === null ? [] : [`${formatPercent(mask.sparsity)} pruned`]),
    ...size,
    converged ? 'converged' : 'not converged yet',
  ]
  return `${facts.join(', ')}  -  copal ${version}, ${formatTimeOfDay(at)}`
}

function describeTraffic({ traffic }: OverviewReport): string {
  const { first_token_ms_p95: firstToken, failed_share: failed } = traffic
  const facts = [
    `${traffic.requests_per_second.toFixed(1)} requests/s`,
    `${traffic.tokens_per_second.toFixed(0)} tokens/s`,
    `${formatCount(traffic.running)} running`,
    `${formatCount(traffic.waiting)} waiting`,
    ...(firstToken === null ? [] : [`first token ${(firstToken / 1000).toFixed(2)} s (95 %)`]),
    ...(failed === null ? [] : [`${formatPercent(failed)} failed`]),
  ]
  return `${facts.join('  ')}  ${sparkline(traffic.tokens_trend.slice(-TREND_MINUTES))}`
}

function domainTable(domains: readonly DomainSummary[], table: Session['table']): string {
  return table(
    [
      { title: 'DOMAIN', value: (domain) => domain.name, shrinks: true },
      { title: 'SHARE', value: (domain) => formatPercent(domain.traffic_share), align: 'right' },
      { title: 'REQUESTS', value: (domain) => formatCount(domain.requests), align: 'right' },
      { title: 'GAP', value: ({ gap }) => (gap === null ? '-' : gap.mean.toFixed(3)), align: 'right' },
      {
        title: '95 %',
        value: ({ gap }) => (gap === null ? '-' : formatNatsInterval(gap.lower, gap.upper)),
      },
      { title: '24 HOURS', value: (domain) => sparkline(domain.gap_trend) },
      { title: 'DRIFT', value: (domain) => knownDrift(domain).words },
    ],
    domains,
  )
}

function describeUpdates({ at, updates, canary }: OverviewReport): string {
  const lines = updates.map((update) => {
    const { id, domains, progress, message, created_at: since, finished_at: end } = update
    const of = `${id} ${listNames(domains)}: ${updateStateWord(update)}`
    if (end !== null) return `Last update ${of}, ${formatTime(end)}. ${withCommands(message)}`
    const age = formatDuration(Date.parse(at) - Date.parse(since))
    return `Update ${of}, ${formatPercent(progress)}, for ${age}. ${withCommands(withTimeLeft(message))}`
  })
  if (canary?.canary) {
    const { mask_version: version, share, evidence } = canary.canary
    const scored = evidence === null ? '' : `, ${counted(evidence.requests, 'scored request')}`
    lines.push(
      `Canary: ${formatMask(version)} for ${formatPercent(share)} of the conversations${scored}. See: npx copal canary`,
    )
  }
  return lines.join('\n')
}
