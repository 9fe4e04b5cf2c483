import * as vega from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'

/** Mean width of a character in em; sans-serif fonts have 0.5 to 0.6. */
const CHARACTER_EM = 0.58

/** Text colour of a standalone file. */
const STANDALONE_COLOURS =
  '<style>:root{color:#1f2328}@media(prefers-color-scheme:dark){:root{color:#e6edf3}}</style>'

/**
 * Draws a plot specification as one `<svg>` element, without a browser.
 *
 * Text and axes have `currentColor`, so that the element takes the colours of its page. The same specification gives
 * the same bytes.
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

/** Turns a drawing into a standalone file, dark on light or light on dark as the reader prefers. */
export function standaloneSvg(svg: string): string {
  return `${svg.replace(/<svg[^>]*>/, (start) => `${start}${STANDALONE_COLOURS}`)}\n`
}

/**
 * Replaces Vega's estimate of 0.8 em per character, which leaves half of a legend empty. The hook for it is untyped.
 */
function measureTextWithoutCanvas(): void {
  const { textMetrics } = vega as unknown as {
    textMetrics: { width: (item: { fontSize?: number }, text: string | number | null) => number }
  }
  textMetrics.width = (item, text) => String(text ?? '').length * (item.fontSize ?? 11) * CHARACTER_EM
}
