import { expect, test } from 'vitest'
import type { Setting, SettingReader } from '../../shared/src/settings/setting.ts'
import { SETTINGS } from '../../shared/src/settings-table.ts'
import { readText, repositoryFiles, ROOT, tableWith } from './markdown.ts'

const PAGE = 'docs/configuration.md'
/** The table joins the files of this folder. */
const SUBJECTS = 'shared/src/settings'
const UPDATE = 'npx vitest run --project unit test/docs/configuration.test.ts --update'

/** Variables between two parts of the build or of a test, which no user sets. */
const INTERNAL = new Set([
  // The hash of its sources, which the build writes into the addon.
  'COPAL_SOURCES',
  // From the conformance test to its hooks in Python.
  'COPAL_KEY',
  'COPAL_ANSWERS',
  'COPAL_NAMED',
])

/** Removed variables, which the node rejects with what replaced them. */
const REMOVED = new Set(['COPAL_PROVIDER'])

const READERS: Record<SettingReader, string> = {
  gateway: 'the gateway',
  node: 'the node',
  start: '`npm start`',
  command: '`copal`',
  tests: 'tests and benchmarks',
}

const settings: [string, Setting][] = Object.entries(SETTINGS)

test(`${PAGE} has the settings of the table (to update it: ${UPDATE})`, async () => {
  const page = readText(PAGE)
  const updated = page.replace(
    /<!-- settings: (\w+) -->\n[\s\S]*?<!-- end -->/g,
    (_, reader) => `<!-- settings: ${reader} -->\n${renderTable(reader as SettingReader)}<!-- end -->`,
  )
  for (const reader of Object.keys(READERS)) expect(page).toContain(`<!-- settings: ${reader} -->`)
  await expect(updated).toMatchFileSnapshot(`${ROOT}/${PAGE}`)
})

test('each variable is described once, in the file of its subject', () => {
  const described = repositoryFiles(SUBJECTS).flatMap((path) =>
    [...readText(path).matchAll(/^  ([A-Z][A-Z0-9_]*): \{$/gm)].map(([, name = '']) => name),
  )
  expect(described.toSorted()).toEqual(Object.keys(SETTINGS).toSorted())
})

test('every variable that a source or a document names is in the table', () => {
  const unknown = new Map<string, string>()
  for (const path of repositoryFiles().filter(isText)) {
    for (const [name] of readText(path).matchAll(/\b(?:COPAL|OTEL)_[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*\b(?!_)/g))
      if (!(name in SETTINGS) && !INTERNAL.has(name) && !REMOVED.has(name)) unknown.set(name, path)
  }
  expect(Object.fromEntries(unknown)).toEqual({})
})

test('every variable of the table is read by code', () => {
  const code = repositoryFiles('gateway/src', 'gpu-node', 'shared/src/telemetry', 'infra', 'test/support')
    .filter(isText)
    .map((path) => readText(path))
    .join('\n')
  const unread = settings.filter(([name]) => !new RegExp(`\\b${name}\\b`).test(code)).map(([name]) => name)
  expect(unread).toEqual([])
})

test('the programs that read a variable are its readers', () => {
  const folders: [SettingReader, string[]][] = [
    ['gateway', ['gateway/src']],
    ['start', ['infra/local/start', 'infra/local/service']],
    ['command', ['gpu-node/cli']],
  ]
  const unnamed = folders.flatMap(([reader, paths]) =>
    repositoryFiles(...paths)
      .flatMap((path) => [...readText(path).matchAll(/\benv(?:\.|\[')(COPAL_[A-Z0-9_]+)/g)])
      .map(([, name = '']) => ({ reader, name }))
      .filter(({ name }) => {
        const readers: readonly SettingReader[] =
          settings.find(([known]) => known === name)?.[1].readers ?? []
        // `npm start` passes the gateway its variables.
        return !readers.includes(reader) && !(reader === 'start' && readers.includes('gateway'))
      }),
  )
  expect(unnamed).toEqual([])
})

test('the README quotes defaults of the table', () => {
  const { rows } = tableWith(readText('README.md'), 'Variable', 'Default')
  const quoted = rows.map(([variable = '', standard]) => ({ variable, default: standard }))
  const actual = quoted.map(({ variable }) => {
    const setting = settings.find(([name]) => `\`${name}\`` === variable)?.[1]
    return { variable, default: `\`${setting?.default}\`` }
  })
  expect(quoted).not.toEqual([])
  expect(quoted).toEqual(actual)
})

function renderTable(reader: SettingReader): string {
  const rows = settings.filter(([, { readers }]) => readers[0] === reader).map(renderRow)
  return ['| Variable | Default | Meaning |', '| --- | --- | --- |', ...rows, ''].join('\n')
}

function renderRow([name, setting]: [string, Setting]): string {
  const { default: standard, unset, readers, meaning } = setting
  const byDefault = [standard === undefined ? undefined : `\`${standard}\``, unset].filter((part) => part)
  const others = readers.slice(1).map((reader) => READERS[reader])
  const also = others.length > 0 ? ` Also read by ${others.join(' and ')}.` : ''
  const secret = setting.secret ? 'Secret. ' : ''
  return `| \`${name}\` | ${byDefault.join('; ') || '–'} | ${secret}${meaning}${also} |`
}

/** Out are generated files, the changelog, which names what is gone, and this file, whose names are patterns. */
function isText(path: string): boolean {
  return (
    /\.(ts|mts|mjs|rs|py|toml|sh|yml|yaml|json|md)$/.test(path) &&
    !path.startsWith(SUBJECTS) &&
    path !== 'CHANGELOG.md' &&
    !path.endsWith('package-lock.json') &&
    !path.startsWith('docs/results/') &&
    path !== 'test/docs/configuration.test.ts'
  )
}
