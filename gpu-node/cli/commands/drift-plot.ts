import { writeFile } from 'node:fs/promises'
import { InvalidArgumentError } from 'commander'
import { outputFile } from '@copal/gpu-node/platform/path-arguments.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'
import { seriesReport, type SeriesReport } from '@copal/shared/wire/admin-series.ts'
import type { GapMark, GapPoint } from '@copal/lab/report/plots/gap-plot.ts'
import type { Session } from '../api/session.ts'
import { seriesPath, type SeriesOptions } from '../input/series-options.ts'

/** Parses the name of a file that a plot is written to. */
export function plotFile(text: string): string {
  if (/\.(svg|png)$/i.test(text)) return text
  throw new InvalidArgumentError('A file whose name ends with .svg or .png is expected.')
}

/** Writes a plot of what pruning costs each domain over time. */
export async function plotDrift(session: Session, file: string, options: SeriesOptions): Promise<void> {
  const path = outputFile(file, session.terminal.cwd)
  const report = await session.client().admin('GET', seriesPath(options), seriesReport)
  const points = gapPoints(report)
  if (points.length === 0)
    throw new UserError(
      'nothing_scored',
      `No request ${options.domain === undefined ? '' : `of domain '${options.domain}' `}was scored in this time, so there is nothing to plot.`,
    )
  // Loaded here because the plotting library would slow down every other command.
  const [{ gapPlot }, { drawSvg, standaloneSvg }] = await Promise.all([
    import('@copal/lab/report/plots/gap-plot.ts'),
    import('@copal/lab/report/draw-svg.ts'),
  ])
  const svg = await drawSvg(gapPlot(`What pruning costs ${report.model}`, points, gapMarks(report)))
  if (/\.png$/i.test(file)) {
    const { drawPng } = await import('@copal/lab/report/draw-png.ts')
    await writeFile(path, drawPng(svg))
  } else await writeFile(path, standaloneSvg(svg))
  session.print(false, undefined, () => `Written to ${path}.`)
}

/** Returns the gaps of the scored periods; a line is a domain under one mask. */
function gapPoints({ series, starts }: SeriesReport): GapPoint[] {
  return series.flatMap(({ domain, mask_version: version, periods, gap }) =>
    periods.flatMap((period, index) => {
      const [start, mean] = [starts[period], gap.mean[index] ?? null]
      if (start === undefined || mean === null) return []
      const bounds = { lower: gap.lower[index] ?? mean, upper: gap.upper[index] ?? mean }
      return [{ line: `${domain} ${formatMask(version)}`, atMs: start * 1000, mean, ...bounds }]
    }),
  )
}

/** Marks the events of masks, each with a label of two words. */
function gapMarks({ marks }: SeriesReport): GapMark[] {
  const words = {
    promoted: 'active',
    rolled_back: 'rolled back',
    canary: 'canary',
    gate_failed: 'rejected',
    alert: 'alert',
  }
  return marks.map(({ at, kind, mask_version: version }) => ({
    atMs: Date.parse(at),
    label: version === null ? words[kind] : `${formatMask(version)} ${words[kind]}`,
  }))
}
