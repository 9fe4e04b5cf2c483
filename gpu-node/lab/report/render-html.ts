import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Block, Cell, Figure, ReportDocument, Section, Table } from './document/report-document.ts'

/**
 * Renders a report as one HTML file without external resources: style and drawings are inline, and its policy forbids
 * requests.
 *
 * @param drawings the `<svg>` element of each panel, by the panel's name
 */
export function renderHtml(document: ReportDocument, drawings: ReadonlyMap<string, string>): string {
  const style = readFileSync(join(import.meta.dirname, 'report.css'), 'utf8')
  const title = escape(document.title)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>
${style}</style>
</head>
<body>
<main>
<h1>${title}</h1>
<nav aria-label="Contents"><ul>
${document.sections.map((section, index) => `<li><a href="#section-${index}">${escape(section.title)}</a></li>`).join('\n')}
</ul></nav>
${document.sections.map((section, index) => renderSection(section, index, drawings)).join('\n')}
</main>
</body>
</html>
`
}

function renderSection(
  { title, blocks }: Section,
  index: number,
  drawings: ReadonlyMap<string, string>,
): string {
  const body = blocks.map((block) => renderBlock(block, drawings)).join('\n')
  return `<section aria-labelledby="section-${index}">\n<h2 id="section-${index}">${escape(title)}</h2>\n${body}\n</section>`
}

function renderBlock(block: Block, drawings: ReadonlyMap<string, string>): string {
  switch (block.kind) {
    case 'paragraph':
      return `<p>${escape(block.text)}</p>`
    case 'notice':
      return `<div class="notice" role="note"><p>${escape(block.text)}</p><ul>${block.items.map((item) => `<li>${escape(item)}</li>`).join('')}</ul></div>`
    case 'table':
      return renderTable(block)
    case 'figure':
      return renderFigure(block, drawings)
    case 'details':
      return `<details>\n<summary>${escape(block.summary)}</summary>\n${block.tables.map(renderTable).join('\n')}\n</details>`
  }
}

function renderFigure({ caption, panels }: Figure, drawings: ReadonlyMap<string, string>): string {
  const svgs = panels.map(({ name, alt }) =>
    (drawings.get(name) ?? '').replace('<svg', `<svg role="img" aria-label="${escape(alt)}"`),
  )
  return `<figure>\n<div class="panels">${svgs.map((svg) => `<div class="panel">${svg}</div>`).join('\n')}</div>\n<figcaption>${escape(caption)}</figcaption>\n</figure>`
}

function renderTable({ caption, columns, rows }: Table): string {
  const head = columns.every(({ title }) => title === '')
    ? ''
    : `<thead><tr>${columns.map(({ title, align }) => `<th scope="col" class="${align}">${escape(title)}</th>`).join('')}</tr></thead>\n`
  const body = rows
    .map(
      (cells) =>
        `<tr>${cells
          .map((cell, column) =>
            column === 0
              ? `<th scope="row">${renderCell(cell)}</th>`
              : `<td class="${columns[column]?.align ?? 'left'}">${renderCell(cell)}</td>`,
          )
          .join('')}</tr>`,
    )
    .join('\n')
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escape(caption)}">
<table>
<caption><span>${escape(caption)}</span></caption>
${head}<tbody>
${body}
</tbody>
</table>
</div>`
}

function renderCell(cell: Cell): string {
  // Lets a long method name break before a refinement.
  if (typeof cell === 'string') return escape(cell).replaceAll('+', '<wbr>+')
  return cell.style === 'strong'
    ? `<strong>${escape(cell.text)}</strong>`
    : `<code>${escape(cell.text)}</code>`
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
