/** Links between documents, and the paths and commands that documents name, exist. */
import { existsSync } from 'node:fs'
import { join, posix } from 'node:path'
import { expect, test } from 'vitest'
import { readText, repositoryFiles, ROOT, withoutCode } from './markdown.ts'

const documents = repositoryFiles().filter((path) => path.endsWith('.md'))

/** The folders of the repository: a name in code style that begins with one is a path. */
const FOLDERS = ['docs', 'gateway', 'gpu-node', 'infra', 'migrations', 'shared', 'test']

test('relative links lead to files, and their anchors to headings', () => {
  const broken = documents.flatMap((path) =>
    linksOf(readText(path)).flatMap((link) => (isBroken(path, link) ? [`${path}: ${link}`] : [])),
  )
  expect(documents.length).toBeGreaterThan(20)
  expect(broken).toEqual([])
})

test('paths that documents name in code style exist', () => {
  const missing = documents.filter(isCurrent).flatMap((path) =>
    pathsOf(withoutCode(readText(path)))
      .filter((named) => !existsSync(join(ROOT, named)))
      .map((named) => `${path}: ${named}`),
  )
  expect(missing).toEqual([])
})

test('npm scripts that documents name exist', () => {
  const { scripts } = JSON.parse(readText('package.json')) as { scripts: Record<string, string> }
  const missing = documents.flatMap((path) =>
    [...readText(path).matchAll(/\bnpm run (?:--silent )?([a-z][a-z:-]*)/g)]
      .filter(([, script = '']) => !(script in scripts))
      .map(([, script]) => `${path}: npm run ${script}`),
  )
  expect(missing).toEqual([])
})

/** Generated reports and the record of what was tried name files of their time. */
function isCurrent(path: string): boolean {
  return !path.startsWith('docs/results/') && path !== 'docs/measurements/tried.md'
}

function linksOf(markdown: string): string[] {
  const text = withoutCode(markdown).replace(/`[^`\n]*`/g, '')
  return [...text.matchAll(/\]\(([^()\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^[a-z]+:/.test(link))
}

function isBroken(from: string, link: string): boolean {
  const [path = '', anchor] = link.split('#')
  const target = path === '' ? from : posix.normalize(posix.join(posix.dirname(from), path))
  if (!existsSync(join(ROOT, target))) return true
  return anchor !== undefined && !anchorsOf(readText(target)).has(anchor)
}

/** Anchors as GitHub makes them of headings. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...withoutCode(markdown).matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) => heading)
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    ),
  )
}

/** Paths in code style, `{a,b}` taken apart; patterns and placeholders are left out. */
function pathsOf(markdown: string): string[] {
  return [...markdown.matchAll(/`([^`\n]+)`/g)]
    .map(([, code = '']) => code)
    .filter((code) => FOLDERS.some((folder) => code.startsWith(`${folder}/`)))
    .filter((code) => !/[\s*<>…$]/.test(code))
    .flatMap(expandBraces)
    .map((path) => path.replace(/[:#].*$/, ''))
}

function expandBraces(path: string): string[] {
  const match = /^(.*?)\{([^{}]*)\}(.*)$/.exec(path)
  if (!match) return [path]
  const [, before = '', choices = '', after = ''] = match
  return choices.split(',').flatMap((choice) => expandBraces(`${before}${choice}${after}`))
}
