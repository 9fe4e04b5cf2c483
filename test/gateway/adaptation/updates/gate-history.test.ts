import { describe, expect, test } from 'vitest'
import {
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
} from '../../support/doubles/simulated-node.ts'
import { scoresByOrder } from '../../support/doubles/scores-by-order.ts'

describe('the best stage', () => {
  test('is no mask that was rolled back, whose texts do not count any more', async () => {
    const scores = scoresByOrder({ 'best-old': [10, 12, 12, 11.9], 'best-new': [10, 20, 12, 20] })
    const node = new SimulatedNode('best-1', 'best', scores)
    await node.beat()
    await importTexts('best-old')
    expect((await node.finish((await startUpdate('best', ['best-old'])).id)).state).toBe('promoted')
    await importTexts('best-new')
    expect((await node.finish((await startUpdate('best', ['best-new'])).id)).state).toBe('promoted')
    await adminJson('POST', '/rollback', { model: 'best', version: 1 })
    await importTexts('best-old', 80, 'more')
    const end = await node.finish((await startUpdate('best', ['best-old'])).id)
    expect(end.error).toBeNull()
    expect(end).toMatchObject({ state: 'promoted', mask_version: 3 })
    const best = (end.decisions?.[0]?.figures ?? []).filter(({ name }) => name === 'perplexity / best')
    expect(best.length).toBeGreaterThan(0)
    expect(best.every(({ note }) => note === 'm1')).toBe(true)
  })

  test('is a mask that was rolled back and is active again', async () => {
    const scores = scoresByOrder({ 'again-old': [10, 12, 11, 12], 'again-new': [10, 20, 12, 15] })
    const node = new SimulatedNode('again-best-1', 'again-best', scores)
    await node.beat()
    await importTexts('again-old')
    await node.finish((await startUpdate('again-best', ['again-old'])).id)
    await importTexts('again-new')
    await node.finish((await startUpdate('again-best', ['again-new'])).id)
    for (const version of [1, 2]) await adminJson('POST', '/rollback', { model: 'again-best', version })
    await importTexts('again-old', 80, 'more')
    const end = await node.finish((await startUpdate('again-best', ['again-old'])).id)
    const best = (end.decisions?.[0]?.figures ?? []).filter(({ name }) => name === 'perplexity / best')
    expect(best.find(({ domain }) => domain === 'again-new')).toMatchObject({ note: 'm2', passed: false })
  })
})

test('a domain that was rebuilt keeps its constraint, because the active mask knows it', async () => {
  const scores = scoresByOrder({ 'built-a': [10, 12, 13.2], 'built-b': [10, 14, 11] })
  const node = new SimulatedNode('built-1', 'built', scores)
  await node.beat()
  await adminJson('PUT', '/policy', { model: 'built', gate: { max_candidates: 1 } })
  for (const domain of ['built-a', 'built-b']) await importTexts(domain)
  await node.finish((await startUpdate('built', ['built-a', 'built-b'])).id)
  await adminJson('POST', '/domains/built-a/rebuild')
  // Better on the whole, and a tenth worse in the domain that is calibrated anew.
  const end = await node.finish((await startUpdate('built', ['built-a'])).id)
  expect(end.state).toBe('failed')
  expect(end.error?.message).toContain("on 'built-a' is 1.100 × that of the active mask")
})

test.each([
  ['is promoted', 12, 'promoted'],
  ['fails', 13.2, 'failed'],
] as const)(
  'an active mask without a finite loss on one holdout is still a limit on the others: the update %s',
  async (_, ofOld, state) => {
    const model = `broken-${state}`
    const scores = scoresByOrder({ [`${model}-old`]: [10, 12, ofOld], [`${model}-new`]: [10, Infinity, 14] })
    const node = new SimulatedNode(`${model}-1`, model, (job, domain) => {
      const loss = scores(job, domain)
      return loss === Infinity ? null : loss
    })
    await node.beat()
    await adminJson('PUT', '/policy', { model, gate: { max_candidates: 1 } })
    await importTexts(`${model}-old`)
    await node.finish((await startUpdate(model, [`${model}-old`])).id)
    await importTexts(`${model}-new`)
    const end = await node.finish((await startUpdate(model, [`${model}-new`])).id)
    expect(end.state).toBe(state)
    const figures = end.decisions?.find(({ kind }) => kind === 'gate')?.figures ?? []
    // Domains are shared by all models of this file.
    const compared = figures.filter(
      ({ name, domain }) => name.startsWith('perplexity') && (domain?.startsWith(model) ?? true),
    )
    expect(compared.map(({ name, domain }) => [name, domain])).toEqual([
      ['perplexity / parent, weighted', null],
      ['perplexity / parent', `${model}-old`],
      ['perplexity / best', `${model}-old`],
      ['perplexity / dense', `${model}-new`],
    ])
  },
)

test('an update without new texts is confirmed by a second node as every other', async () => {
  const nodes = ['bare-1', 'bare-2'].map((id) => new SimulatedNode(id, 'bare'))
  for (const node of nodes) await node.beat()
  await importTexts('bare-a')
  const run = async (id: string) => {
    for (let turn = 0; turn < 30 && (await getUpdate(id)).finished_at === null; turn += 1) {
      for (const node of nodes) {
        await node.beat()
        await node.work()
      }
    }
    return getUpdate(id)
  }
  const demand = { samples: 64, length: 64 }
  expect((await run((await startUpdate('bare', ['bare-a'], demand)).id)).state).toBe('promoted')
  const { id } = await startUpdate('bare', ['bare-a'], { samples: 256, length: 64 })
  const end = await run(id)
  expect(end.decisions?.slice(0, 2).map(({ kind, verdict }) => [kind, verdict])).toEqual([
    ['gate', 'passed'],
    ['confirm', 'passed'],
  ])
})
