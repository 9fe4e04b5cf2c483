import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import type { EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { GeneralHoldout } from '@copal/shared/wire/admin-holdout.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { listHoldouts } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { GENERAL_HOLDOUT } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { datasetKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { currentHoldouts } from '../../../../gateway/src/adaptation/holdouts/current-holdouts.ts'
import { deleteGeneralHoldout } from '../../../../gateway/src/adaptation/holdouts/general-holdout.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)
const versionsOf = async (name: string) => (await listHoldouts(db)).filter(({ domain }) => domain === name)
const textsOf = async (hash = '') => (await readDataset(testDeps(), hash))?.map(({ text }) => text) ?? []
const holdoutsOf = (...domains: string[]) => currentHoldouts(testDeps(), { domains, traffic: new Map() }, 64)
/** As {@link holdoutsOf}, beside a domain `busy` with some share of the traffic. */
async function holdoutsBesideBusy(domain: string, busyShare: number) {
  await ensureDomains(db, ['busy'], 0)
  const traffic = new Map([
    ['busy', busyShare],
    [domain, 1 - busyShare],
  ])
  return currentHoldouts(testDeps(), { domains: [domain], traffic }, 64)
}

/** Offers `count` held-out texts of 1,000 characters. */
async function holdOut(domain: string, count: number, name = 'text'): Promise<void> {
  await ensureDomains(db, [domain], 0)
  const texts = Array.from({ length: count }, (_, index) =>
    `${domain} ${name} ${index} `.padEnd(1_000, 'words '),
  )
  await testDeps()
    .reservoir(domain)
    .offer(texts.map((text) => offeredSample(text, { side: 'holdout', atMs: Date.now() })))
}

describe('versions of a holdout', () => {
  test('grow with the held-out text until they have the target size for their traffic, and old versions never change', async () => {
    await holdOut('grow', 8)
    const holdouts = (busyShare = 0.9) => holdoutsBesideBusy('grow', busyShare)
    const first = await holdouts()
    expect(await versionsOf('grow')).toMatchObject([{ version: 1, samples: 8, characters: 8_000 }])
    const before = await textsOf(first[0]?.sha256)
    // Less than a quarter more.
    await holdOut('grow', 1, 'more')
    expect(await holdouts()).toEqual(first)
    await holdOut('grow', 30, 'much')
    const [second] = await holdouts()
    expect(await versionsOf('grow')).toMatchObject([
      { version: 1, sha256: first[0]?.sha256 },
      { version: 2, sha256: second?.sha256, samples: 39 },
    ])
    expect(await textsOf(first[0]?.sha256)).toEqual(before)
    expect(await textsOf(second?.sha256)).toEqual(expect.arrayContaining(before))
    // 9,750 tokens are above the target of a domain with a tenth of the traffic, and below that of one with half of it.
    await holdOut('grow', 60, 'most')
    expect(await holdouts()).toEqual([second])
    await holdouts(0.5)
    expect((await versionsOf('grow')).map(({ samples }) => samples)).toEqual([8, 39, 99])
  })

  test('have about 32,768 tokens at most, and concurrent evaluations agree on one', async () => {
    await holdOut('cap', 200)
    const all = await Promise.all(Array.from({ length: 4 }, () => holdoutsOf('cap')))
    for (const holdouts of all) {
      expect(holdouts.filter(({ domain }) => domain === 'cap')).toEqual([
        {
          sha256: expect.any(String),
          domain: 'cap',
          samples: 131,
          bytes: expect.any(Number),
          createdAt: expect.any(Number),
        },
      ])
      expect(holdouts).toEqual(all[0])
    }
    expect(await versionsOf('cap')).toHaveLength(1)
  })

  test('of other domains are evaluated too, and are created from four windows on', async () => {
    await holdOut('named', 8)
    await holdOut('ample', 2)
    await holdOut('scarce', 1)
    const domains = async () => (await holdoutsOf('named')).map(({ domain }) => domain)
    expect(await domains()).toEqual(expect.arrayContaining(['ample', 'named']))
    expect(await domains()).not.toContain('scarce')
  })

  test('are kept without their texts when a key is deleted, as a new version', async () => {
    await holdOut('keyed', 8)
    await testDeps()
      .reservoir('keyed')
      .offer([
        offeredSample('of the key '.padEnd(1_000, 'words '), {
          side: 'holdout',
          keyId: 'key_gone',
          atMs: Date.now(),
        }),
      ])
    const [holdout] = (await holdoutsOf('keyed')).filter(({ domain }) => domain === 'keyed')
    expect(holdout?.samples).toBe(9)
    await adminJson('DELETE', '/domains/keyed/samples?key=key_gone')
    expect(await versionsOf('keyed')).toMatchObject([{ version: 2, samples: 8, characters: 8_000 }])
    expect(await env.ARTIFACTS.head(datasetKey(holdout?.sha256 ?? ''))).toBeNull()
  })
})

test('masks are evaluated on a new version together with the active one, and forgetting is measured on it', async () => {
  const losses = new Map<string, number>()
  // Each new mask is better on the domain; the second version has harder text.
  const node = new SimulatedNode('version-1', 'version', ({ mask, holdouts }, domain) => {
    if (domain !== 'version-a') return 2
    const isGrown = (holdouts.find((holdout) => holdout.domain === domain)?.samples ?? 0) > 40
    if (mask === null) return isGrown ? 2.5 : 2
    if (!losses.has(mask)) losses.set(mask, 2.2 - losses.size / 100)
    return (losses.get(mask) ?? 0) + (isGrown ? 0.5 : 0)
  })
  await node.beat()
  await importTexts('version-a')
  await node.finish((await startUpdate('version', ['version-a'])).id)
  await importTexts('version-a', 240, 'version more')
  await node.finish((await startUpdate('version', ['version-a'])).id)
  expect(await versionsOf('version-a')).toHaveLength(2)
  const { r } = await adminJson<DriftReport>('GET', '/drift?model=version')
  const column = r.domains.indexOf('version-a')
  expect(r.holdouts[column]).toMatchObject({ domain: 'version-a', version: 2 })
  expect(r.perplexity.map((row) => row[column])).toEqual(
    [2.5, 2.7, 2.69].map((loss) => expect.closeTo(Math.exp(loss), 9)),
  )
  expect(r.forgetting).toMatchObject([
    {
      domain: 'version-a',
      holdout_version: 2,
      first: { mask_version: 1, difference: expect.closeTo(Math.exp(2.69) - Math.exp(2.7), 9) },
    },
  ])
})

describe('the general holdout', () => {
  const texts = (name: string) =>
    Array.from({ length: 5 }, (_, index) => `General ${name} ${index} `.padEnd(1_000, 'words '))
  const put = (body: string[]) => admin('PUT', '/holdout', { texts: body })

  test('is set by the operator in versions, evaluated with every mask, and deleted with what was measured', async () => {
    expect(await adminJson('GET', '/holdout')).toEqual({ holdout: null })
    const { holdout } = await adminJson<GeneralHoldout>('PUT', '/holdout', { texts: texts('one') })
    expect(holdout).toMatchObject({ version: 1, texts: 5, characters: 5_000, tokens: 1_250 })
    // The same again is the same version.
    expect(await adminJson('PUT', '/holdout', { texts: texts('one') })).toEqual({ holdout })
    expect(await adminJson('PUT', '/holdout', { texts: texts('two') })).toMatchObject({
      holdout: { version: 2 },
    })
    expect(await adminJson('GET', '/holdout')).toMatchObject({ holdout: { version: 2 } })

    const node = new SimulatedNode('general-1', 'general')
    await node.beat()
    await importTexts('general-a')
    const { id } = await startUpdate('general', ['general-a'])
    await node.reach(id, 'evaluating')
    await node.beat()
    const [job] = node.jobs as EvaluateJob[]
    expect(job?.holdouts).toContainEqual(expect.objectContaining({ domain: GENERAL_HOLDOUT, samples: 5 }))
    const refused = await admin('DELETE', '/holdout')
    expect([refused.status, (await errorOf(refused)).code]).toEqual([409, 'conflict'])
    expect((await node.finish(id)).state).toBe('promoted')
    const domains = async () => (await adminJson<DriftReport>('GET', '/drift?model=general')).r.domains
    expect(await domains()).toContain(GENERAL_HOLDOUT)
    const stored = await versionsOf(GENERAL_HOLDOUT)
    expect(stored).toHaveLength(2)

    // A deletion that fails leaves no holdout without its texts, and is repeated.
    const artifacts = { delete: () => Promise.reject(new Error('R2 is away')) } as never
    await expect(deleteGeneralHoldout(testDeps({ artifacts }))).rejects.toThrow('R2 is away')
    expect(await adminJson('GET', '/holdout')).toEqual({ holdout: null })
    expect(await adminJson('DELETE', '/holdout')).toEqual({ holdout: null })
    for (const { sha256 } of stored) expect(await env.ARTIFACTS.head(datasetKey(sha256))).toBeNull()
    expect(await domains()).not.toContain(GENERAL_HOLDOUT)
    expect(await adminJson('DELETE', '/holdout')).toEqual({ holdout: null })
  })

  test('is redacted, and rejected with what is allowed if it is too small or too large', async () => {
    const small = await put(['a few words'])
    expect([small.status, await errorOf(small)]).toMatchObject([
      400,
      {
        code: 'invalid_request',
        param: 'texts',
        message: expect.stringContaining('at least 1024 are needed'),
      },
    ])
    const large = await put(Array.from({ length: 140 }, (_, index) => `${index} `.padEnd(1_000, 'words ')))
    expect([large.status, (await errorOf(large)).message]).toEqual([
      400,
      expect.stringContaining('characters, and 131072 are allowed'),
    ])
    expect((await put([])).status).toBe(400)
    const { holdout } = await adminJson<GeneralHoldout>('PUT', '/holdout', {
      texts: [...texts('secret'), 'Write to jane@example.org.'],
    })
    expect((await textsOf(holdout?.sha256)).join('')).not.toContain('jane@example.org')
    await adminJson('DELETE', '/holdout')
  })
})
