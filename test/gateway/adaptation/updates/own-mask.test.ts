import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { CalibrateJob, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { rejudgeOwnMasks } from '../../../../gateway/src/adaptation/updates/own-mask-step.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findMask } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { scoresByOrder } from '../../support/doubles/scores-by-order.ts'
import { ready } from '../../support/doubles/whole-updates.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { setPolicy } from '../../support/state/seed-masks.ts'
import { decisionRowsOf, jobRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)

/** Starts a model with an active mask of two domains, `<model>-one` and `<model>-two`, whose policy allows own masks. */
async function sharedMask(model: string, one: number[], two: number[] = [10, 12]) {
  const node = new SimulatedNode(
    `${model}-1`,
    model,
    scoresByOrder({ [`${model}-one`]: one, [`${model}-two`]: two }),
  )
  await node.beat()
  await setPolicy(model, { discovery: { own_masks: true }, watch: { soak_minutes: 0 } })
  await importTexts(`${model}-one`)
  await importTexts(`${model}-two`)
  expect((await node.finish((await startUpdate(model, [`${model}-one`, `${model}-two`])).id)).state).toBe(
    'promoted',
  )
  return node
}

const startOwn = (model: string, domain: string): Promise<UpdateEntry> =>
  adminJson('POST', `/domains/${domain}/mask`, { model, samples: 2, length: 64 })

async function makeOwn(node: SimulatedNode, model: string): Promise<UpdateEntry> {
  return node.finish((await startOwn(model, `${model}-one`)).id)
}

const ownMasks = async (model: string) => (await findModel(db, model))?.domainVersions
const ownDecisions = async (model: string) =>
  (await decisionRowsOf(model)).filter(({ kind }) => kind === 'own_mask').toReversed()

describe('a mask of a single domain', () => {
  test('serves that domain beside the shared mask when the domain gains enough, and nodes are told of it', async () => {
    const node = await sharedMask('own', [10, 12, 11])
    const { id, own_domain: domain } = await startOwn('own', 'own-one')
    expect(domain).toBe('own-one')
    const end = await node.finish(id)
    expect(end).toMatchObject({ state: 'promoted', mask_version: 2 })
    expect(await findModel(db, 'own')).toMatchObject({
      activeVersion: 1,
      domainVersions: new Map([['own-one', 2]]),
    })
    expect(end.decisions?.map(({ kind, verdict }: DecisionEntry) => [kind, verdict])).toEqual([
      ['own_mask', 'passed'],
      ['promote', 'done'],
    ])
    expect(end.decisions?.[0]?.reason).toMatch(
      /'own-one' under the shared mask is 1\.091 × .* at least 1\.030 × is required/,
    )
    const { desired } = await node.beat()
    expect(desired).toMatchObject({ active: { version: 1 }, own: [{ domain: 'own-one', version: 2 }] })
    await ensureDomains(db, ['constructor'], 0)
    const { data } = await adminJson<{ data: DomainEntry[] }>('GET', '/domains?model=own')
    const shown = data
      .filter(({ name }) => name.startsWith('own-') || name === 'constructor')
      .map(({ name, own_mask: mask }) => [name, mask])
    expect(shown).toEqual([
      ['constructor', null],
      ['own-one', 2],
      ['own-two', null],
    ])

    // Beside a shared mask that was measured with other numerics it cannot be judged.
    await env.DB.exec(
      "update evaluations set numerics = 'bf16, head int8' where model = 'own' and version = 2",
    )
    const shared = await findMask(db, 'own', 1)
    const update = await findUpdate(db, shared?.updateId ?? '')
    if (!update) throw new Error('the update of the shared mask is unknown')
    await rejudgeOwnMasks(testDeps(), update)
    expect(await ownMasks('own')).toEqual(new Map())
    expect((await ownDecisions('own')).at(-1)?.reason).toContain(
      'm2 was measured in another precision or form',
    )
  })

  test('is selected with a high weight of the domain, measured on it and the general holdout alone, and takes no text away', async () => {
    const node = await sharedMask('alone', [10, 12, 11])
    await importTexts('alone-one', 80, 'alone later')
    const before = await adminJson<{ data: DomainEntry[] }>('GET', '/domains?model=alone')
    const end = await makeOwn(node, 'alone')
    const jobs = (await jobRowsOf(end.id)).map(({ payload }) => payload)
    const calibration = jobs.find((job): job is CalibrateJob => job.kind === 'calibrate')
    expect(calibration?.selection.weights).toEqual({ 'alone-one': 1, 'alone-two': 0.05 })
    expect(calibration?.datasets).toHaveLength(1)
    const evaluations = jobs.filter((job): job is EvaluateJob => job.kind === 'evaluate')
    const measured = new Set(evaluations.flatMap(({ holdouts }) => holdouts.map(({ domain }) => domain)))
    expect([...measured].filter((domain) => domain.startsWith('alone'))).toEqual(['alone-one'])
    const after = await adminJson<{ data: DomainEntry[] }>('GET', '/domains?model=alone')
    const newOf = ({ data }: typeof after) => data.find(({ name }) => name === 'alone-one')?.new_samples
    expect(newOf(after)).toBe(newOf(before))
    expect(newOf(after)).toBeGreaterThan(0)
  })

  test('is rejected when the domain gains too little, keeps no texts, and cannot be forced', async () => {
    const node = await sharedMask('little', [10, 12, 11.8])
    const end = await makeOwn(node, 'little')
    expect(end).toMatchObject({ state: 'failed', candidate: 1, error: { code: 'gate_failed' } })
    expect(end.error?.message).toMatch(
      /on 'little-one' is 0\.983 × that of the shared mask.*at most 0\.971 × is allowed/,
    )
    expect(await ownMasks('little')).toEqual(new Map())
    const reason = 'it is good enough for us'
    const forced = await admin('POST', `/updates/${end.id}/force`, { reason })
    expect([forced.status, (await errorOf(forced)).message]).toEqual([
      409,
      expect.stringContaining("makes a mask for 'little-one' alone"),
    ])
  })

  test('is not made while the policy forbids it, for the dense model, or for a domain that does not exist', async () => {
    const node = new SimulatedNode('refused-1', 'refused')
    await node.beat()
    await ensureDomains(db, ['refused-one'], 1)
    const errorFor = async (domain: string) => {
      const response = await admin('POST', `/domains/${domain}/mask`, { model: 'refused' })
      return [response.status, (await errorOf(response)).message]
    }
    expect(await errorFor('refused-none')).toEqual([404, expect.stringContaining("no domain 'refused-none'")])
    expect(await errorFor('refused-one')).toEqual([
      409,
      expect.stringContaining('npx copal policy set discovery.own_masks=true'),
    ])
    await setPolicy('refused', { discovery: { own_masks: true } })
    expect(await errorFor('refused-one')).toEqual([409, expect.stringContaining('serves the dense model')])
  })
})

describe('the shared mask serves a domain again', () => {
  test('when an operator asks for it', async () => {
    const node = await sharedMask('asked', [10, 12, 11])
    await makeOwn(node, 'asked')
    expect(await adminJson('DELETE', '/domains/asked-one/mask?model=asked')).toEqual({
      domain: 'asked-one',
      mask_version: 2,
    })
    expect(await ownMasks('asked')).toEqual(new Map())
    expect((await node.beat()).desired).not.toHaveProperty('own')
    expect((await ownDecisions('asked')).at(-1)).toMatchObject({
      verdict: 'done',
      maskVersion: 2,
      reason: "The shared mask serves 'asked-one' again: an operator asked for it.",
    })
    expect((await admin('DELETE', '/domains/asked-one/mask?model=asked')).status).toBe(404)
  })

  test('when a new shared mask is nearly as good there, and not while it is still worse or cannot be loaded', async () => {
    // Evaluated in this order: dense, the first shared mask, the own one, three more shared ones, one more own one.
    const node = await sharedMask(
      'later',
      [10, 12, 11, 11.1, 11.9, 11.1, 10.5],
      [10, 12, 13, 11.9, 11.9, 11.8, 13],
    )
    await makeOwn(node, 'later')
    await importTexts('later-two', 80, 'later more')
    const { id } = await startUpdate('later', ['later-two'])
    await node.reach(id, 'promoting')
    const failed = { version: 3, state: 'failed' as const, requests: 0, error: 'out of memory' }
    await node.beat({ activeVersion: 1, weightSets: [...(ready(1).weightSets ?? []), failed] })
    await advanceUpdate(testDeps({ nowMs: () => Date.now() + 20_000 }), id)
    expect(await getUpdate(id)).toMatchObject({ state: 'failed', error: { code: 'node_failed' } })
    expect(await findModel(db, 'later')).toMatchObject({
      activeVersion: 1,
      domainVersions: new Map([['later-one', 2]]),
    })
    const fourth = await node.finish((await startUpdate('later', ['later-two'])).id)
    expect(fourth.state).toBe('promoted')
    expect(await findModel(db, 'later')).toMatchObject({
      activeVersion: 4,
      domainVersions: new Map([['later-one', 2]]),
    })
    const kept = fourth.decisions?.filter(({ kind }) => kind === 'own_mask')
    expect(kept).toMatchObject([
      { verdict: 'passed', figures: [{ name: 'perplexity / shared', passed: true }] },
    ])
    // It is the first candidate for its domain beside m4, and has its part of the error.
    expect(kept?.[0]?.reason).toMatch(
      /^m2 still serves 'later-one' beside the new shared m4\. .* 96\.8 % confidence/,
    )
    await importTexts('later-two', 80, 'later still more')
    expect((await node.finish((await startUpdate('later', ['later-two'])).id)).state).toBe('promoted')
    expect(await findModel(db, 'later')).toMatchObject({ activeVersion: 5, domainVersions: new Map() })
    const last = (await ownDecisions('later')).at(-1)
    expect(last?.reason).toContain('beside the new shared m5, m2 no longer gains')
    expect(last?.figures).toMatchObject([{ name: 'perplexity / shared', passed: false }])
    // The next one is the second candidate beside m5.
    const next = await makeOwn(node, 'later')
    expect(next.state).toBe('promoted')
    expect(next.decisions?.[0]?.reason).toContain('with 98.9 % confidence')
  })

  test('after a roll-back, when the policy is turned off, and when the domain is deleted', async () => {
    const node = await sharedMask('gone', [10, 12, 11])
    await makeOwn(node, 'gone')
    await adminJson('POST', '/rollback', { model: 'gone', version: 0 })
    expect(await ownMasks('gone')).toEqual(new Map())
    expect((await ownDecisions('gone')).at(-1)?.reason).toContain('dense')

    const other = await sharedMask('off', [10, 12, 11])
    await makeOwn(other, 'off')
    await adminJson('PUT', '/policy', { model: 'off', discovery: { own_masks: false } })
    expect(await ownMasks('off')).toEqual(new Map())
    expect((await ownDecisions('off')).at(-1)?.reason).toContain('discovery.own_masks is false')

    const third = await sharedMask('deleted', [10, 12, 11])
    await makeOwn(third, 'deleted')
    await adminJson('DELETE', '/domains/deleted-one')
    expect(await ownMasks('deleted')).toEqual(new Map())
    expect((await ownDecisions('deleted')).at(-1)?.reason).toContain('it was deleted')
  })
})

test('a policy that is turned off just before a domain gets its mask takes the mask away', async () => {
  const node = await sharedMask('late', [10, 12, 11])
  const { id } = await startOwn('late', 'late-one')
  // As if the operator's call came between the last look at the policy and the change of the model.
  await env.DB.prepare(
    `create trigger turned_off after update of domain_versions on models when new.id = 'late' begin
       update policies set policy = json_set(policy, '$.discovery.own_masks', json('false')) where model = 'late';
     end`,
  ).run()
  const end = await node.finish(id)
  await env.DB.prepare('drop trigger turned_off').run()
  expect([end.state, end.error?.code]).toEqual(['failed', 'conflict'])
  expect(await ownMasks('late')).toEqual(new Map())
})

test('an update whose shared mask changes meanwhile gives its domain no mask', async () => {
  const node = await sharedMask('raced', [10, 12, 11])
  const { id } = await startOwn('raced', 'raced-one')
  await node.reach(id, 'evaluating')
  await adminJson('POST', '/rollback', { model: 'raced', version: 0 })
  const end = await node.finish(id)
  expect(end.state).toBe('failed')
  expect(await ownMasks('raced')).toEqual(new Map())
  expect((await getUpdate(id)).error?.code).toBe('conflict')
})
