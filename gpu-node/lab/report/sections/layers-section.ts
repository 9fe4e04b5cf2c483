import { distinct, methodLabel, patternLabel } from '../../results/labels.ts'
import { lastStages } from '../../results/last-stage.ts'
import type { LabResults, LabRun, LayerError } from '../../results/lab-results.ts'
import { numberColumn, paragraph, textColumn, type Panel, type Section } from '../document/report-document.ts'
import { linePlot, type LinePoint } from '../plots/line-plot.ts'
import { styleSeries } from '../plots/plot-theme.ts'
import { MISSING, geometricMean } from '../document/report-cells.ts'
import { panelName, mainRunsByPattern } from '../document/report-runs.ts'

/** Output error of a linear after its refinement, relative to that of the mask selected by scores only. */
interface RelativeError {
  /** The decoder block; null for a linear outside any block, which is not drawn. */
  block: number | null
  /** `q_proj`, `down_proj`. */
  linear: string
  ratio: number
}

/** Returns the section on how much of each layer's output error swaps and reconstruction remove. */
export function layersSection(results: LabResults): Section | undefined {
  const patterns = mainRunsByPattern(results)
  const refined = patterns.flatMap(({ runs }) =>
    runs.flatMap((run) => {
      const errors = relativeErrors(run, results)
      return errors.some(({ ratio }) => ratio !== 1) ? [{ run, errors }] : []
    }),
  )
  if (refined.length === 0) return undefined
  const [drawnPattern] = refined.map(({ run }) => run.pattern)
  const methods = distinct(refined.map(({ run }) => methodLabel(run)))
  const drawn = refined.filter(({ run }) => run.pattern === drawnPattern)
  const linears = distinct(drawn.flatMap(({ errors }) => errors.map(({ linear }) => linear)))
  // The same range for all methods, so that panels can be compared.
  const ratios = drawn.flatMap(({ errors }) => errors.map(({ ratio }) => ratio))
  const span: [number, number] = [Math.min(...ratios), Math.max(...ratios)]
  return {
    title: 'Output error by layer',
    blocks: [
      paragraph(
        'Output error of a linear on its calibration statistic, tr(E H Eᵀ), after swaps or reconstruction, divided by that of the mask that scores alone select; after the last stage. 1 is no gain.',
      ),
      {
        kind: 'figure',
        caption: `By decoder block, ${patternLabel(drawnPattern ?? '')}.`,
        panels: drawn.flatMap(({ run, errors }) => layerPanel(run, errors, linears, span) ?? []),
      },
      {
        kind: 'table',
        caption: 'Geometric mean over all linears, by pattern',
        columns: [
          textColumn('Method'),
          ...patterns.map(({ pattern }) => numberColumn(patternLabel(pattern))),
        ],
        rows: methods.map((method) => [
          method,
          ...patterns.map(({ pattern }) => {
            const entry = refined.find(({ run }) => methodLabel(run) === method && run.pattern === pattern)
            return geometricMean(entry?.errors.map(({ ratio }) => ratio) ?? [])?.toFixed(3) ?? MISSING
          }),
        ]),
      },
    ],
  }
}

function layerPanel(
  run: LabRun,
  errors: readonly RelativeError[],
  linears: string[],
  span: [number, number],
): Panel | undefined {
  const points = errors.flatMap(({ block, linear, ratio }): LinePoint[] =>
    block === null ? [] : [{ series: linear, x: block, y: ratio }],
  )
  if (points.length === 0) return undefined
  return {
    name: panelName('layers', methodLabel(run)),
    alt: `Output error of ${methodLabel(run)} after refinement as a share of that before, by decoder block and linear`,
    spec: linePlot({
      title: methodLabel(run),
      points,
      style: styleSeries(linears),
      x: { title: 'Decoder block', format: 'd' },
      y: {
        title: 'Output error, after ÷ before',
        format: '.2f',
        scale: { domain: span, zero: false, nice: true },
      },
    }),
  }
}

/** Returns the errors of the last stage; if there are several, their geometric mean. */
function relativeErrors(run: LabRun, results: LabResults): RelativeError[] {
  const records = lastStages(run, results).flatMap(({ layerErrors }) => (layerErrors ? [layerErrors] : []))
  return distinct(records.flatMap((record) => Object.keys(record))).flatMap((name) => {
    const ratio = geometricMean(records.flatMap((record) => errorRatio(record[name])))
    return ratio === null ? [] : [{ ...parseLinearName(name), ratio }]
  })
}

/** Returns undefined when the error before or after is 0, because a logarithmic scale cannot show it. */
function errorRatio(error: LayerError | undefined): number[] {
  if (error === undefined) return []
  const { after } = error
  const before = error.score ?? error.before
  return before > 0 && after > 0 ? [after / before] : []
}

/** Parses `model.layers.3.self_attn.q_proj.weight` into block 3 and `q_proj`. */
function parseLinearName(name: string): { block: number | null; linear: string } {
  const [, block] = /\.(\d+)\./.exec(name) ?? []
  const linear =
    name
      .replace(/\.weight$/, '')
      .split('.')
      .at(-1) ?? name
  return { block: block === undefined ? null : Number(block), linear }
}
