/** A report before it is Markdown or HTML: what it says, without how it looks. */
import type { TopLevelSpec } from 'vega-lite'

export interface ReportDocument {
  title: string
  sections: Section[]
}

export interface Section {
  title: string
  blocks: Block[]
}

export type Block = Paragraph | Notice | Table | Figure | Details

export interface Paragraph {
  kind: 'paragraph'
  text: string
}

/** Something that the reader must not miss. */
export interface Notice {
  kind: 'notice'
  text: string
  items: string[]
}

export interface Table {
  kind: 'table'
  caption: string
  columns: TableColumn[]
  rows: Cell[][]
}

export interface TableColumn {
  title: string
  /** Figures stand right. */
  align: 'left' | 'right'
}

/** `strong`: the best of its column. `code`: a hash or an identifier. */
export type Cell = string | { text: string; style: 'strong' | 'code' }

/** What few readers want: folded away where the medium can. */
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

export interface Panel {
  /** Name of its files, unique in a document: `sparsity-newswire`. */
  name: string
  /** What a screen reader says. */
  alt: string
  spec: TopLevelSpec
}

export function paragraph(sentences: string): Paragraph {
  return { kind: 'paragraph', text: sentences }
}

/** A column of names. */
export function textColumn(title: string): TableColumn {
  return { title, align: 'left' }
}

/** A column of figures. */
export function numberColumn(title: string): TableColumn {
  return { title, align: 'right' }
}
