/** What an update does not say itself: its pattern, its method and how much text it takes. */
import { beforeEach, expect, test } from 'vitest'
import { env } from 'cloudflare:workers'
import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { CreateUpdate, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { runTriggers } from '../../../../gateway/src/adaptation/triggers/run-triggers.ts'
import { demandOf, methodOf } from '../../../../gateway/src/adaptation/updates/update-choices.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const FIRST_BLOCK = { 'model.layers.0.*': 'dense' }

beforeEach(() => env.DB.exec('DELETE FROM domains'))

/** Starts an update, and returns the calibration that the node gets. The update is cancelled. */
async function calibrationOf(
  node: SimulatedNode,
  model: string,
  domain: string,
  changes: Partial<CreateUpdate> = {},
): Promise<CalibrateJob> {
  const { id } = await adminJson<UpdateEntry>('POST', '/updates', { model, domains: [domain], ...changes })
  await node.reach(id, 'calibrating')
  await node.beat()
  const [job] = node.jobs as [CalibrateJob]
  expect((await admin('POST', `/updates/${id}/cancel`)).status).toBe(200)
  return job
}

test('an update keeps the patterns and the scope of the mask that serves, unless it or the policy says others', async () => {
  const node = new SimulatedNode('keep-1', 'keep')
  await node.beat()
  await importTexts('keep-a')
  expect((await calibrationOf(node, 'keep', 'keep-a')).selection).toMatchObject({
    pattern: '0.5',
    scope: 'row',
    patterns: {},
  })

  const { id } = await startUpdate('keep', ['keep-a'], {
    selection: { pattern: '0.4', scope: 'matrix', patterns: FIRST_BLOCK },
  })
  expect((await node.finish(id)).state).toBe('promoted')
  const kept = (await calibrationOf(node, 'keep', 'keep-a')).selection
  expect(kept).toMatchObject({ scope: 'matrix', patterns: FIRST_BLOCK })
  expect(kept.pattern).toBe('0.4')

  const policy = { model: 'keep', selection: { pattern: '2:4' } }
  await adminJson('PUT', '/policy', policy)
  const chosen = (await calibrationOf(node, 'keep', 'keep-a')).selection
  expect(chosen).toMatchObject({ pattern: '2:4', scope: 'row', patterns: {} })
  const asked = await calibrationOf(node, 'keep', 'keep-a', { selection: { pattern: '0.3' } })
  expect(asked.selection).toMatchObject({ pattern: '0.3', patterns: {} })
})

test('an update that starts by itself selects by the policy, and takes as much text as it says', async () => {
  const methods = ['continual-wanda', 'continual-wanda+swaps']
  const node = new SimulatedNode('choice-1', 'choice')
  await node.beat({ methods })
  await importTexts('choice-a', 120)
  await adminJson('PUT', '/policy', {
    model: 'choice',
    selection: { method: 'continual-wanda', pattern: '0.6' },
    calibration: { samples: 5, length: 32 },
    triggers: { new_segments: 1 },
  })
  await runTriggers(testDeps())
  for (let turn = 0; turn < 400 && node.jobs.length === 0; turn += 1) {
    await node.beat({ methods })
    await scheduler.wait(100)
  }
  const [job] = node.jobs as CalibrateJob[]
  expect(job).toMatchObject({
    samples: 5,
    length: 32,
    selection: { method: 'continual-wanda', pattern: '0.6' },
  })
})

test('where the pattern allows no allocation, the method of the policy is taken without it', async () => {
  const methods = ['continual-wanda+swaps', 'continual-wanda+allocated+rows+swaps']
  await new SimulatedNode('fit-1', 'fit').beat({ methods })
  const policy = { selection: { method: 'continual-wanda+allocated+rows+swaps', pattern: null } }
  const methodAt = (pattern: string) => methodOf(testDeps(), 'fit', policy, { method: undefined, pattern })
  expect(await methodAt('0.5')).toBe('continual-wanda+allocated+rows+swaps')
  expect(await methodAt('2:4')).toBe('continual-wanda+swaps')
})

test('a length of the policy that the context does not hold becomes shorter sequences, and more of them', () => {
  const calibration = { samples: 16, length: 512 }
  expect(demandOf({ contextLength: 2048 }, { calibration })).toEqual({ samples: 16, length: 512 })
  expect(demandOf({ contextLength: 100 }, { calibration })).toEqual({ samples: 82, length: 100 })
  expect(demandOf({ contextLength: 2048 }, { calibration }, { length: 1024 })).toEqual({
    samples: 16,
    length: 1024,
  })
  expect(demandOf({ contextLength: 2048 }, { calibration }, { samples: 3 })).toEqual({
    samples: 3,
    length: 512,
  })
})

test('a method that no node offers is rejected when the policy is set', async () => {
  const node = new SimulatedNode('offer-1', 'offer')
  await node.beat({ methods: ['continual-wanda'] })
  const refused = await admin('PUT', '/policy', { model: 'offer', selection: { method: 'continual-wonda' } })
  expect(refused.status).toBe(400)
  expect(await errorOf(refused)).toMatchObject({
    code: 'invalid_request',
    param: 'selection.method',
    message: expect.stringContaining("Did you mean 'continual-wanda'?") as string,
  })
})
