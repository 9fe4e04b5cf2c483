import { methodLabel, patternLabel } from '../../results/labels.ts'
import { evaluationAfterLastStage } from '../../results/last-stage.ts'
import type { LabDomain, LabResults, LabRun } from '../../results/lab-results.ts'
import {
  numberColumn,
  paragraph,
  textColumn,
  type Panel,
  type Section,
  type Table,
} from '../document/report-document.ts'
import { dotPlot } from '../plots/dot-plot.ts'
import { emphasiseLowest, geometricMean, perplexityCell, ratioCell } from '../document/report-cells.ts'
import { panelName, mainRunsByPattern } from '../document/report-runs.ts'

/**
 * Returns the section with the perplexity by domain after the last stage, also for domains that were not calibrated on.
 */
export function lastStageSection(results: LabResults): Section | undefined {
  const patterns = mainRunsByPattern(results)
  if (patterns.length === 0) return undefined
  const panels = patterns.flatMap(({ pattern, runs }) => overviewPanel(results, pattern, runs) ?? [])
  const restarts = patterns.some(({ runs }) => runs.some(({ datasets }) => datasets === 'newest'))
  return {
    title: 'After the last stage, by domain',
    blocks: [
      paragraph(
        `Perplexity on text that was not calibrated on${results.warnings?.length ? ', but for what the notice at the top says' : ''}.${
          restarts
            ? ' A restarted method knows only the dataset that came last: its figure is the geometric mean over which one that was.'
            : ''
        }${
          results.settings.propagation === 'dense'
            ? ''
            : ` With ${results.settings.propagation} propagation masks depend on the order of the domains: figures are geometric means over the orders that were played.`
        }${results.domains.some(({ calibration }) => calibration === null) ? ' Domains marked ∘ were never calibrated on.' : ''}`,
      ),
      ...(panels.length > 0
        ? [{ kind: 'figure' as const, caption: 'How many times the dense perplexity: 1 is no loss.', panels }]
        : []),
      ...patterns.map(({ pattern, runs }) => domainTable(results, pattern, runs)),
    ],
  }
}

function domainTable(results: LabResults, pattern: string, runs: readonly LabRun[]): Table {
  const { domains, dense } = results
  const groups = [
    { title: '× dense', members: domains.filter(({ calibration }) => calibration !== null) },
    { title: '× dense ∘', members: domains.filter(({ calibration }) => calibration === null) },
  ].filter(({ members }) => members.length > 0)
  const values = runs.map((run) => [
    ...domains.map(({ name }) => evaluationAfterLastStage(run, name, results)?.perplexity ?? null),
    ...groups.map(({ members }) => meanRatio(run, members, results)),
  ])
  const cells = runs.map((run, row) => [
    methodLabel(run),
    ...(values[row] ?? []).map((value, column) =>
      column < domains.length ? perplexityCell(value) : ratioCell(value),
    ),
  ])
  const emphasised = [...domains, ...groups].reduce(
    (rows, _, column) =>
      emphasiseLowest(
        rows,
        column + 1,
        values.map((row) => row[column]),
      ),
    cells as Table['rows'],
  )
  return {
    kind: 'table',
    caption: `${patternLabel(pattern)}; × dense: geometric mean over the domains`,
    columns: [
      textColumn('Method'),
      ...domains.map((domain) => numberColumn(domainTitle(domain))),
      ...groups.map(({ title }) => numberColumn(title)),
    ],
    rows: [
      [
        'dense',
        ...domains.map(({ name }) => perplexityCell(dense[name]?.perplexity)),
        ...groups.map(() => ratioCell(1)),
      ],
      ...emphasised,
    ],
  }
}

function overviewPanel(results: LabResults, pattern: string, runs: readonly LabRun[]): Panel | undefined {
  const dots = runs.flatMap((run) =>
    results.domains.flatMap((domain) => {
      const x = ratioToDense(run, domain.name, results)
      return x === null ? [] : [{ row: methodLabel(run), series: domainTitle(domain), x }]
    }),
  )
  if (dots.length === 0) return undefined
  return {
    name: panelName('last-stage', pattern),
    alt: `Perplexity of each method as a multiple of the dense model's, by domain, ${patternLabel(pattern)}`,
    spec: dotPlot({
      title: patternLabel(pattern),
      dots,
      series: results.domains.map(domainTitle),
      xTitle: 'Perplexity ÷ dense perplexity',
    }),
  }
}

function domainTitle({ name, calibration }: LabDomain): string {
  return calibration === null ? `${name} ∘` : name
}

function ratioToDense(run: LabRun, domain: string, results: LabResults): number | null {
  const pruned = evaluationAfterLastStage(run, domain, results)
  const dense = results.dense[domain]
  return pruned && dense ? Math.exp(pruned.nllMean - dense.nllMean) : null
}

function meanRatio(run: LabRun, members: readonly LabDomain[], results: LabResults): number | null {
  const ratios = members.map(({ name }) => ratioToDense(run, name, results))
  const measured = ratios.filter((ratio) => ratio !== null)
  return measured.length < ratios.length ? null : geometricMean(measured)
}
