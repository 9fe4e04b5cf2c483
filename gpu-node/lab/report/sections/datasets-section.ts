import { methodLabel, patternLabel } from '../../results/labels.ts'
import { calibratedDomains } from '../../results/last-stage.ts'
import type { LabResults, LabRun, StageMatrix } from '../../results/lab-results.ts'
import { hasWeightStasis } from '../../results/summary.ts'
import { numberColumn, paragraph, textColumn, type Section, type Table } from '../document/report-document.ts'
import { arithmeticMean, differenceCell, MISSING, perplexityCell } from '../document/report-cells.ts'
import { mainRunsByPattern } from '../document/report-runs.ts'

/** Returns the section with the R matrix by dataset and stage, averaged over permutations. */
export function datasetsSection(results: LabResults): Section | undefined {
  const patterns = mainRunsByPattern(results).flatMap(({ pattern, runs }) => {
    const withMatrices = runs.filter(({ matrices }) => matrices.length > 0)
    return withMatrices.length > 0 ? [{ pattern, runs: withMatrices }] : []
  })
  if (patterns.length === 0) return undefined
  return {
    title: 'Per dataset and stage',
    blocks: [
      paragraph(
        'Mean perplexity on a dataset after each stage, over the permutations in which it had been learned by then. “Alone” is calibrated on that dataset and nothing else; “÷ alone” is the last stage by it: what the others cost this one. “Forgotten” is the mean of last stage less own stage, over the permutations in which it was not the last.',
      ),
      ...patterns.map(({ pattern, runs }) => datasetTable(results, pattern, runs)),
    ],
  }
}

function datasetTable(results: LabResults, pattern: string, runs: readonly LabRun[]): Table {
  const datasets = calibratedDomains(results)
  const stages = Array.from({ length: datasets.length }, (_, stage) => stage)
  return {
    kind: 'table',
    caption: patternLabel(pattern),
    columns: [
      textColumn('Method'),
      textColumn('Dataset'),
      numberColumn('dense'),
      numberColumn('alone'),
      ...stages.map((stage) => numberColumn(`stage ${stage + 1}`)),
      numberColumn('÷ alone'),
      numberColumn('forgotten'),
    ],
    rows: runs.flatMap((run) =>
      datasets.map(({ name }) => [
        methodLabel(run),
        name,
        perplexityCell(results.dense[name]?.perplexity),
        perplexityCell(perplexityAlone(run, name)),
        ...stages.map((stage) => perplexityCell(meanAtStage(run.matrices, name, stage))),
        ratioToAlone(meanAtStage(run.matrices, name, stages.length - 1), perplexityAlone(run, name)),
        hasWeightStasis(run) ? 'WS' : differenceCell(meanForgotten(run.matrices, name)),
      ]),
    ),
  }
}

/** Returns the constant value of a method that reads no statistics. */
function perplexityAlone(run: LabRun, dataset: string): number | null {
  const known = run.datasets === 'none' ? [] : [dataset]
  const stage = run.stages.find(({ domains }) => domains.join() === known.join())
  return stage?.evaluations[dataset]?.perplexity ?? null
}

function ratioToAlone(last: number | null, own: number | null): string {
  return last === null || own === null ? MISSING : (last / own).toFixed(3)
}

function meanAtStage(matrices: readonly StageMatrix[], dataset: string, stage: number): number | null {
  return arithmeticMean(
    matrices.flatMap(({ order, R }) => {
      const position = order.indexOf(dataset)
      return position === -1 || position > stage ? [] : (R[stage]?.[position] ?? [])
    }),
  )
}

function meanForgotten(matrices: readonly StageMatrix[], dataset: string): number | null {
  return arithmeticMean(
    matrices.flatMap(({ order, R }) => {
      const position = order.indexOf(dataset)
      if (position === -1 || position === order.length - 1) return []
      const learned = R[position]?.[position] ?? null
      const last = R[order.length - 1]?.[position] ?? null
      return learned === null || last === null ? [] : [last - learned]
    }),
  )
}
