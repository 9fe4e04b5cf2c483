import { rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { LabResults } from '../results/lab-results.ts'
import { composeReport } from './compose-report.ts'
import type { ReportDocument } from './document/report-document.ts'
import { drawSvg, standaloneSvg } from './draw-svg.ts'
import { renderHtml } from './render-html.ts'
import { renderMarkdown } from './render-markdown.ts'
import { makeFolder } from '@copal/gpu-node/platform/make-folder.ts'

const PLOTS_DIR = 'plots'

/**
 * Renders `report.md`, `report.html` and `plots/*.svg` into `dir`, each file atomically.
 *
 * @param options.png whether to write `plots/*.png` too
 * @returns the files written, relative to `dir`
 * @throws UserError `fonts_missing` when PNG is asked for on a machine without fonts
 */
export async function writeReport(
  dir: string,
  results: LabResults,
  options: { png?: boolean } = {},
): Promise<string[]> {
  const report = composeReport(results)
  const drawings = await drawPanels(report)
  const files = new Map<string, string | Uint8Array>([
    ['report.md', renderMarkdown(report, PLOTS_DIR)],
    ['report.html', renderHtml(report, drawings)],
    ...Array.from(drawings, ([name, svg]) => [join(PLOTS_DIR, `${name}.svg`), standaloneSvg(svg)] as const),
  ])
  if (options.png) {
    // Loaded only for PNG, because it brings a native library.
    const { drawPng } = await import('./draw-png.ts')
    for (const [name, svg] of drawings) files.set(join(PLOTS_DIR, `${name}.png`), drawPng(svg))
  }
  for (const [file, content] of files) await replaceFile(join(dir, file), content)
  return [...files.keys()]
}

async function drawPanels({ sections }: ReportDocument): Promise<Map<string, string>> {
  const panels = sections.flatMap(({ blocks }) =>
    blocks.flatMap((block) => (block.kind === 'figure' ? block.panels : [])),
  )
  const drawings = new Map<string, string>()
  for (const { name, spec } of panels) drawings.set(name, await drawSvg(spec))
  return drawings
}

async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  makeFolder(dirname(path))
  await writeFile(`${path}.partial`, content)
  await rename(`${path}.partial`, path)
}
