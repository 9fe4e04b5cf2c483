import type { Block, Cell, ReportDocument, Table } from './document/report-document.ts'

/**
 * Renders a report as Markdown.
 *
 * @param plotsDir folder of the panels' SVG files, relative to the Markdown file
 */
export function renderMarkdown(document: ReportDocument, plotsDir: string): string {
  const sections = document.sections.map(
    ({ title, blocks }) =>
      `## ${escape(title)}\n\n${blocks.map((block) => renderBlock(block, plotsDir)).join('\n\n')}`,
  )
  return `# ${escape(document.title)}\n\n${sections.join('\n\n')}\n`
}

function renderBlock(block: Block, plotsDir: string): string {
  switch (block.kind) {
    case 'paragraph':
      return escape(block.text)
    case 'notice':
      return [`> **${escape(block.text)}**`, '>', ...block.items.map((item) => `> - ${escape(item)}`)].join(
        '\n',
      )
    case 'table':
      return renderTable(block)
    case 'details':
      return block.tables.map(renderTable).join('\n\n')
    case 'figure':
      return [
        ...block.panels.map(({ name, alt }) => `![${escape(alt)}](${plotsDir}/${name}.svg)`),
        '',
        `*${escape(block.caption)}*`,
      ].join('\n')
  }
}

function renderTable({ caption, columns, rows }: Table): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`
  return [
    `**${escape(caption)}**`,
    '',
    line(columns.map(({ title }) => escape(title))),
    line(columns.map(({ align }) => (align === 'right' ? '--:' : ':--'))),
    ...rows.map((cells) => line(cells.map(renderCell))),
  ].join('\n')
}

function renderCell(cell: Cell): string {
  if (typeof cell === 'string') return escape(cell)
  if (cell.style === 'strong') return `**${escape(cell.text)}**`
  // In code, only characters that would end the cell or the code are escaped.
  return `\`${cell.text.replaceAll('`', "'").replaceAll('|', '\\|').replaceAll(/\s+/g, ' ')}\``
}

/** Escapes names, which come from outside, so that they are not read as markup. */
function escape(text: string): string {
  return text.replaceAll(/[\\`*_[\]<>|#~&]/g, String.raw`\$&`).replaceAll(/\s*\n\s*/g, ' ')
}
