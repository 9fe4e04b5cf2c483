import * as vega from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'

/** Mean advance of a character in em; sans-serif fonts lie between 0.5 and 0.6. */
const CHARACTER_EM = 0.58

/** Text colour of a file that stands alone, where no page gives it one. */
const STANDALONE_COLOURS =
  '<style>:root{color:#1f2328}@media(prefers-color-scheme:dark){:root{color:#e6edf3}}</style>'

/**
 * Draws a specification as one `<svg>` element without a browser.
 *
 * Text and axes have `currentColor`, so that the element takes the colours of the page it stands in. The same
 * specification gives the same bytes.
 */
export async function drawSvg(spec: TopLevelSpec): Promise<string> {
  measureTextWithoutCanvas()
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none', logLevel: vega.Error })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}

/** The same drawing as a file of its own, dark on light or light on dark as the reader prefers. */
export function standaloneSvg(svg: string): string {
  return `${svg.replace(/<svg[^>]*>/, (start) => `${start}${STANDALONE_COLOURS}`)}\n`
}

/** Vega's own estimate, 0.8 em a character, leaves half of a legend empty; its hook for other measures is untyped. */
function measureTextWithoutCanvas(): void {
  const { textMetrics } = vega as unknown as {
    textMetrics: { width: (item: { fontSize?: number }, text: string | number | null) => number }
  }
  textMetrics.width = (item, text) => String(text ?? '').length * (item.fontSize ?? 11) * CHARACTER_EM
}
