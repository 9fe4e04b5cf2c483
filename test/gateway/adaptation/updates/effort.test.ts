import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { listNames } from '@copal/shared/phrases.ts'
import type { EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertHoldout } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { adminJson, importTexts, SimulatedNode, startUpdate } from '../../support/doubles/simulated-node.ts'
import { jobRowsOf } from '../../support/state/rows-of.ts'
import { publishCounts } from '../../support/state/reservoir-state.ts'

const db = openDatabase(env.DB)
const NAMES = ['cap-a', 'cap-b', 'cap-c', 'cap-d', 'cap-e', 'cap-f']

test('an update evaluates its own domains and as many others as the policy allows, in turn, and says which it left out', async () => {
  const node = new SimulatedNode('cap-1', 'cap')
  await node.beat()
  for (const name of NAMES) await importTexts(name)
  await adminJson('PUT', '/policy', { model: 'cap', effort: { max_holdouts: 3 } })
  const evaluated: string[][] = []
  for (let round = 0; round < 3; round += 1) {
    await importTexts('cap-a', 80, `cap-a round ${round}`)
    const { id } = await startUpdate('cap', ['cap-a'])
    const ended = await node.finish(id)
    expect(ended.state).toBe('promoted')
    const job = (await findJob(db, `${id}-evaluate`))?.payload as EvaluateJob
    const domains = job.holdouts.map(({ domain }) => domain)
    evaluated.push(domains)
    const gate = ended.decisions?.find(({ kind }) => kind === 'gate')
    const leftOut = NAMES.filter((name) => !domains.includes(name))
    expect(gate?.figures.find(({ name }) => name === 'holdouts left out')).toMatchObject({
      value: 3,
      passed: true,
      note: `not evaluated, because of effort.max_holdouts: ${listNames(leftOut)}`,
    })
    expect(gate?.reason).toContain(`3 domains were not evaluated: ${listNames(leftOut)}.`)
  }
  expect(evaluated).toEqual([
    ['cap-a', 'cap-b', 'cap-c'],
    ['cap-a', 'cap-d', 'cap-e'],
    ['cap-a', 'cap-b', 'cap-f'],
  ])

  // A domain with too little held-out text for a first holdout is not passed over in silence.
  await importTexts('cap-young', 1)
  await publishCounts('cap-young')
  await importTexts('cap-a', 80, 'cap-a beside a young domain')
  const beside = await node.finish((await startUpdate('cap', ['cap-a'])).id)
  const ofBeside = beside.decisions?.find(({ kind }) => kind === 'gate')
  expect(ofBeside?.reason).toMatch(/4 domains were not evaluated: .*cap-young\.$/)
  expect(ofBeside?.figures.find(({ name }) => name === 'domains without a holdout')).toMatchObject({
    value: 1,
    passed: true,
    note: expect.stringMatching(/: cap-young \(has (none|about \d+)\)$/),
  })

  // Of very many it names some.
  const more = Array.from({ length: 30 }, (_, index) => `more-${index}`)
  await ensureDomains(db, more, 0)
  for (const domain of more)
    await insertHoldout(db, {
      domain,
      version: 1,
      sha256: await sha256(new Uint8Array(new TextEncoder().encode(domain))),
      samples: 1,
      characters: 40_000,
      createdAt: 0,
    })
  await importTexts('cap-a', 80, 'cap-a with many others')
  const last = await node.finish((await startUpdate('cap', ['cap-a'])).id)
  const figures = last.decisions?.find(({ kind }) => kind === 'gate')?.figures
  const figure = figures?.find(({ name }) => name === 'holdouts left out')
  expect(figure).toMatchObject({ value: 33, note: expect.stringMatching(/ and 2 others$/) })
})

test('every job of an update may take the share of a node that the policy allows', async () => {
  const node = new SimulatedNode('share-1', 'share')
  await node.beat()
  await importTexts('share-a')
  const first = await startUpdate('share', ['share-a'])
  await node.finish(first.id)
  await adminJson('PUT', '/policy', { model: 'share', effort: { node_share: 0.2 } })
  await importTexts('share-a', 80, 'more of share')
  const second = await startUpdate('share', ['share-a'])
  await node.finish(second.id)
  const sharesOf = async (id: string) => (await jobRowsOf(id)).map(({ payload }) => payload.nodeShare)
  const [ofFirst, ofSecond] = [await sharesOf(first.id), await sharesOf(second.id)]
  expect(ofFirst.length).toBeGreaterThan(1)
  expect(new Set(ofFirst)).toEqual(new Set([0.3]))
  expect(ofSecond.length).toBeGreaterThan(1)
  expect(new Set(ofSecond)).toEqual(new Set([0.2]))
})
