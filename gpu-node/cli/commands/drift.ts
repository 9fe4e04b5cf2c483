import { Option, type Command } from 'commander'
import { capitalize, listNames } from '@copal/shared/phrases.ts'
import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { plotDrift, plotFile } from './drift-plot.ts'
import { watchDrift } from './drift-watch.ts'
import { describeUnlisted } from './unlisted-domains.ts'
import { timeSpan, type SeriesOptions } from '../input/series-options.ts'
import { readDrift } from '../api/read-drift.ts'
import { counted, formatCount, formatMask, formatPerplexity } from '@copal/gpu-node/platform/quantities.ts'
import { findOverview } from '../input/find-overview.ts'
import type { Session } from '../api/session.ts'

/** The name under which the API lists the general holdout beside domains. */
const GENERAL = '(general)'

interface DriftOptions extends SeriesOptions {
  json?: boolean
  watch?: boolean
  plot?: string
}

/** Adds `copal drift`. */
export function addDrift(program: Command, session: Session): void {
  program
    .command('drift')
    .description('show what pruning costs each domain, now and after each earlier mask')
    .option('--model <id>', 'which model, if the fleet serves several')
    .addOption(new Option('--watch', 'show the last 24 hours of traffic, every 5 seconds').conflicts('json'))
    .addOption(
      new Option('--plot <file>', 'write a plot of the gap over time, .svg or .png')
        .argParser(plotFile)
        .conflicts(['json', 'watch']),
    )
    .option('--domain <name>', 'with --watch or --plot: only this domain')
    .option('--since <time>', 'with --watch or --plot: how far back, like 6h or 30d (default: 1d)', timeSpan)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal drift\n  npx copal drift --watch\n  npx copal drift --plot gap.svg --domain legal --since 7d\n  npx copal drift --json | jq .r.backward_transfer',
    )
    .action(async ({ json, watch, plot, ...series }: DriftOptions, command: Command) => {
      if (watch) return watchDrift(session, series)
      if (plot !== undefined) return plotDrift(session, plot, series)
      const { model, domain, since } = series
      const ignored = domain === undefined ? since && '--since' : '--domain'
      if (ignored) command.error(`error: '${ignored}' goes with --watch or --plot`)
      const report = await readDrift(session.client(), model)
      const overview = json ? undefined : await findOverview(session.client(), model)
      const table: Session['table'] = (columns, rows) => session.table(columns, rows)
      session.print(json, report, () =>
        [describeDrift(report, table), ...describeDetectors(overview, table)].join('\n\n'),
      )
    })
}

/** Renders the report for people. `npm run demo` ends with it too. */
export function describeDrift(report: DriftReport, table: Session['table']): string {
  const parts = [`${report.model}, serving ${formatMask(report.active_version)}`]
  parts.push('On sampled traffic, in nats per token; the gap is what pruning costs.')
  parts.push(
    report.traffic.length === 0
      ? 'No sampled request has been scored yet. To let requests of a key be sampled: npx copal keys sampling <id> always'
      : table(
          [
            { title: 'DOMAIN', value: (entry) => entry.domain, shrinks: true },
            { title: 'MASK', value: (entry) => formatMask(entry.mask_version) },
            { title: 'REQUESTS', value: (entry) => formatCount(entry.requests), align: 'right' },
            { title: 'TOKENS', value: (entry) => formatCount(entry.tokens), align: 'right' },
            { title: 'PRUNED', value: (entry) => entry.nll_masked.toFixed(3), align: 'right' },
            { title: 'DENSE', value: (entry) => entry.nll_dense.toFixed(3), align: 'right' },
            { title: 'GAP', value: (entry) => entry.gap.toFixed(3), align: 'right' },
          ],
          report.traffic,
        ),
  )
  const {
    domains,
    stages,
    earlier_stages: earlier = 0,
    perplexity,
    holdouts,
    backward_transfer: transfer,
    forgetting,
  } = report.r
  if (domains.length > 0 && stages.length > 0) {
    parts.push(
      'Held-out perplexity after each mask (the R matrix); * marks domains that were calibrated on, - what was not measured on ' +
        'the same text in the same precision.',
    )
    parts.push(
      table(
        [
          { title: 'MASK', value: ({ stage }) => formatMask(stage.mask_version) },
          ...domains.map((domain, index) => ({
            title: domain,
            align: 'right' as const,
            value: ({ stage, row }: { stage: DriftReport['r']['stages'][number]; row: number }) => {
              const cell = perplexity[row]?.[index] ?? null
              if (cell === null) return '-'
              return `${formatPerplexity(cell)}${stage.calibrated_domains.includes(domain) ? '*' : ' '}`
            },
          })),
        ],
        stages.map((stage, row) => ({ stage, row })),
      ),
    )
    if (earlier > 0) parts.push(`${counted(earlier, 'earlier mask')} left out.`)
    if (domains.includes(GENERAL)) parts.push(`${GENERAL} is the general holdout (npx copal holdout show).`)
    const grown = holdouts.filter(({ version }) => version === null || version > 1)
    if (grown.length > 0) {
      const versions = grown.map(({ domain, version }) => `${domain} ${formatVersion(version)}`).join(', ')
      parts.push(`Each column is measured on one version of the held-out text: ${versions}; the others v1.`)
    }
  }
  if (forgetting.length > 0) {
    const of = formatMask(report.active_version)
    parts.push(`Perplexity of ${of} on domains learned before, against earlier masks on the same text.`)
    parts.push(
      table(
        [
          { title: 'DOMAIN', value: (entry) => entry.domain, shrinks: true },
          { title: 'TEXT', value: (entry) => formatVersion(entry.holdout_version) },
          { title: of.toUpperCase(), value: (entry) => formatPerplexity(entry.active), align: 'right' },
          { title: 'FIRST', value: ({ first }) => formatEarlier(first), align: 'right' },
          { title: 'BEST', value: ({ best }) => formatEarlier(best), align: 'right' },
        ],
        forgetting,
      ),
    )
  }
  if (transfer) {
    const of = formatMask(report.active_version)
    parts.push(
      `Backward transfer of ${of}: mean ${signed(transfer.mean)}, worst ${signed(transfer.max)} (positive means forgetting).`,
    )
  }
  return parts.join('\n\n')
}

/** Renders what the drift detectors know of each domain with traffic in the last 24 hours. */
function describeDetectors(overview: OverviewReport | undefined, table: Session['table']): string[] {
  if (!overview || overview.domains.length === 0) return []
  return [
    "Whether each domain's traffic or cost of pruning changed, by the drift detectors:",
    [...driftTable(overview, table), ...describeUnlisted(overview)].join('\n'),
  ]
}

/** Renders the domains that detectors read as a table, and the others, which may be many, in a line for each reason. */
function driftTable({ domains }: OverviewReport, table: Session['table']): string[] {
  const known = domains.map((domain) => ({ name: domain.name, ...knownDrift(domain) }))
  const read = known.filter(({ state }) => state !== 'unjudged')
  const others = Map.groupBy(
    known.filter(({ state }) => state === 'unjudged'),
    ({ words }) => words,
  )
  return [
    ...(read.length === 0
      ? []
      : [
          table(
            [
              { title: 'DOMAIN', value: ({ name }) => name, shrinks: true },
              { title: 'DRIFT', value: ({ words }) => words },
            ],
            read,
          ),
        ]),
    ...[...others].map(
      ([words, unread]) => `${capitalize(words)}: ${listNames(unread.map(({ name }) => name))}.`,
    ),
  ]
}

/** Formats a holdout version; its texts may have been deleted since. */
function formatVersion(version: number | null): string {
  return version === null ? 'deleted' : `v${version}`
}

function formatEarlier(earlier: DriftReport['r']['forgetting'][number]['first']): string {
  if (earlier === null) return '-'
  return `${formatMask(earlier.mask_version)} ${formatPerplexity(earlier.perplexity)} (${signed(earlier.difference)})`
}

function signed(value: number): string {
  return `${value > 0 ? '+' : ''}${value.toFixed(3)}`
}
