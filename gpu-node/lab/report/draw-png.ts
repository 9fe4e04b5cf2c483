import { Resvg, type ResvgRenderOptions } from '@resvg/resvg-js'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'

/** Device pixels per CSS pixel, for print and dense screens. */
const SCALE = 2

/**
 * Draws an SVG as PNG, dark on white, with the machine's fonts.
 *
 * @param options.systemFonts whether the machine's fonts may be used
 * @throws UserError `fonts_missing` when there is no font, because the text would be missing
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

/** Returns whether there is a font: without one, a word has no extent. */
function requireFonts(font: NonNullable<ResvgRenderOptions['font']>): void {
  const word =
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><text y="15">copal</text></svg>'
  if (new Resvg(word, { font }).getBBox() !== undefined) return
  throw new UserError(
    'fonts_missing',
    'This machine has no font for the labels of PNG files. Install one, such as fonts-dejavu-core, or leave out --png: SVG files need no font.',
  )
}
