import { distinct, methodLabel, patternLabel } from '../../results/labels.ts'
import { evaluationAfterLastStage } from '../../results/last-stage.ts'
import type { LabDomain, LabResults, LabRun } from '../../results/lab-results.ts'
import {
  numberColumn,
  paragraph,
  textColumn,
  type Block,
  type Panel,
  type Section,
  type Table,
} from '../document/report-document.ts'
import { linePlot, type LineAxis, type LinePoint } from '../plots/line-plot.ts'
import { linearOrLogScale } from '../plots/plot-theme.ts'
import { perplexityCell } from '../document/report-cells.ts'
import { methodStyle, panelName } from '../document/report-runs.ts'

interface Sweep {
  /** Prefix of the panels' names. */
  name: string
  title: string
  note: string
  runs: LabRun[]
  x: LineAxis
  xOf: (run: LabRun) => number
  xLabel: (x: number) => string
}

/** Returns the section with perplexity by the share of pruned weights (figure 1 of the paper). */
export function sparsitySection(results: LabResults): Section | undefined {
  const runs = sweptRuns(results, 'sparsity-sweep').filter(({ pattern }) => !pattern.includes(':'))
  return sweepSection(results, {
    name: 'sparsity',
    title: 'Sparsity',
    note: `Unstructured masks, ${results.settings.samples} calibration samples a dataset.`,
    runs,
    x: { title: 'Weights pruned, %', values: distinct(runs.map(percentPruned)) },
    xOf: percentPruned,
    xLabel: (x) => `${x} %`,
  })
}

/**
 * Returns the sections with perplexity by the number of calibration samples (figure 3 of the paper), one per pattern.
 */
export function samplesSections(results: LabResults): Section[] {
  const swept = sweptRuns(results, 'sample-sweep')
  const patterns = distinct(swept.map(({ pattern }) => pattern))
  return patterns.flatMap((pattern) => {
    const runs = swept.filter((run) => run.pattern === pattern)
    return (
      sweepSection(results, {
        name: patterns.length > 1 ? `samples-${pattern}` : 'samples',
        title: patterns.length > 1 ? `Calibration samples, ${patternLabel(pattern)}` : 'Calibration samples',
        note: `${patternLabel(pattern)}, ${results.settings.length} tokens a sample.`,
        runs,
        x: {
          title: 'Calibration samples a dataset',
          scale: { type: 'log', base: 2, nice: false, padding: 12 },
          values: distinct(runs.map(({ samples }) => samples)),
          format: 'd',
        },
        xOf: ({ samples }) => samples,
        xLabel: String,
      }) ?? []
    )
  })
}

/** Returns the runs of a sweep, and the main runs that provide points which the sweep lacks. */
function sweptRuns({ runs }: LabResults, purpose: 'sparsity-sweep' | 'sample-sweep'): LabRun[] {
  const point = (run: LabRun): string => [methodLabel(run), run.pattern, run.samples].join()
  const sweep = runs.filter((run) => run.purpose === purpose)
  const methods = new Set(sweep.map(methodLabel))
  const points = new Set(sweep.map(point))
  const patterns = new Set(sweep.map(({ pattern }) => pattern))
  const samples = new Set(sweep.map((run) => run.samples))
  const isOnLine = (run: LabRun): boolean =>
    purpose === 'sparsity-sweep' ? samples.has(run.samples) : patterns.has(run.pattern)
  const others = runs.filter(
    (run) =>
      run.purpose === 'main' && methods.has(methodLabel(run)) && isOnLine(run) && !points.has(point(run)),
  )
  return [...sweep, ...others]
}

function percentPruned({ pattern }: LabRun): number {
  return Number((Number(pattern) * 100).toFixed(2))
}

function sweepSection(results: LabResults, sweep: Sweep): Section | undefined {
  if (distinct(sweep.runs.map(sweep.xOf)).length < 2) return undefined
  // The same kind of scale for all domains, so that slopes can be compared.
  const spans = results.domains.flatMap((domain) => {
    const levels = sweepPoints(results, sweep, domain).map(({ y }) => y)
    return levels.length === 0 ? [] : Math.max(...levels) / Math.min(...levels)
  })
  const scale = linearOrLogScale([1, ...spans])
  const panels = results.domains.flatMap((domain) => sweepPanel(results, sweep, domain, scale) ?? [])
  if (panels.length === 0) return undefined
  const blocks: Block[] = [
    paragraph(sweep.note),
    { kind: 'figure', caption: 'Perplexity after the last stage; dense is the unpruned model.', panels },
    {
      kind: 'details',
      summary: 'The numbers',
      tables: results.domains.map((domain) => sweepTable(results, sweep, domain)),
    },
  ]
  return { title: sweep.title, blocks }
}

function sweepPanel(
  results: LabResults,
  sweep: Sweep,
  domain: LabDomain,
  scale: Record<string, unknown>,
): Panel | undefined {
  const points = sweepPoints(results, sweep, domain)
  if (points.length === 0) return undefined
  const dense = results.dense[domain.name]?.perplexity
  return {
    name: panelName(sweep.name, domain.name),
    alt: `Perplexity on ${domain.name} by ${sweep.title.toLowerCase()}, one line a method; the table below has the numbers`,
    spec: linePlot({
      title: domain.calibration === null ? `${domain.name} (never calibrated on)` : domain.name,
      points,
      style: methodStyle(results),
      x: sweep.x,
      y: { title: 'Perplexity', format: ',.4~r', scale },
      ...(dense === undefined ? {} : { reference: { label: 'dense', y: dense } }),
    }),
  }
}

function sweepPoints(results: LabResults, sweep: Sweep, domain: LabDomain): LinePoint[] {
  return sweep.runs.flatMap((run) => {
    const y = evaluationAfterLastStage(run, domain.name, results)?.perplexity
    return y === undefined ? [] : [{ series: methodLabel(run), x: sweep.xOf(run), y }]
  })
}

function sweepTable(results: LabResults, sweep: Sweep, domain: LabDomain): Table {
  const xs = distinct(sweep.runs.map(sweep.xOf)).toSorted((a, b) => a - b)
  const methods = distinct(sweep.runs.map(methodLabel))
  return {
    kind: 'table',
    caption: domain.calibration === null ? `${domain.name}, never calibrated on` : domain.name,
    columns: [textColumn('Method'), ...xs.map((x) => numberColumn(sweep.xLabel(x)))],
    rows: methods.map((method) => [
      method,
      ...xs.map((x) => {
        const run = sweep.runs.find(
          (candidate) => methodLabel(candidate) === method && sweep.xOf(candidate) === x,
        )
        return perplexityCell(run && evaluationAfterLastStage(run, domain.name, results)?.perplexity)
      }),
    ]),
  }
}
