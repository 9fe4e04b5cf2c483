import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { wholeJob } from '../../../../gateway/src/adaptation/updates/calibration-input.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { calibrationOf, newNode, runUpdate, textsOf } from '../../support/doubles/whole-updates.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { batchRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)

async function domainOf(name: string): Promise<DomainEntry | undefined> {
  return (await adminJson<{ data: DomainEntry[] }>('GET', '/domains')).data.find(
    (entry) => entry.name === name,
  )
}

describe('a text counts once', () => {
  test('the same texts sent twice leave the datasets of a job as they were, and so its statistics', async () => {
    const [once, twice] = [await newNode('once'), await newNode('twice')]
    await importTexts('dup-a', 80)
    const job = await runUpdate(once, 'once', ['dup-a'])
    for (let round = 0; round < 3; round += 1) await importTexts('dup-a', 80)
    const again = await runUpdate(twice, 'twice', ['dup-a'])
    expect(again.datasets.map(({ sha256 }) => sha256)).toEqual(job.datasets.map(({ sha256 }) => sha256))
    // The next update takes other texts, however often these are sent.
    const next = await runUpdate(once, 'once', ['dup-a'])
    const [before, after] = await Promise.all(
      [job, next].map(({ datasets }) => textsOf(datasets[0]?.sha256 ?? '')),
    )
    expect(after?.filter((text) => before?.includes(text))).toEqual([])
  })

  test('twice a day for four days: all batches are disjoint, and the weights of the domains do not move', async () => {
    const node = await newNode('days')
    await importTexts('days-quiet')
    await runUpdate(node, 'days', ['days-quiet'])
    // Most texts at once: each time that the holdout grows, the active mask is evaluated again.
    await importTexts('days-busy', 80)
    const jobs: CalibrateJob[] = []
    for (let half = 0; half < 8; half += 1) {
      await importTexts('days-busy', 4, `days-busy ${half}`)
      jobs.push(await runUpdate(node, 'days', ['days-busy']))
    }
    const weights = jobs.map(({ selection }) => selection.weights)
    // Beside a new domain the known one has more weight.
    expect(weights[0]?.['days-quiet']).toBeGreaterThan(1)
    expect(weights.slice(1)).toEqual(weights.slice(1).map(() => ({})))
    const counted = await listCounted(db, 'days')
    expect(counted).toHaveLength(9)
    const texts = (await Promise.all(counted.map(({ sha256 }) => textsOf(sha256)))).flat()
    expect(new Set(texts).size).toBe(texts.length)
    expect(jobs.at(-1)?.accumulated.map(({ sha256 }) => sha256)).toEqual(
      counted.slice(0, -1).map(({ sha256 }) => sha256),
    )
  })

  test('a batch has the tokens that the node reported', async () => {
    const node = await newNode('tokens')
    await importTexts('tokens-a')
    await importTexts('tokens-b')
    const { id } = await startUpdate('tokens', ['tokens-a', 'tokens-b'])
    await node.finish(id)
    expect(await batchRowsOf(id)).toMatchObject([
      { domain: 'tokens-a', state: 'counted', tokens: 100, marked: true },
      { domain: 'tokens-b', state: 'counted', tokens: 100, marked: true },
    ])
  })
})

test('texts of an update that the version before has begun, and that the reservoir did not mark, are not taken again', async () => {
  const node = await newNode('flight')
  await importTexts('flight-a', 80)
  const { id } = await startUpdate('flight', ['flight-a'])
  await node.reach(id, 'calibrating')
  await node.beat()
  // As if the gateway was upgraded now.
  await testDeps().reservoir('flight-a').release('flight', [id])
  await env.DB.prepare(
    "update jobs set payload = json_remove(payload, '$.selection.weights') where update_id = ?",
  )
    .bind(id)
    .run()
  expect((await node.finish(id)).state).toBe('promoted')
  const [batch] = await batchRowsOf(id)
  expect(batch).toMatchObject({ state: 'counted', marked: false })
  const next = await runUpdate(node, 'flight', ['flight-a'])
  const old = await textsOf(batch?.datasetSha256)
  const taken = await textsOf(next.datasets[0]?.sha256)
  expect(old.length).toBeGreaterThan(0)
  expect(taken.length).toBeGreaterThan(0)
  expect(taken.filter((text) => old.includes(text))).toEqual([])
})

describe('the datasets that an update counts', () => {
  test('may be more than a row of D1 could name', async () => {
    const node = await newNode('vast')
    await importTexts('vast')
    const numbers = 'with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)'
    await env.DB.batch([
      env.DB.prepare(
        `${numbers} insert into datasets (sha256, domain, samples, bytes, created_at)
         select printf('c%063d', i), 'vast', 1, 1, i from n`,
      ),
      env.DB.prepare(
        `${numbers} insert into batches (model, dataset_sha256, update_id, domain, state, created_at)
         select 'vast', printf('c%063d', i), 'update ' || i, 'vast', 'counted', i from n`,
      ),
    ])
    const { id } = await startUpdate('vast', ['vast'])
    const ended = await node.finish(id)
    expect(ended.error).toBeNull()
    expect(ended.state).toBe('promoted')
    const { accumulated } = await calibrationOf(id)
    expect(accumulated).toHaveLength(20_000)
    expect(accumulated.at(-1)?.sha256).toBe(`c${'20000'.padStart(63, '0')}`)
    expect(await batchRowsOf(id)).toMatchObject([{ state: 'counted', tokens: 100 }])
    const sizes = await env.DB.prepare(
      'select max(length(payload)) as payload, max(length(result)) as result from jobs where update_id = ?',
    )
      .bind(id)
      .first<{ payload: number; result: number }>()
    expect(sizes?.payload).toBeLessThan(10_000)
    expect(sizes?.result).toBeLessThan(10_000)
  })

  test('are those that its job names, where an earlier version of the gateway made it', async () => {
    const node = await newNode('named')
    await importTexts('named')
    await runUpdate(node, 'named', ['named'])
    const { id } = await startUpdate('named', ['named'])
    await node.reach(id, 'calibrating')
    const { accumulated } = await calibrationOf(id)
    expect(accumulated).toHaveLength(1)
    await env.DB.batch([
      env.DB.prepare('delete from update_inputs where update_id = ?').bind(id),
      env.DB.prepare(
        "update jobs set payload = json_set(payload, '$.accumulated', json(?), '$.statistics', json('[]')) where update_id = ?",
      ).bind(JSON.stringify(accumulated), id),
    ])
    expect(await calibrationOf(id)).toMatchObject({ accumulated, statistics: [] })
    expect((await node.finish(id)).state).toBe('promoted')
  })
})

describe('a domain without enough new text', () => {
  test('is selected again from what counts, if it has statistics', async () => {
    const node = await newNode('refresh')
    await importTexts('refresh-a', 40)
    const first = await runUpdate(node, 'refresh', ['refresh-a'])
    // Takes all that is left.
    await adminJson('DELETE', '/domains/refresh-a/samples')
    await importTexts('refresh-a', 1, 'refresh more')
    const available = await domainOf('refresh-a')
    const again = await runUpdate(node, 'refresh', ['refresh-a'])
    expect(again.datasets).toEqual([])
    expect(again.accumulated.map(({ sha256 }) => sha256)).toEqual(first.datasets.map(({ sha256 }) => sha256))
    // It has taken nothing.
    expect(await domainOf('refresh-a')).toEqual(available)
  })

  test('is rejected with the missing tokens, if it has none', async () => {
    await newNode('lacking')
    await importTexts('lacking-a', 40)
    const response = await admin('POST', '/updates', {
      model: 'lacking',
      domains: ['lacking-a'],
      samples: 512,
      length: 64,
    })
    expect(response.status).toBe(422)
    expect((await errorOf(response)).message).toMatch(
      /'lacking-a' has about \d+ tokens of new samples, \d+ fewer than the 8192 that are needed/,
    )
  })
})

describe('the job of an update', () => {
  test('has the weights and the half-life of the policy, and the times from which it counts', async () => {
    const beganMs = Date.now()
    const node = await newNode('policy')
    await importTexts('policy-a')
    const first = await runUpdate(node, 'policy', ['policy-a'])
    expect(first.selection.weights).toEqual({})
    expect(first).not.toHaveProperty('halfLifeDays')
    const statistics = { half_life_days: 90, weights: { 'policy-a': 3 } }
    await adminJson('PUT', '/policy', { model: 'policy', statistics })
    const second = await runUpdate(node, 'policy', ['policy-a'])
    expect(second).toMatchObject({ halfLifeDays: 90, selection: { weights: { 'policy-a': 3 } } })
    const times = [...second.accumulated, ...second.datasets].map(({ createdAt }) => createdAt ?? 0)
    expect(times).toEqual(times.toSorted((one, other) => one - other))
    expect(times[0]).toBeGreaterThanOrEqual(beganMs)
  })

  test('of a later candidate reads what the first one read, with other weights, and has a mask of its own', async () => {
    const losses = new Map<string, number>()
    // The first candidate is much worse on the old domain, the second one is not.
    const node = new SimulatedNode('again-1', 'again', ({ mask }, domain) => {
      if (mask === null) return 2
      if (!losses.has(mask)) losses.set(mask, [2.2, 2.19, 2.18][losses.size] ?? 2.1)
      return (losses.get(mask) ?? 0) + (losses.get(mask) === 2.19 && domain === 'again-a' ? 0.2 : 0)
    })
    await node.beat()
    for (const domain of ['again-a', 'again-b']) await importTexts(domain)
    await runUpdate(node, 'again', ['again-a'])
    const { id } = await startUpdate('again', ['again-b'])
    expect(await node.finish(id)).toMatchObject({ state: 'promoted', candidate: 2, mask_version: 3 })
    const [one, two] = await Promise.all(
      [`${id}-calibrate`, `${id}-calibrate-2`].map(
        async (job) => (await wholeJob(testDeps(), (await findJob(db, job))!)) as CalibrateJob,
      ),
    )
    expect([two?.datasets, two?.accumulated]).toEqual([one?.datasets, one?.accumulated])
    expect(two?.accumulated.map(({ domain }) => domain)).toEqual(['again-a'])
    expect(two?.selection.weights).not.toEqual(one?.selection.weights)
    expect(await batchRowsOf(id)).toMatchObject([{ domain: 'again-b', state: 'counted', tokens: 100 }])
  })
})
