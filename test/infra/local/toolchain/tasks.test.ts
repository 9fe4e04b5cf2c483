import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import manifest from '../../../../package.json' with { type: 'json' }
import { readTask } from '../../../../infra/local/toolchain/tasks.mjs'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'

const NAMES = Object.values(manifest.scripts).flatMap(
  (script) => /bootstrap\.mjs (\S+)$/.exec(script)?.[1] ?? [],
)

test.each(NAMES)('npm run %s is a file', (name) => {
  const { file } = readTask([name, ...(name === 'lab:texts' ? ['texts'] : [])]) as { file: string }
  expect(existsSync(join(ROOT, file))).toBe(true)
})

test.each(NAMES.filter((name) => name !== 'bench' && name !== 'demo'))(
  'npm run %s tells what it takes',
  (name) => {
    expect(readTask([name, '--help']).help).toMatch(new RegExp(`^Usage: npm (run )?${name}`))
  },
)

test.each(['bench', 'demo'])('npm run %s has help of its own', (name) => {
  expect(readTask([name, '--help'])).toMatchObject({ args: ['--help'] })
})

test.each([
  [
    ['start', '--port', '9000'],
    "npm start does not take '--port'. Set COPAL_PORT: COPAL_PORT=9000 npm start",
  ],
  [['start', '--node-port=9001'], 'Set COPAL_NODE_PORT: COPAL_NODE_PORT=9001 npm start'],
  [['dev', 'now'], "npm run dev does not take 'now'. See: npm run dev -- --help"],
  [['lab:texts'], "Missing argument 'directory': npm run lab:texts -- <directory> [domain …]"],
  [['lab:texts', '--out'], "npm run lab:texts does not take '--out'."],
  [['check', '--fix'], "npm run check does not take '--fix'."],
  [['strat'], "Unknown task 'strat'. Known tasks: start, test"],
])('%j is an error that names the correct usage', (args, message) => {
  expect(() => readTask(args)).toThrow(message)
})

test('arguments of another program are passed on', () => {
  expect(readTask(['test', '--project', 'unit', 'a.test.ts'])).toMatchObject({
    name: 'test',
    args: ['--project', 'unit', 'a.test.ts'],
  })
  expect(readTask(['deploy', '--env', 'staging'])).toMatchObject({ args: ['--env', 'staging'] })
})

test('processes that serve tokens have one thread that collects garbage, others as many as Node gives them', () => {
  for (const name of ['node', 'bench'])
    expect(readTask([name])).toMatchObject({ options: ['--v8-pool-size=1'] })
  expect(readTask(['start'])).toMatchObject({ options: [] })
})
