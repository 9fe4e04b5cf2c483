import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** The root of the checkout. */
export const ROOT = resolve(import.meta.dirname, '../..')

/** Paths, relative to the root, of the files that git tracks or would add under some folders; all without folders. */
export function repositoryFiles(...folders: string[]): string[] {
  const listed = execFileSync(
    'git',
    ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...folders],
    { cwd: ROOT, encoding: 'utf8' },
  )
  return listed.split('\n').filter((path) => path !== '' && existsSync(join(ROOT, path)))
}

/** The text of a file, by its path relative to the root. */
export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** A table of a Markdown document: cells without emphasis. */
export interface MarkdownTable {
  readonly header: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** The tables of a document, in order. */
export function tablesOf(markdown: string): MarkdownTable[] {
  const tables: { header: string[]; rows: string[][] }[] = []
  let open: { header: string[]; rows: string[][] } | undefined
  for (const line of withoutCode(markdown).split('\n')) {
    if (!line.startsWith('|')) {
      open = undefined
      continue
    }
    const cells = cellsOf(line)
    if (open === undefined) {
      open = { header: cells, rows: [] }
      tables.push(open)
    } else if (!cells.every((cell) => /^:?-+:?$/.test(cell))) {
      open.rows.push(cells)
    }
  }
  return tables
}

/** The first table whose header has all of these cells. */
export function tableWith(markdown: string, ...header: string[]): MarkdownTable {
  const table = tablesOf(markdown).find((one) => header.every((cell) => one.header.includes(cell)))
  if (!table) throw new Error(`There is no table with the columns ${header.join(', ')}.`)
  return table
}

/** The fenced code blocks of a document, in order. `language` is empty where a block names none. */
export function codeBlocksOf(markdown: string): { language: string; code: string }[] {
  return [...markdown.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language = '', code = '']) => ({
    language,
    code,
  }))
}

/** A document without its fenced code blocks. */
export function withoutCode(markdown: string): string {
  return markdown.replace(/^ *```[\s\S]*?^ *```$/gm, '')
}

function cellsOf(line: string): string[] {
  return line
    .replace(/^\|/, '')
    .replace(/\|\s*$/, '')
    .split(/(?<!\\)\|/)
    .map((cell) => cell.replaceAll('**', '').trim())
}
