/** The content of a report, before it is rendered as Markdown or HTML. */
import type { TopLevelSpec } from 'vega-lite'

/** A report. */
export interface ReportDocument {
  title: string
  sections: Section[]
}

/** A titled section of a report. */
export interface Section {
  title: string
  blocks: Block[]
}

/** A block of a section. */
export type Block = Paragraph | Notice | Table | Figure | Details

/** A paragraph of plain text. */
export interface Paragraph {
  kind: 'paragraph'
  text: string
}

/** A notice that the reader must not miss. */
export interface Notice {
  kind: 'notice'
  text: string
  items: string[]
}

/** A table with a caption. */
export interface Table {
  kind: 'table'
  caption: string
  columns: TableColumn[]
  rows: Cell[][]
}

/** A column's title and alignment. */
export interface TableColumn {
  title: string
  /** Numbers are aligned right. */
  align: 'left' | 'right'
}

/** A cell; `strong` for the best of its column, `code` for a hash or an identifier. */
export type Cell = string | { text: string; style: 'strong' | 'code' }

/** Details for few readers, folded where the medium supports it. */
export interface Details {
  kind: 'details'
  summary: string
  tables: Table[]
}

/** Panels side by side that share one caption. */
export interface Figure {
  kind: 'figure'
  caption: string
  panels: Panel[]
}

/** One plot of a figure. */
export interface Panel {
  /** Name of its files, unique in a document, like `sparsity-newswire`. */
  name: string
  /** Text for screen readers. */
  alt: string
  spec: TopLevelSpec
}

/** Creates a paragraph. */
export function paragraph(sentences: string): Paragraph {
  return { kind: 'paragraph', text: sentences }
}

/** Creates a column of names. */
export function textColumn(title: string): TableColumn {
  return { title, align: 'left' }
}

/** Creates a column of numbers. */
export function numberColumn(title: string): TableColumn {
  return { title, align: 'right' }
}
