/** Tests what the dense weights make of stored texts, in the reservoir that stores them. */
import { env } from 'cloudflare:workers'
import { runInDurableObject } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { textHash } from '../../../../gateway/src/adaptation/sampling/text-hash.ts'
import type { OfferedSample } from '../../../../gateway/src/contracts/reservoir-object.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'

const BASE = 'b'.repeat(64)
const reservoir = (name: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(name))
const description = (value: number, baseSha256 = BASE) => ({
  baseSha256,
  tokens: 20,
  embedding: [value, 1],
  nllMean: value,
})
const described = (text: string, value: number, changes: Partial<OfferedSample> = {}) =>
  offeredSample(text, { side: 'pool', description: description(value), ...changes })

function rows(name: string): Promise<number> {
  return runInDurableObject(
    reservoir(name),
    (_instance, { storage }) =>
      storage.sql.exec<{ n: number }>('SELECT count(*) AS n FROM descriptions').one().n,
  )
}

test('a stored text keeps its description, and a text that the classifier found is no example', async () => {
  const domain = reservoir('described')
  await domain.offer([
    described('a', 0.5),
    described('b', 0.25, { side: 'holdout' }),
    offeredSample('c', { side: 'pool', found: true }),
    offeredSample('d', { side: 'pool' }),
  ])
  const texts = await domain.listDescribed(BASE, 10)
  expect(texts.toSorted((a, b) => a.text.localeCompare(b.text))).toMatchObject([
    { text: 'a', tokens: 20, embedding: [0.5, 1], nllMean: 0.5, tenants: ['tenant'], proposal: null },
    { text: 'b', embedding: [0.25, 1], nllMean: 0.25 },
  ])
  const { described: count, texts: without } = await domain.textsToDescribe({
    baseSha256: BASE,
    want: 10,
    limit: 10,
  })
  expect({ count, without: without.map(({ text }) => text) }).toEqual({ count: 2, without: ['d'] })
})

test('a text with a NUL character is described by its beginning, as any other', async () => {
  const domain = reservoir('nul')
  const text = '\0 ignored by text functions of SQLite'
  await domain.offer([offeredSample(text, { side: 'pool' })])
  const hash = await textHash(text)
  const request = { baseSha256: BASE, limit: 10 }
  expect((await domain.textsToDescribe({ ...request, want: 10 })).texts).toEqual([{ hash, text }])
  expect(await domain.textsWithoutLoss({ ...request, model: 'm', maxBytes: 1_000 })).toEqual([{ hash, text }])
  await domain.storeDescriptions([{ hash, ...description(1) }], [BASE])
  expect(await domain.listDescribed(BASE, 10)).toMatchObject([{ hash, text }])
  expect(await domain.newest(10, 5)).toMatchObject([{ id: hash, preview: text.slice(0, 5) }])
})

test('of a long text its first 1,024 characters are described, whole ones, whatever their bytes', async () => {
  const domain = reservoir('heads')
  // One, three and four bytes in UTF-8; the last one is a pair of code units, which the end would split.
  const texts = ['x'.repeat(2_000), '漢'.repeat(2_000), `x${'𝒳'.repeat(1_000)}`]
  await domain.offer(texts.map((text) => offeredSample(text, { side: 'pool' })))
  const { texts: heads } = await domain.textsToDescribe({ baseSha256: BASE, want: 10, limit: 10 })
  const expected = ['x'.repeat(1_024), '漢'.repeat(1_024), `x${'𝒳'.repeat(511)}\ufffd`]
  expect(heads.map(({ text }) => text).toSorted()).toEqual(expected.toSorted())
})

test('no more texts are to be described than are wanted, and held-out ones only where they are asked for', async () => {
  const domain = reservoir('to describe')
  const texts = ['a', 'b', 'c', 'd'].map((text) => offeredSample(text, { side: 'pool' }))
  await domain.offer([...texts, offeredSample('e', { side: 'holdout' })])
  const ask = async (request: { want: number; limit?: number; heldOut?: boolean }) =>
    (await domain.textsToDescribe({ baseSha256: BASE, limit: 10, ...request })).texts.length
  expect(await ask({ want: 10 })).toBe(4)
  expect(await ask({ want: 10, heldOut: true })).toBe(5)
  expect(await ask({ want: 10, limit: 3 })).toBe(3)
})

test('those of the wanted texts are described that lack a description, also where others have one', async () => {
  const domain = reservoir('wanted')
  await domain.offer(['a', 'b', 'c', 'd'].map((text) => offeredSample(text, { side: 'pool' })))
  const ask = async (want: number) => {
    const { described: count, texts: missing } = await domain.textsToDescribe({
      baseSha256: BASE,
      want,
      limit: 10,
    })
    return { described: count, texts: missing }
  }
  const { texts } = await ask(10)
  const describeOne = async (index: number) =>
    domain.storeDescriptions([{ hash: texts[index]?.hash ?? '', ...description(1) }], [BASE])
  await describeOne(2)
  await describeOne(3)
  expect(await ask(2)).toEqual({ described: 0, texts: texts.slice(0, 2) })
  await describeOne(0)
  expect(await ask(2)).toEqual({ described: 1, texts: texts.slice(1, 2) })
  expect(await ask(4)).toEqual({ described: 3, texts: texts.slice(1, 2) })
})

test('a description goes with its text: deleted by key, by hash, or with the domain', async () => {
  const domain = reservoir('deleted descriptions')
  await domain.offer([described('a', 1, { keyId: 'leaves' }), described('b', 2), described('c', 3)])
  expect(await rows('deleted descriptions')).toBe(3)
  expect(await domain.deleteTexts({ keyId: 'leaves' })).toBe(1)
  expect((await domain.listDescribed(BASE, 10)).map(({ text }) => text).toSorted()).toEqual(['b', 'c'])
  await domain.deleteByHash([await textHash('b')])
  expect(await rows('deleted descriptions')).toBe(1)
  await domain.clear()
  expect(await rows('deleted descriptions')).toBe(0)
})

test('descriptions of weights that no model has any more are forgotten', async () => {
  const domain = reservoir('other weights')
  const other = 'c'.repeat(64)
  await domain.offer([described('a', 1)])
  await domain.storeDescriptions([{ hash: await textHash('a'), ...description(2, other) }], [BASE, other])
  expect(await rows('other weights')).toBe(2)
  await domain.storeDescriptions([], [other])
  expect(await domain.listDescribed(BASE, 10)).toEqual([])
  expect(await domain.listDescribed(other, 10)).toMatchObject([{ embedding: [2, 1] }])
})

test('the texts of a proposed domain are offered again as they were, with their sides, sources and descriptions', async () => {
  const staging = reservoir('proposing')
  const twice = { tenant: 'other', keyId: 'other key', conversation: 'other conversation' }
  const first = described('a', 1, { opening: 'opening', nllMean: 1 })
  await staging.offer([
    first,
    described('a', 1, { ...twice, nllMean: 1 }),
    described('b', 2, { side: 'holdout' }),
  ])
  const hash = await textHash('a')
  expect(await staging.countUngrouped(BASE, 10)).toBe(2)
  expect(await staging.countUngrouped(BASE, 1)).toBe(1)
  await staging.propose(BASE, { 'proposal-1': [hash] })
  expect(await staging.countUngrouped(BASE, 10)).toBe(1)
  expect(await staging.proposalSizes()).toEqual({ 'proposal-1': 1 })
  const { hashes, offers } = await staging.offersOf('proposal-1', 10)
  expect(hashes).toEqual([hash])
  expect(offers).toHaveLength(2)
  expect(offers).toContainEqual(first)
  expect(offers).toContainEqual(expect.objectContaining({ ...twice, text: 'a', side: 'pool' }))
  await staging.propose(BASE, {})
  expect(await staging.proposalSizes()).toEqual({})
})
