import { beforeAll, describe, expect, test } from 'vitest'
import { composeReport } from '../../../../gpu-node/lab/report/compose-report.ts'
import type { Panel, ReportDocument } from '../../../../gpu-node/lab/report/document/report-document.ts'
import { drawSvg, standaloneSvg } from '../../../../gpu-node/lab/report/draw-svg.ts'
import { renderHtml } from '../../../../gpu-node/lab/report/render-html.ts'
import { renderMarkdown } from '../../../../gpu-node/lab/report/render-markdown.ts'
import { drawPng } from '../../../../gpu-node/lab/report/draw-png.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'

const report = composeReport(generatedResults())
const panels = report.sections.flatMap(({ blocks }) =>
  blocks.flatMap((block) => (block.kind === 'figure' ? block.panels : [])),
)
const drawings = new Map<string, string>()

beforeAll(async () => {
  for (const { name, spec } of panels) drawings.set(name, await drawSvg(spec))
})

describe('drawings', () => {
  test('have a legend with every method, axis titles with units, and only numeric coordinates', () => {
    const svg = drawing('sparsity-newswire')
    expect(svg).toContain('>Weights pruned, %<')
    expect(svg).toContain('>Perplexity<')
    for (const method of ['wanda', 'copal', 'continual-wanda+swaps+reconstruct', 'dense']) {
      expect(svg).toContain(`>${method}<`)
    }
    for (const each of drawings.values()) expect(each).not.toMatch(/NaN|undefined|Infinity/)
  })

  test('take text and axis colours from the page', () => {
    for (const svg of drawings.values()) {
      expect(svg).toContain('fill="currentColor"')
      expect(svg).not.toMatch(/fill="(#000|#333|black|#fff|white)/)
    }
  })

  test('label logarithmic scales, which are used from one decade on', () => {
    expect(drawing('last-stage-0-5')).toContain('>Perplexity ÷ dense perplexity, log scale<')
    expect(drawing('churn-0-5')).not.toContain('log scale')
  })

  test('give the same bytes when drawn again', async () => {
    for (const { name, spec } of panels.slice(0, 4)) {
      expect(await drawSvg(spec)).toBe(drawings.get(name))
    }
  })

  test('in a standalone file follow the reader’s preference for light or dark', () => {
    const svg = drawing('churn-0-5')
    expect(standaloneSvg(svg)).toContain('@media(prefers-color-scheme:dark)')
    expect(svg).not.toContain('prefers-color-scheme')
  })

  test('without a font on the machine there is an error instead of a PNG without labels', () => {
    expect(() => drawPng(drawing('churn-0-5'), { systemFonts: false })).toThrow(
      'This machine has no font for the labels of PNG files.',
    )
  })
})

describe('the page', () => {
  const page = () => renderHtml(report, drawings)

  test('contains every drawing and makes no requests', () => {
    const html = page()
    expect(html.match(/<svg /g)).toHaveLength(panels.length)
    expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`)
    expect(html).not.toMatch(/<script|<link|<img|<iframe|@import|src=|url\((?!#)/)
    const addresses = new Set(html.match(/https?:\/\/[^"<\s]+/g))
    expect([...addresses]).toEqual(['http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'])
  })

  test('uses each id once', () => {
    const ids = Array.from(page().matchAll(/ id="([^"]+)"/g), ([, id]) => id)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('describes each drawing to screen readers', () => {
    expect(page().match(/<svg role="img" aria-label="[^"]{20,}"/g)).toHaveLength(panels.length)
  })

  test('lets wide tables scroll, so that the page does not scroll sideways', () => {
    const html = page()
    expect(html.match(/<table>/g)).toHaveLength(html.match(/<div class="scroll" tabindex="0"/g)?.length ?? 0)
    expect(html).toContain('overflow-x: auto')
    expect(html).toContain('name="viewport" content="width=device-width, initial-scale=1"')
  })
})

describe('names from outside', () => {
  const hostile: ReportDocument = {
    title: 'a <b> & "c"',
    sections: [
      {
        title: '<script>alert(1)</script>',
        blocks: [
          {
            kind: 'table',
            caption: 'x|y',
            columns: [
              { title: 'a|b', align: 'left' },
              { title: 'c', align: 'right' },
            ],
            rows: [
              ['*bold* _it_ [l](x) `c`', { text: 'a`b|c', style: 'code' }],
              ['line\nbreak', { text: '1*2', style: 'strong' }],
            ],
          },
        ],
      },
    ],
  }

  test('are escaped in HTML', () => {
    const html = renderHtml(hostile, new Map())
    expect(html).not.toContain('<script')
    expect(html).toContain('<h2 id="section-0">&lt;script&gt;alert(1)&lt;/script&gt;</h2>')
    expect(html).toContain('<title>a &lt;b&gt; &amp; &quot;c&quot;</title>')
  })

  test('are escaped in Markdown, and do not end a cell', () => {
    const lines = renderMarkdown(hostile, 'plots').split('\n')
    expect(lines).toContain('## \\<script\\>alert(1)\\</script\\>')
    expect(lines.slice(-5, -1)).toEqual([
      '| a\\|b | c |',
      '| :-- | --: |',
      "| \\*bold\\* \\_it\\_ \\[l\\](x) \\`c\\` | `a'b\\|c` |",
      '| line break | **1\\*2** |',
    ])
  })
})

test('Markdown links the file of every drawing', () => {
  const markdown = renderMarkdown(report, 'plots')
  for (const { name } of panels) expect(markdown).toContain(`](plots/${name}.svg)`)
})

function drawing(name: Panel['name']): string {
  const svg = drawings.get(name)
  if (svg === undefined) throw new Error(`no drawing ${name}`)
  return svg
}
