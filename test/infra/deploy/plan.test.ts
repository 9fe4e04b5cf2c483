import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { activeMs } from '../../../infra/deploy/bundle.ts'
import { planDeploy, targetOf, type DeployStep } from '../../../infra/deploy/plan.ts'
import { ROOT } from '../../../infra/local/toolchain/toolchain.mjs'

const ours = { binding: 'DB', database_name: 'copal', database_id: '00000000-0000-0000-0000-000000000000' }
const theirs = { ...ours, database_id: '7c4d1c5e-0000-4000-8000-000000000001' }

/** Plans `npm run deploy -- <args>` in `/copal` for an environment with these databases. */
const plan = (databases: Parameters<typeof planDeploy>[0], args: string[]) =>
  planDeploy(databases, targetOf(args, '/copal'), args)

test('migrations run before the deployment, which gets the arguments of the user', () => {
  expect(plan([theirs], ['--secrets-file', 'secrets.json'])).toEqual({
    steps: [
      { args: ['d1', 'migrations', 'apply', 'DB', '--remote'] },
      { args: ['d1', 'migrations', 'list', 'DB', '--remote'], mustPrint: 'No migrations to apply' },
      { args: ['deploy', '--secrets-file', 'secrets.json'] },
    ],
  })
})

test('what must be printed is what the installed Wrangler prints', () => {
  const { steps } = plan([theirs], []) as { steps: DeployStep[] }
  const program = readFileSync(join(ROOT, 'node_modules/wrangler/wrangler-dist/cli.js'), 'utf8')
  const printed = steps.flatMap(({ mustPrint }) => mustPrint ?? [])
  expect(printed.map((text) => program.includes(text))).toEqual([true])
})

test('migrations use the environment, configuration and account of the Worker', () => {
  const args = [
    '--env',
    'staging',
    '-c',
    'other.toml',
    '--var',
    'A:B',
    '--env-file=.env.x',
    '--profile',
    'me',
  ]
  const where = ['--env', 'staging', '--config', 'other.toml', '--env-file', '.env.x', '--profile', 'me']
  expect(plan([theirs], args)).toEqual({
    steps: [
      { args: ['d1', 'migrations', 'apply', 'DB', '--remote', ...where] },
      expect.objectContaining({ args: ['d1', 'migrations', 'list', 'DB', '--remote', ...where] }),
      { args: ['deploy', ...args] },
    ],
  })
})

test('the databases come from the configuration and environment that are deployed', () => {
  expect(targetOf([], '/copal')).toMatchObject({ configPath: '/copal/wrangler.toml', env: undefined })
  expect(targetOf(['-e', 'staging', '--config=a/b.toml'], '/copal')).toMatchObject({
    configPath: '/copal/a/b.toml',
    env: 'staging',
  })
  expect(targetOf(['--cwd', 'a', '--config', '/b.toml'], '/copal').configPath).toBe('/b.toml')
  expect(targetOf(['--cwd', 'a'], '/copal').configPath).toBe('/copal/a/wrangler.toml')
})

test('without a database id nothing runs, and the error says how to create a database', () => {
  expect(plan([ours], [])).toEqual({ error: expect.stringContaining('npx wrangler d1 create copal') })
  expect(plan([{ binding: 'DB' }], [])).toHaveProperty('error')
})

test('an environment without a database is not deployed', () => {
  expect(plan([], ['--env', 'staging'])).toEqual({
    error: expect.stringContaining("no database in the environment 'staging'"),
  })
})

test.each([['--dry-run'], ['--dry-run=true'], ['--dryRun']])(
  'a dry run (%s) touches no database, and needs none',
  (flag) => {
    expect(plan([ours], [flag, '--env', 'staging'])).toEqual({
      steps: [{ args: ['deploy', flag, '--env', 'staging'] }],
    })
  },
)

test('idle time in a profile does not count as processor time', () => {
  const node = (id: number, functionName: string) => ({ id, callFrame: { functionName } })
  const profile = {
    nodes: [node(1, '(root)'), node(2, '(idle)'), node(3, 'parse')],
    samples: [3, 2, 3, 1],
    timeDeltas: [1000, 50_000, 2000, 500],
  }
  expect(activeMs(profile)).toBe(3.5)
})
