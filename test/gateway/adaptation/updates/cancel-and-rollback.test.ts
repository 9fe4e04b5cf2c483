import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findDatasets } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { promoteMask } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { rollBack as rollBackModel } from '../../../../gateway/src/adaptation/updates/mask-rollback.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)
const cancel = (id: string) => admin('POST', `/updates/${id}/cancel`)
const rollBack = (model: string, version?: number) =>
  admin('POST', '/rollback', { model, ...(version === undefined ? {} : { version }) })

describe('cancelling', () => {
  test.each(['calibrating', 'evaluating'] as const)(
    'an update that is %s ends it, takes the job from the node, and leaves no mask active',
    async (state) => {
      const model = `cancel-${state}`
      const node = new SimulatedNode(`${model}-1`, model)
      await node.beat()
      await importTexts(`${model}-a`)
      const { id } = await startUpdate(model, [`${model}-a`])
      await node.reach(id, state)
      await node.beat()
      expect(node.jobs).toHaveLength(1)
      const cancelled = await (await cancel(id)).json<UpdateEntry>()
      expect(cancelled).toMatchObject({ state: 'cancelled', ended_in: state, error: null, job: null })
      expect(cancelled.finished_at).not.toBeNull()
      await node.work()
      expect((await node.beat()).jobs).toEqual([])
      await advanceUpdate(testDeps(), id)
      expect((await getUpdate(id)).state).toBe('cancelled')
      expect(await findModel(db, model)).toMatchObject({ activeVersion: 0 })
      // Cancelling again is no error, and the next update can start.
      expect((await cancel(id)).status).toBe(200)
      expect((await node.finish((await startUpdate(model, [`${model}-a`])).id)).state).toBe('promoted')
    },
  )

  test('of a collecting update queues no jobs', async () => {
    const node = new SimulatedNode('early-1', 'early')
    await node.beat()
    await importTexts('early-a')
    const deps = testDeps()
    const request = {
      model: 'early',
      domains: ['early-a'],
      selection: { scope: 'row' as const },
      samples: 2,
      length: 64,
      seed: 0,
    }
    const { id, state } = await createUpdate(deps, request)
    expect(state).toBe('collecting')
    expect((await (await cancel(id)).json<UpdateEntry>()).state).toBe('cancelled')
    await advanceUpdate(deps, id)
    expect((await node.beat()).jobs).toEqual([])
    expect((await getUpdate(id)).state).toBe('cancelled')
  })

  test('an update that another node confirms ends it', async () => {
    const nodes = [
      new SimulatedNode('unconfirmed-1', 'unconfirmed'),
      new SimulatedNode('unconfirmed-2', 'unconfirmed'),
    ]
    const work = async () => {
      for (const node of nodes) {
        await node.work()
        await node.beat()
      }
    }
    await work()
    await importTexts('unconfirmed-a')
    const { id } = await startUpdate('unconfirmed', ['unconfirmed-a'])
    while ((await getUpdate(id)).state !== 'confirming') await work()
    expect((await cancel(id)).status).toBe(200)
    for (const node of nodes) expect((await node.beat()).jobs).toEqual([])
    expect((await getUpdate(id)).state).toBe('cancelled')
    expect(await findModel(db, 'unconfirmed')).toMatchObject({ activeVersion: 0 })
  })

  test('a canary ends its trials, and the active mask answers all conversations again', async () => {
    const node = new SimulatedNode('bird-1', 'bird')
    await node.beat()
    await adminJson('PUT', '/policy', { model: 'bird', canary: { enabled: true } })
    await importTexts('bird-a')
    const { id } = await startUpdate('bird', ['bird-a'])
    await node.reach(id, 'canary')
    await node.beat()
    expect(await findModel(db, 'bird')).toMatchObject({ canary: { updateId: id, version: 1 } })
    expect((await cancel(id)).status).toBe(200)
    expect(await findModel(db, 'bird')).toMatchObject({ canary: null, shadow: null, activeVersion: 0 })
    expect((await node.beat()).desired).toMatchObject({ active: null })
  })

  test('a promotion before a node serves the mask takes it back, and the one before stays in use', async () => {
    const node = new SimulatedNode('back-out-1', 'back-out')
    await node.beat()
    await importTexts('back-out-a')
    const first = await node.finish((await startUpdate('back-out', ['back-out-a'])).id)
    await importTexts('back-out-a', 80, 'more to back out')
    const counted = await listCounted(db, 'back-out')
    const { id } = await startUpdate('back-out', ['back-out-a'])
    await node.reach(id, 'promoting')
    expect(await findModel(db, 'back-out')).toMatchObject({ activeVersion: 2, previousVersion: 1 })
    const [response] = await Promise.all([cancel(id), advanceUpdate(testDeps(), id)])
    expect(await response.json()).toMatchObject({ state: 'cancelled', error: null })
    await advanceUpdate(testDeps(), id)
    expect(await findModel(db, 'back-out')).toMatchObject({ activeVersion: 1 })
    expect((await node.beat()).desired).toMatchObject({ active: { version: 1 } })
    expect(await listCounted(db, 'back-out')).toEqual(counted)
    expect((await getUpdate(first.id)).state).toBe('promoted')
    // Its texts are free again.
    const next = await node.finish((await startUpdate('back-out', ['back-out-a'])).id)
    expect(next).toMatchObject({ state: 'promoted', mask_version: 3, parent_version: 1 })
  })

  test('a promotion that a node serves already is rejected with instructions', async () => {
    const node = new SimulatedNode('too-late-1', 'too-late')
    const slow = new SimulatedNode('too-late-2', 'too-late')
    await node.beat()
    await adminJson('PUT', '/policy', { model: 'too-late', confirm: 1 })
    await importTexts('too-late-a')
    const { id } = await startUpdate('too-late', ['too-late-a'])
    await node.reach(id, 'promoting')
    // One that does not swap holds the promotion up.
    await slow.beat({ activeVersion: 0 })
    // It learns of the mask, and then reports that it serves it.
    for (let beat = 0; beat < 2; beat += 1) await node.beat()
    for (const state of ['promoting', 'promoted'] as const) {
      const response = await cancel(id)
      expect(response.status).toBe(409)
      expect((await errorOf(response)).message).toMatch(new RegExp(`${state}.*rollback`))
      await slow.beat({ activeVersion: 1 })
      await node.finish(id)
    }
    const failed = await cancel('upd_unknown')
    expect([failed.status, (await errorOf(failed)).code]).toEqual([404, 'not_found'])
  })
})

describe('rolling back', () => {
  test('activates the previous mask, a named one or dense, marks the updates, and nodes follow', async () => {
    const node = new SimulatedNode('back-1', 'back')
    await node.beat()
    await importTexts('back-a')
    const first = await node.finish((await startUpdate('back', ['back-a'])).id)
    const second = await node.finish((await startUpdate('back', ['back-a'])).id)
    expect(await findModel(db, 'back')).toMatchObject({ activeVersion: 2, previousVersion: 1 })

    expect(await (await rollBack('back')).json()).toEqual({ active_version: 1 })
    expect((await getUpdate(second.id)).state).toBe('rolled_back')
    expect((await getUpdate(second.id)).decisions?.at(-1)).toMatchObject({
      kind: 'roll_back',
      verdict: 'done',
      mask_version: 2,
      reason: 'An operator rolled back from m2 to m1.',
      actor: expect.stringMatching(/^admin-[0-9a-f]+$/) as string,
    })
    await node.beat()
    expect(node.activeVersion).toBe(1)
    // A second call does not bring back what was rolled back, unless it names it.
    const again = await rollBack('back')
    const { code, message } = await errorOf(again)
    expect([again.status, code]).toEqual([409, 'conflict'])
    expect(message).toMatch(
      new RegExp(`m2 .*was rolled back.*${second.id}.*name its version .*: 2 is this mask`),
    )
    expect(await findModel(db, 'back')).toMatchObject({ activeVersion: 1, previousVersion: 2 })
    expect(await (await rollBack('back', 2)).json()).toEqual({ active_version: 2 })
    expect((await getUpdate(first.id)).decisions?.at(-1)?.reason).toBe('An operator returned from m1 to m2.')
    expect((await getUpdate(second.id)).state).toBe('promoted')
    // m2 descends from m1.
    expect((await getUpdate(first.id)).state).toBe('promoted')
    expect(await (await rollBack('back', 0)).json()).toEqual({ active_version: 0 })
    expect((await node.beat()).desired).toMatchObject({ active: null, previous: { version: 2 } })
    expect(await (await rollBack('back', 0)).json()).toEqual({ active_version: 0 })
    expect(await findModel(db, 'back')).toMatchObject({ activeVersion: 0, previousVersion: 2 })

    // Nothing of the updates that were rolled back counts, and their texts stay taken.
    for (const { id } of [first, second]) expect((await getUpdate(id)).state).toBe('rolled_back')
    expect(await listCounted(db, 'back')).toEqual([])
    const third = await node.finish((await startUpdate('back', ['back-a'])).id)
    expect(third).toMatchObject({ state: 'promoted', mask_version: 3 })
    expect(await findModel(db, 'back')).toMatchObject({ activeVersion: 3, previousVersion: 0 })
  })

  test('a promoting update ends it, and concurrent drivers do not activate its mask again', async () => {
    const node = new SimulatedNode('undo-1', 'undo')
    await node.beat()
    await importTexts('undo-a')
    const { id } = await startUpdate('undo', ['undo-a'])
    await node.reach(id, 'promoting')
    expect(await findModel(db, 'undo')).toMatchObject({ activeVersion: 1 })
    const drivers = Promise.all(Array.from({ length: 5 }, () => advanceUpdate(testDeps(), id)))
    expect(await (await rollBack('undo')).json()).toEqual({ active_version: 0 })
    await drivers
    await node.beat()
    await node.beat()
    expect(await findModel(db, 'undo')).toMatchObject({ activeVersion: 0 })
    expect(await getUpdate(id)).toMatchObject({ state: 'rolled_back', mask_version: 1 })
  })

  test('marks the update even if it is changed concurrently', async () => {
    const node = new SimulatedNode('raced-1', 'raced')
    await node.beat()
    await importTexts('raced-a')
    const { id } = await startUpdate('raced', ['raced-a'])
    await node.reach(id, 'promoting')
    let races = 0
    // Another caller changes the model, or the update, just before the roll-back.
    const bumps = ['update models set revision = revision + 1', 'update updates set revision = revision + 1']
    const raced = new Proxy(env.DB, {
      get(binding, name) {
        if (name !== 'batch') {
          const member: unknown = Reflect.get(binding, name, binding)
          return typeof member === 'function' ? (member.bind(binding) as unknown) : member
        }
        return async (statements: D1PreparedStatement[]) => {
          const bump = bumps[races++]
          if (bump !== undefined) await env.DB.prepare(bump).run()
          return env.DB.batch(statements)
        }
      },
    })
    const deps = { ...testDeps(), db: openDatabase(raced) }
    expect(await rollBackModel(deps, { model: 'raced' }, 'admin')).toBe(0)
    expect(races).toBe(2)
    expect((await getUpdate(id)).state).toBe('rolled_back')
    await advanceUpdate(testDeps(), id)
    expect(await findModel(db, 'raced')).toMatchObject({ activeVersion: 0 })
  })

  test('a late driver of an update that has ended neither activates its mask nor counts its datasets', async () => {
    const node = new SimulatedNode('late-1', 'late')
    await node.beat()
    await importTexts('late-a')
    const { id } = await startUpdate('late', ['late-a'])
    await node.reach(id, 'evaluating')
    // The calls of a driver that read the update before it ended.
    const row = await findUpdate(db, id)
    if (!row) throw new Error('the update is missing')
    const own = await findDatasets(db, row.datasets ?? [])
    expect(own).toHaveLength(1)
    await cancel(id)
    await promoteMask(db, row, 1, Date.now())
    expect(await findModel(db, 'late')).toMatchObject({ activeVersion: 0 })
    expect(await listCounted(db, 'late')).toEqual([])
  })

  test('to a mask that was never active is rejected', async () => {
    const node = new SimulatedNode('never-1', 'never')
    await node.beat()
    const none = await rollBack('never')
    expect([none.status, (await errorOf(none)).code]).toEqual([409, 'conflict'])
    const unknown = await rollBack('never', 7)
    expect(unknown.status).toBe(404)
    expect(await errorOf(unknown)).toMatchObject({ param: 'version' })
    const negative = await rollBack('never', -1)
    expect(negative.status).toBe(400)
    expect(
      (await adminJson<{ active_version: number }>('POST', '/rollback', { model: 'never', version: 0 }))
        .active_version,
    ).toBe(0)
  })
})
