import { methodLabel, patternLabel } from '../../results/labels.ts'
import type { LabResults, LabRun } from '../../results/lab-results.ts'
import {
  numberColumn,
  paragraph,
  textColumn,
  type Panel,
  type Section,
  type Table,
} from '../document/report-document.ts'
import { linePlot } from '../plots/line-plot.ts'
import { arithmeticMean, MISSING } from '../document/report-cells.ts'
import { methodStyle, panelName, mainRunsByPattern } from '../document/report-runs.ts'

/** Returns the section on how much of a mask changes from one stage to the next. */
export function churnSection(results: LabResults): Section | undefined {
  const patterns = mainRunsByPattern(results).flatMap(({ pattern, runs }) => {
    const withChurn = runs.filter(({ matrices }) => matrices.some(({ churn }) => churn.length > 0))
    return withChurn.length > 0 ? [{ pattern, runs: withChurn }] : []
  })
  if (patterns.length === 0) return undefined
  return {
    title: 'Mask churn',
    blocks: [
      paragraph(
        'Share of mask bits that change from one stage to the next, mean over permutations. A mask that never changes stays at 0.',
      ),
      {
        kind: 'figure',
        caption: 'Mask bits changed between stages.',
        panels: patterns.map(({ pattern, runs }) => churnPanel(results, pattern, runs)),
      },
      ...patterns.map(({ pattern, runs }) => churnTable(pattern, runs)),
    ],
  }
}

function churnPanel(results: LabResults, pattern: string, runs: readonly LabRun[]): Panel {
  const points = runs.flatMap((run) =>
    churnByStep(run).map((churn, step) => ({
      series: methodLabel(run),
      x: step + 1,
      y: (churn.mean ?? 0) * 100,
    })),
  )
  return {
    name: panelName('churn', pattern),
    alt: `Percentage of mask bits changed between stages, one line a method, ${patternLabel(pattern)}`,
    spec: linePlot({
      title: patternLabel(pattern),
      points,
      style: methodStyle(results),
      x: {
        title: 'From stage to stage',
        values: [...new Set(points.map(({ x }) => x))],
        labelExpr: "datum.value + ' → ' + (datum.value + 1)",
      },
      y: { title: 'Mask bits changed, %', scale: { zero: true, nice: true } },
    }),
  }
}

function churnTable(pattern: string, runs: readonly LabRun[]): Table {
  const steps = Math.max(...runs.map((run) => churnByStep(run).length))
  return {
    kind: 'table',
    caption: `${patternLabel(pattern)}: mean (least to most over permutations)`,
    columns: [
      textColumn('Method'),
      ...Array.from({ length: steps }, (_, step) => numberColumn(`stage ${step + 1} → ${step + 2}`)),
    ],
    rows: runs.map((run) => {
      const churn = churnByStep(run)
      return [methodLabel(run), ...Array.from({ length: steps }, (_, step) => churnText(churn[step]))]
    }),
  }
}

interface Churn {
  mean: number | null
  min: number
  max: number
}

function churnByStep({ matrices }: LabRun): Churn[] {
  const steps = Math.max(0, ...matrices.map(({ churn }) => churn.length))
  return Array.from({ length: steps }, (_, step) => {
    const changed = matrices.flatMap(({ churn }) => churn[step] ?? [])
    return { mean: arithmeticMean(changed), min: Math.min(...changed), max: Math.max(...changed) }
  })
}

function churnText(churn: Churn | undefined): string {
  if (churn === undefined || churn.mean === null) return MISSING
  const percent = (fraction: number): string => (fraction * 100).toFixed(2)
  return churn.min === churn.max
    ? `${percent(churn.mean)} %`
    : `${percent(churn.mean)} % (${percent(churn.min)} to ${percent(churn.max)})`
}
