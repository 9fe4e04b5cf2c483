import { describe, expect, test } from 'vitest'
import {
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
} from '../../support/doubles/simulated-node.ts'
import type { Job, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { jobRowsOf } from '../../support/state/rows-of.ts'
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

describe('a holdout that has grown', () => {
  /** A node that cannot load earlier masks, if it is told so. */
  class NodeOfGrown extends SimulatedNode {
    isForgetful = false
    findsNothingFinite = false

    override async done(job: Job): Promise<JobReport> {
      const report = await super.done(job)
      if (!job.id.endsWith('-best')) return report
      if (this.findsNothingFinite && report.result?.kind === 'evaluate')
        for (const found of report.result.domains) Object.assign(found, { nllMean: null, perplexity: null })
      if (!this.isForgetful) return report
      const error = { code: 'mask_invalid', message: 'the file is gone' } as const
      return { id: job.id, state: 'failed', progress: 1, message: 'failed', error }
    }
  }

  /** Promotes two masks, of which the first is better on the old domain. */
  async function makeTwoMasks(
    model: string,
    node: SimulatedNode,
    policy: PolicyOverrides = {},
  ): Promise<void> {
    await node.beat()
    const gate = { max_candidates: 1, max_regression_from_best: 1.06 }
    await adminJson('PUT', '/policy', { model, gate, ...policy })
    for (const domain of [`${model}-old`, `${model}-new`]) {
      await importTexts(domain)
      expect((await node.finish((await startUpdate(model, [domain])).id)).state).toBe('promoted')
    }
  }
  /** Starts an update after two masks, and after both domains got more text. */
  async function startAfterGrowth(model: string, node: SimulatedNode): Promise<UpdateEntry> {
    await makeTwoMasks(model, node)
    const domains = [`${model}-old`, `${model}-new`]
    for (const domain of domains) await importOtherTexts(domain)
    return startUpdate(model, domains)
  }
  /** Imports texts that share no words, so that they take either side whatever the texts before took. */
  async function importOtherTexts(domain: string): Promise<void> {
    const texts = Array.from({ length: 160 }, (_, text) =>
      Array.from({ length: 50 }, (__, word) => `word${text}x${word}`).join(' '),
    )
    await adminJson('POST', `/domains/${domain}/texts`, { texts })
  }
  const scoresOf = (model: string) =>
    scoresByOrder({ [`${model}-old`]: [10, 12, 12.5, 13], [`${model}-new`]: [10, 20, 14, 12] })
  /** Returns what the gate compared with the best earlier mask of the old domain. */
  const comparedWithBest = (model: string, { decisions }: UpdateEntry) =>
    (decisions?.find(({ kind }) => kind === 'gate')?.figures ?? []).find(
      ({ name, domain }) => name === 'perplexity / best' && domain === `${model}-old`,
    )

  test('is evaluated under the mask that was best on it, and the candidate is compared with that one', async () => {
    const node = new NodeOfGrown('grown-1', 'grown', scoresOf('grown'))
    const { id } = await startAfterGrowth('grown', node)
    const end = await node.finish(id)
    const value = expect.closeTo(13 / 12, 9) as number
    expect(comparedWithBest('grown', end)).toMatchObject({ note: 'm1', value, limit: 1.06, passed: false })
    expect(end.state).toBe('failed')
    const best = (await jobRowsOf(id)).find((job) => job.id === `${id}-best`)?.payload
    expect(best).toMatchObject({ holdouts: [{ domain: 'grown-old' }], checkGeneration: false })
  })

  test('is judged without that mask where no node can load it, and with it in the next update if one can', async () => {
    const node = new NodeOfGrown('forgot-1', 'forgot', scoresOf('forgot'))
    node.isForgetful = true
    const { id } = await startAfterGrowth('forgot', node)
    const without = await node.finish(id)
    expect(without.state).toBe('promoted')
    expect(comparedWithBest('forgot', without)).toMatchObject({ note: 'm2' })
    node.isForgetful = false
    const next = await node.finish(
      (await startUpdate('forgot', ['forgot-old'], { samples: 2, length: 32 })).id,
    )
    expect(comparedWithBest('forgot', next)).toMatchObject({ note: 'm1', passed: false })
  })

  test.each(['isForgetful', 'findsNothingFinite'] as const)(
    'is not evaluated a third time under a mask that gave no loss twice (%s)',
    async (fault) => {
      const model = `thrice-${fault.toLowerCase()}`
      const node = new NodeOfGrown(`${model}-1`, model, scoresOf(model))
      node[fault] = true
      const { id: first } = await startAfterGrowth(model, node)
      const ids = [first]
      await node.finish(first)
      for (let more = 0; more < 2; more += 1) {
        const { id } = await startUpdate(model, [`${model}-old`], { samples: 2, length: 32 })
        await node.finish(id)
        ids.push(id)
      }
      const jobs = await Promise.all(ids.map((id) => jobRowsOf(id)))
      expect(jobs.map((rows) => rows.filter(({ id }) => id.endsWith('-best')).length)).toEqual([1, 1, 0])
    },
  )

  test('is evaluated under that mask also where an update of its own mask measured it first', async () => {
    const node = new NodeOfGrown('own-first-1', 'own-first', scoresOf('own-first'))
    await makeTwoMasks('own-first', node, { discovery: { own_masks: true }, watch: { soak_minutes: 0 } })
    await importOtherTexts('own-first-old')
    const mask = { model: 'own-first', samples: 2, length: 64 }
    const own = await adminJson<UpdateEntry>('POST', '/domains/own-first-old/mask', mask)
    expect((await node.finish(own.id)).finished_at).not.toBeNull()
    const shared = await node.finish((await startUpdate('own-first', ['own-first-old', 'own-first-new'])).id)
    expect(comparedWithBest('own-first', shared)).toMatchObject({ note: 'm1' })
  })
})
