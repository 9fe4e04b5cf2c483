import { Resvg, type ResvgRenderOptions } from '@resvg/resvg-js'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'

/** Device pixels a CSS pixel: sharp in print and on dense screens. */
const SCALE = 2

/**
 * A drawing as PNG, dark on white, with the machine's own fonts.
 *
 * @param options.systemFonts whether the machine's fonts may be used.
 * @throws UserError `fonts_missing` where there is none: it would be a picture without words.
 */
export function drawPng(svg: string, options: { systemFonts?: boolean } = {}): Uint8Array {
  const font = {
    loadSystemFonts: options.systemFonts ?? true,
    sansSerifFamily: 'DejaVu Sans',
    defaultFontFamily: 'DejaVu Sans',
  }
  requireFonts(font)
  return new Resvg(svg, { background: '#ffffff', fitTo: { mode: 'zoom', value: SCALE }, font })
    .render()
    .asPng()
}

/** A word has an extent where there is a font to write it with. */
function requireFonts(font: NonNullable<ResvgRenderOptions['font']>): void {
  const word =
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><text y="15">copal</text></svg>'
  if (new Resvg(word, { font }).getBBox() !== undefined) return
  throw new UserError(
    'fonts_missing',
    'This machine has no font to write the labels of PNG files with. Install one, such as fonts-dejavu-core, or leave --png out: the SVG files need none.',
  )
}
