import { expect, test } from 'vitest'
import { activeMs } from '../../../infra/deploy/bundle.ts'
import { planDeploy } from '../../../infra/deploy/plan.ts'

const ours = { binding: 'DB', database_name: 'copal', database_id: '00000000-0000-0000-0000-000000000000' }
const theirs = { ...ours, database_id: '7c4d1c5e-0000-4000-8000-000000000001' }

test('the schema goes before the Worker, whose arguments are passed on', () => {
  expect(planDeploy([theirs], ['--secrets-file', 'secrets.json'])).toEqual({
    steps: [
      ['d1', 'migrations', 'apply', 'DB', '--remote'],
      ['deploy', '--secrets-file', 'secrets.json'],
    ],
  })
})

test('without a database of the user nothing runs, and it is said how to make one', () => {
  const plan = planDeploy([ours], [])
  expect(plan).toEqual({ refusal: expect.stringContaining('npx wrangler d1 create copal') })
  expect(planDeploy([{ binding: 'DB' }], [])).toHaveProperty('refusal')
})

test('a dry run touches no database, and needs none', () => {
  expect(planDeploy([ours], ['--dry-run'])).toEqual({ steps: [['deploy', '--dry-run']] })
})

test('time in which a profiled program was idle is no processor time', () => {
  const node = (id: number, functionName: string) => ({ id, callFrame: { functionName } })
  const profile = {
    nodes: [node(1, '(root)'), node(2, '(idle)'), node(3, 'parse')],
    samples: [3, 2, 3, 1],
    timeDeltas: [1000, 50_000, 2000, 500],
  }
  expect(activeMs(profile)).toBe(3.5)
})
