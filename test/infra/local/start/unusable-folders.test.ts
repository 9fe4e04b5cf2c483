/** `npm start` and `npm run node` with folders that they cannot use: they end at once with one line. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** Far more than a start takes until it looks at its folders. A start that hangs is killed. */
const HANGS_MS = 60_000

function run(task: 'start' | 'node', variables: Record<string, string>) {
  const dir = temporaryDir()
  const folders = { COPAL_HOME: join(dir, 'home'), COPAL_CACHE: join(dir, 'cache') }
  const { status, stderr } = spawnSync(process.execPath, ['infra/local/bootstrap.mjs', task], {
    cwd: ROOT,
    env: { ...process.env, ...folders, ...variables },
    encoding: 'utf8',
    timeout: HANGS_MS,
    killSignal: 'SIGKILL',
  })
  return { status, stderr }
}

test.runIf(process.platform === 'linux').each<[string, Record<string, string>, string]>([
  [
    'a home that cannot be created',
    { COPAL_HOME: '/proc/nope' },
    'COPAL_HOME is /proc/nope, which cannot be used: No folder can be created in /proc. Set COPAL_HOME to a folder that you can write to.',
  ],
  [
    'a home in which nothing can be written',
    { COPAL_HOME: '/proc' },
    'COPAL_HOME is /proc, which cannot be used: no file can be created there. Set COPAL_HOME to a folder that you can write to.',
  ],
  [
    'a cache that cannot be created',
    { COPAL_CACHE: '/proc/nope/cache' },
    'COPAL_CACHE is /proc/nope/cache, which cannot be used: No folder can be created in /proc. Set COPAL_CACHE to a folder that you can write to.',
  ],
])('%s ends the start at once, and is named with the cause', (_, variables, message) => {
  expect(run('start', variables)).toEqual({ status: 1, stderr: `copal: ${message}\n` })
})

test('a home that is a file ends the start at once, and is named', () => {
  const file = join(temporaryDir(), 'file')
  writeFileSync(file, '')
  const { status, stderr } = run('start', { COPAL_HOME: file })
  expect(status).toBe(1)
  expect(stderr).toBe(
    `copal: COPAL_HOME is ${file}, which cannot be used: ${file} is a file, a folder is needed. Set COPAL_HOME to a folder that you can write to.\n`,
  )
})

test.runIf(process.platform === 'linux').each(['COPAL_HOME', 'COPAL_CACHE'])(
  'a node whose %s cannot be created ends at once, and names it',
  (setting) => {
    const { status, stderr } = run('node', {
      COPAL_NODE_SECRET: `node-1:${'a'.repeat(64)}`,
      [setting]: '/proc/nope',
    })
    expect(status).toBe(1)
    expect(stderr).toContain(
      `${setting} is /proc/nope, which cannot be used: No folder can be created in /proc. Set ${setting} to a folder that you can write to.`,
    )
  },
)
