import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { datasetKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const domainOf = async (name: string) =>
  (await adminJson<{ data: DomainEntry[] }>('GET', '/domains')).data.find((domain) => domain.name === name)

describe('domains', () => {
  test('store imported texts redacted and split into pieces', async () => {
    const long = Array.from(
      { length: 600 },
      (_, index) => `Sentence ${1000 + index} of the long text. `,
    ).join('')
    const answer = await adminJson('POST', '/domains/imported/texts', {
      texts: [long, 'write to jane@example.org'],
    })
    expect(answer).toEqual({ domain: 'imported', texts: 2, pieces: 6 })
    expect(await domainOf('imported')).toMatchObject({
      seen: 6,
      holdout_frozen: false,
      calibrated_datasets: 0,
    })
  })

  test('have the pieces of one long text on both sides, and none of them on both', async () => {
    const long = Array.from({ length: 6_000 }, (_, index) => `Sentence ${index}.`).join(' ')
    await adminJson('POST', '/domains/one-text/texts', { texts: [long.slice(0, 60_000), long.slice(60_000)] })
    const reservoir = testDeps().reservoir('one-text')
    const pool = await reservoir.take({ model: 'm', updateId: 'u', maxBytes: 1e6 })
    const holdout = await reservoir.holdout(1e6)
    expect(pool.length).toBeGreaterThan(5)
    expect(holdout.length).toBeGreaterThan(2)
    const sentences = (texts: { text: string }[]) =>
      texts.flatMap(({ text }) => text.match(/Sentence \d+\./g) ?? [])
    const all = [...sentences(pool), ...sentences(holdout)]
    expect(new Set(all).size).toBe(all.length)
    expect(all.length).toBeGreaterThan(5_900)
    // Imported again, they are on the side that they were on.
    await adminJson('POST', '/domains/one-text/texts', { texts: [long.slice(0, 60_000)] })
    expect(await reservoir.stats()).toMatchObject({ samples: pool.length, holdoutSamples: holdout.length })
  })

  test.each([
    ['/samples?keys=key_1', 'keys'],
    ['/samples?key=', 'key'],
    ['/samples?tenant=', 'tenant'],
    ['/samples?request=&key=key_1', 'request'],
    ['/samples?key=key_1&key=key_2', 'key'],
    ['?key=key_1', 'key'],
  ])('lose nothing to a deletion with unknown or repeated parameters: %s', async (rest, param) => {
    await importTexts('mistyped')
    const before = await domainOf('mistyped')
    const response = await admin('DELETE', `/domains/mistyped${rest}`)
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param })
    expect(before?.samples).toBeGreaterThan(0)
    expect((await domainOf('mistyped'))?.samples).toBe(before?.samples)
  })

  test('say nothing of a deletion to a caller that lists texts with an unknown parameter', async () => {
    await importTexts('mistyped')
    const response = await admin('GET', '/domains/mistyped/samples?limit=5')
    expect((await errorOf(response)).message).toMatch(/^The query parameter 'limit' is unknown/)
  })

  test.each(['', '/samples', '/samples?key=key_1'])(
    'that never existed are not found: DELETE /domains/nope%s',
    async (rest) => {
      const response = await admin('DELETE', `/domains/nope${rest}`)
      expect([response.status, await errorOf(response)]).toMatchObject([
        404,
        { code: 'not_found', message: expect.stringContaining("There is no domain 'nope'") as string },
      ])
    },
  )

  test('accept as many texts at once as fit into an isolate beside other requests, and reject more with the maximum', async () => {
    await importTexts('filled', 2_000)
    const filled = await domainOf('filled')
    expect(filled?.seen).toBe(2_000)
    expect((filled?.samples ?? 0) + (filled?.holdout_samples ?? 0)).toBeLessThan(2_000)
    const many = await admin('POST', '/domains/filled/texts', {
      texts: Array.from({ length: 2_001 }, String),
    })
    expect([many.status, (await errorOf(many)).param]).toEqual([400, 'texts'])
    const texts = Array.from({ length: 64 }, (_, index) => String(index).padEnd(64 * 1024, 'x'))
    const large = await admin('POST', '/domains/filled/texts', { texts })
    expect(large.status).toBe(413)
    expect((await errorOf(large)).message).toContain('4 MiB')
    const whole = await adminJson('POST', '/domains/filled/texts', { texts: texts.slice(1, 63) })
    expect(whole).toEqual({ domain: 'filled', texts: 62, pieces: 62 * 16 })
  })

  test('lose the samples of one key, or all samples', async () => {
    await importTexts('emptied')
    expect(await adminJson('DELETE', '/domains/emptied/samples?key=nobody')).toEqual({
      domain: 'emptied',
      deleted: 0,
      deleted_frozen: 0,
      pending: false,
    })
    expect(await adminJson('DELETE', '/domains/emptied/samples')).toEqual({
      domain: 'emptied',
      deleted: 80,
      deleted_frozen: 0,
      pending: false,
    })
    expect(await domainOf('emptied')).toMatchObject({ samples: 0, holdout_samples: 0, seen: 80 })
  })

  test('are deleted with everything that was stored, but not during an update', async () => {
    const node = new SimulatedNode('delete-1', 'delete')
    await node.beat()
    await importTexts('deleted')
    const { id } = await startUpdate('delete', ['deleted'])
    const refused = await admin('DELETE', '/domains/deleted')
    expect([refused.status, (await errorOf(refused)).code]).toEqual([409, 'conflict'])
    await node.finish(id)
    const stored = await listDatasetsOf(openDatabase(env.DB), 'deleted')
    const isStored = async (hash: string) => (await env.ARTIFACTS.head(datasetKey(hash))) !== null
    expect(await Promise.all(stored.map(isStored))).toEqual([true, true])
    expect(await adminJson('DELETE', '/domains/deleted')).toEqual({ domain: 'deleted', deleted: true })
    expect(await Promise.all(stored.map(isStored))).toEqual([false, false])
    expect(await domainOf('deleted')).toBeUndefined()
    // The same name can be used again, as a new domain.
    await importTexts('deleted')
    expect(await domainOf('deleted')).toMatchObject({
      holdout_frozen: false,
      calibrated_datasets: 0,
      seen: 80,
    })
    await node.finish((await startUpdate('delete', ['deleted'])).id)
  })

  test('keep their datasets when a domain with the same texts is deleted', async () => {
    const [one, other] = await Promise.all(
      ['one-of-two', 'other-of-two'].map((domain) =>
        freezeDataset(testDeps(), domain, [{ text: 'the same text', sources: [] }]),
      ),
    )
    await ensureDomains(testDeps().db, ['one-of-two'], 0)
    await admin('DELETE', '/domains/one-of-two')
    expect(await env.ARTIFACTS.head(datasetKey(one?.sha256 ?? ''))).toBeNull()
    expect(await env.ARTIFACTS.head(datasetKey(other?.sha256 ?? ''))).not.toBeNull()
    expect(await listDatasetsOf(openDatabase(env.DB), 'other-of-two')).toEqual([other?.sha256])
  })
})
