import { Resvg } from '@resvg/resvg-js'
import { CliError } from '../../cli/cli-error.ts'

/** Device pixels a CSS pixel: sharp in print and on dense screens. */
const SCALE = 2

/**
 * A drawing as PNG, dark on white, with the machine's own fonts.
 *
 * @throws CliError `fonts_missing` where the machine has none: it would be a picture without words.
 */
export function drawPng(svg: string): Uint8Array {
  return render(svg, '#ffffff')
}

/** @throws CliError `fonts_missing` */
export function requireFonts(): void {
  const word =
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><text y="15">copal</text></svg>'
  const resvg = new Resvg(word, { font: { loadSystemFonts: true } })
  if (resvg.getBBox() !== undefined) return
  throw new CliError(
    'fonts_missing',
    'This machine has no font to write PNG labels with. Install one (fonts-dejavu-core, for example), or leave --png out: the SVG files need none.',
  )
}

function render(svg: string, background: string): Uint8Array {
  return new Resvg(svg, {
    background,
    fitTo: { mode: 'zoom', value: SCALE },
    font: { loadSystemFonts: true, sansSerifFamily: 'DejaVu Sans', defaultFontFamily: 'DejaVu Sans' },
  })
    .render()
    .asPng()
}
