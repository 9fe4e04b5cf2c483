/** Tests that an operator lists domains that were found, and accepts, merges or discards them. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { ProposalEntry, ProposalList } from '@copal/shared/wire/admin-proposals.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { appendPendingAudit } from '../../../../gateway/src/audit/audit-chain.ts'
import { createCallBudget, EVENT_CALLS, isCallsUsedUp } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import {
  finishProposals,
  mergeProposal,
  settleTexts,
} from '../../../../gateway/src/adaptation/intake/settle-proposal.ts'
import { textHash } from '../../../../gateway/src/adaptation/sampling/text-hash.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import {
  findProposals,
  replaceProposals,
  type ProposalRow,
} from '../../../../gateway/src/storage/db/queries/discovery-queries.ts'
import { ensureDomains, listDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertTombstone } from '../../../../gateway/src/storage/db/queries/tombstone-queries.ts'
import { UNASSIGNED } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { textOfKind, type Kind } from '../../support/doubles/describing-node.ts'
import { admin, adminJson, SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'
import { createKey, errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { countCalls } from '../../support/state/counted-calls.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'

const BASE = 'a'.repeat(64)
const db = openDatabase(env.DB)
const staging = () => env.RESERVOIR.get(env.RESERVOIR.idFromName(UNASSIGNED))
const description = { baseSha256: BASE, tokens: 40, embedding: [1, 2], nllMean: 2 }

const PROPOSED: ProposalRow = {
  id: 'found',
  model: 'tiny',
  name: 'found',
  terms: [],
  texts: 1,
  characters: 1,
  centroid: [1, 2],
  state: 'proposed',
  domain: null,
  createdAt: 1,
  updatedAt: 2,
}

/** Stages texts of keys and proposes them as a domain. */
async function propose(id: string, kind: Kind, owners: readonly { keyId: string; tenant: string }[]) {
  const texts = owners.map((_, index) => textOfKind(kind, 7_000 + index))
  await staging().offer(
    texts.map((text, index) => offeredSample(text, { side: 'pool', description, ...owners[index] })),
  )
  await staging().propose(BASE, { [id]: await Promise.all(texts.map((text) => textHash(text))) })
  const name = `${kind}-found`
  const sizes = { texts: texts.length, characters: texts.join('').length }
  await replaceProposals(db, 'tiny', [{ ...PROPOSED, id, name, terms: ['term', kind], ...sizes }])
  return texts
}

const owned = (tenant: string, count: number) =>
  Array.from({ length: count }, (_, index) => ({ keyId: `key ${index} of ${tenant}`, tenant }))

test('proposals are listed with their terms, sizes and the beginnings of three texts', async () => {
  await new SimulatedNode('node-1', 'other').beat()
  const retired = new SimulatedNode('node-2', 'retired')
  await retired.beat({ model: { ...retired.heartbeat().model, baseSha256: 'b'.repeat(64) } })
  const texts = await propose('found_listed', 'law', owned('acme', 5))
  await staging().offer([offeredSample('No node has read this text yet.', { side: 'pool' })])
  const { data, waiting } = await adminJson<ProposalList>('GET', '/proposals')
  // No node reads them for the retired model any more.
  expect(waiting).toEqual({ texts: 6, read: 5 })
  const ofRetired = await adminJson<ProposalList>('GET', '/proposals?model=retired')
  expect(ofRetired.waiting).toEqual({ texts: 6, read: 0 })
  expect(data).toMatchObject([
    {
      id: 'found_listed',
      model: 'tiny',
      name: 'law-found',
      terms: ['term', 'law'],
      texts: 5,
      state: 'proposed',
      domain: null,
    },
  ])
  const [{ preview } = { preview: [] }] = data
  expect(preview).toHaveLength(3)
  for (const start of preview) {
    expect(start.length).toBeLessThanOrEqual(240)
    expect(texts.some((text) => text.startsWith(start))).toBe(true)
  }
  expect((await adminJson<{ data: unknown[] }>('GET', '/proposals?model=other')).data).toEqual([])
})

test('an accepted proposal of one tenant is that tenant’s domain; it can be decided once', async () => {
  const texts = await propose('found_accepted', 'code', owned('acme', 4))
  expect(await adminJson('POST', '/proposals/found_accepted/accept', { name: 'programs' })).toEqual({
    id: 'found_accepted',
    state: 'accepted',
    domain: 'programs',
    owner: 'acme',
  })
  expect(await storedTexts('programs')).toEqual(texts.toSorted())
  expect(await storedTexts(UNASSIGNED)).not.toContain(texts[0])
  expect((await listDomains(db)).find(({ name }) => name === 'programs')?.owner).toBe('acme')
  const again = await admin('POST', '/proposals/found_accepted/discard')
  expect(again.status).toBe(409)
  expect((await adminJson<{ data: unknown[] }>('GET', '/proposals')).data).toEqual([])
})

test('a proposal of several tenants becomes a shared domain, under a name that is free', async () => {
  await ensureDomains(db, ['taken'], 0)
  await propose('found_shared', 'recipe', [...owned('acme', 2), ...owned('globex', 2)])
  const refused = await admin('POST', '/proposals/found_shared/accept', { name: 'taken' })
  expect(refused.status).toBe(409)
  expect(await errorOf(refused)).toMatchObject({ param: 'name' })
  expect(await adminJson('POST', '/proposals/found_shared/accept', {})).toMatchObject({
    domain: 'recipe-found',
    owner: null,
  })
})

test('merged texts go where their keys may go: those of another tenant or of a limited key to their default', async () => {
  await ensureDomains(db, ['mine', 'default'], 0)
  await env.DB.prepare(`UPDATE domains SET owner = 'acme' WHERE name = 'mine'`).run()
  const free = await createKey({ tenant: 'acme' })
  const limited = await createKey({ tenant: 'acme', allowedDomains: ['default'] })
  const other = await createKey({ tenant: 'globex' })
  // Its default is no domain yet.
  const first = await createKey({ tenant: 'globex', defaultDomain: 'inbox' })
  const [a = '', b = '', c = '', d = ''] = await propose('found_merged', 'sport', [
    { keyId: free.id, tenant: 'acme' },
    { keyId: limited.id, tenant: 'acme' },
    { keyId: other.id, tenant: 'globex' },
    { keyId: first.id, tenant: 'globex' },
  ])
  expect((await admin('POST', '/proposals/found_merged/merge', { domain: 'nowhere' })).status).toBe(404)
  expect(await adminJson('POST', '/proposals/found_merged/merge', { domain: 'mine' })).toEqual({
    id: 'found_merged',
    state: 'merged',
    domain: 'mine',
    owner: 'acme',
  })
  expect(await storedTexts('mine')).toEqual([a])
  expect(await storedTexts('default')).toEqual([b, c].toSorted())
  expect(await storedTexts('inbox')).toEqual([d])
  expect((await listDomains(db)).map(({ name }) => name)).toContain('inbox')
})

test('texts that are deleted while they move into a domain which is no domain yet are gone', async () => {
  const { id: keyId } = await createKey({ tenant: 'globex', defaultDomain: 'new-inbox' })
  await ensureDomains(db, ['of-acme'], 0)
  await env.DB.prepare(`UPDATE domains SET owner = 'acme' WHERE name = 'of-acme'`).run()
  const text = textOfKind('sport', 9_000)
  await staging().offer([offeredSample(text, { side: 'pool', description, keyId, tenant: 'globex' })])
  await staging().propose(BASE, { found_moving: [await textHash(text)] })
  const deps = testDeps()
  const reservoir = (name: string) => {
    const stub = deps.reservoir(name)
    if (name !== UNASSIGNED) return stub
    const offersOf = async (...of: Parameters<typeof stub.offersOf>) => {
      const offers = await stub.offersOf(...of)
      if (offers.hashes.length > 0) await admin('DELETE', `/samples?key=${keyId}`)
      return offers
    }
    return { offersOf, deleteByHash: (hashes: readonly string[]) => stub.deleteByHash(hashes) } as typeof stub
  }
  await settleTexts({ ...deps, reservoir }, 'found_moving', 'of-acme')
  expect((await listDomains(db)).map(({ name }) => name)).toContain('new-inbox')
  expect(await storedTexts('new-inbox')).toEqual([])
})

test('texts are gone that a deletion named before it could know the domain that they move into', async () => {
  const { id: keyId } = await createKey({ tenant: 'globex' })
  const text = textOfKind('sport', 9_001)
  await staging().offer([offeredSample(text, { side: 'pool', description, keyId, tenant: 'globex' })])
  await staging().propose(BASE, { found_late: [await textHash(text)] })
  // As a deletion does first; it then visits the domains, of which this one is none yet.
  await insertTombstone(db, { keyId, createdAt: Date.now() })
  await ensureDomains(db, ['found_late'], 0)
  await settleTexts(testDeps(), 'found_late', 'found_late')
  expect(await staging().offersOf('found_late', 10)).toMatchObject({ hashes: [] })
  expect(await storedTexts('found_late')).toEqual([])
})

test('a discarded proposal is gone with its texts, and an unknown one is not found', async () => {
  const texts = await propose('found_discarded', 'law', owned('initech', 3))
  await adminJson('POST', '/proposals/found_discarded/discard')
  const left = await storedTexts(UNASSIGNED)
  for (const text of texts) expect(left).not.toContain(text)
  expect((await admin('POST', '/proposals/found_nowhere/accept')).status).toBe(404)
})

test('proposals are listed by as many calls as one takes, however many there are', async () => {
  const counted = countCalls(env)
  const callsOf = async () => {
    const request = new Request(`${ORIGIN}/admin/proposals`, {
      headers: { authorization: `Bearer ${TEST_ADMIN_KEY}` },
    })
    const response = await createApp().fetch(request, counted.bindings, createExecutionContext())
    const { data } = await response.json<{ data: ProposalEntry[] }>()
    return { listed: data.map(({ id, preview }) => [id, preview.length]), calls: counted.take().all }
  }
  /** Stages a text for each proposal, and stores each under a model of its own. */
  const proposeEach = async (ids: readonly string[]) => {
    const texts = ids.map((id) => textOfKind('law', 8_000 + Number(id.slice(-1))))
    await staging().offer(texts.map((text) => offeredSample(text, { side: 'pool', description })))
    const hashes = await Promise.all(texts.map((text) => textHash(text)))
    await staging().propose(BASE, Object.fromEntries(ids.map((id, at) => [id, hashes.slice(at, at + 1)])))
    for (const [at, id] of ids.entries())
      await replaceProposals(db, `model-${at}`, [{ ...PROPOSED, id, model: `model-${at}` }])
  }
  await replaceProposals(db, 'tiny', [])
  await proposeEach(['found_0'])
  const one = await callsOf()
  expect(one.listed).toEqual([['found_0', 1]])
  const ids = ['found_1', 'found_2', 'found_3', 'found_4']
  await proposeEach(ids)
  const many = await callsOf()
  expect(many.listed).toEqual(ids.map((id) => [id, 1]))
  expect(many.calls).toBe(one.calls)
})

test('a decision whose texts take more calls than a request may make is answered, and the rest is left', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  await replaceProposals(db, 'tiny', [{ ...PROPOSED, id: 'found_endless' }])
  let calls = 0
  const call = <T>(result: T) => {
    calls += 1
    return calls > 2 * EVENT_CALLS ? Promise.reject(new Error('too many calls')) : Promise.resolve(result)
  }
  const endless = { offersOf: () => call({ hashes: ['a'], offers: [] }), deleteByHash: () => call(undefined) }
  const bindings = { ...env, RESERVOIR: { idFromName: () => '', get: () => endless } as never }
  const ctx = createExecutionContext()
  const request = new Request(`${ORIGIN}/admin/proposals/found_endless/discard`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TEST_ADMIN_KEY}` },
  })
  const response = await createApp().fetch(request, bindings, ctx)
  await waitOnExecutionContext(ctx)
  expect([response.status, calls]).toEqual([200, EVENT_CALLS])
  expect(warn.mock.calls).toEqual([
    ['Settling the texts of proposal found_endless has used the calls of an event; a later event goes on.'],
  ])
})

test('texts of a proposal that are too many for one event move on with the next ones', async () => {
  await ensureDomains(db, ['large'], 0)
  const texts = await propose('found_large', 'sport', owned('umbrella', 40))
  const [row] = await findProposals(db, ['found_large'])
  if (!row) throw new Error('no proposal')
  await mergeProposal(testDeps(), row, 'large', { actor: 'copal' })
  const moved: number[] = []
  for (let event = 0; event < 3; event += 1) {
    const metered = meterDeps(testDeps(), createCallBudget(9))
    const settled = event === 0 ? settleTexts(metered, row.id, 'large') : finishProposals(metered)
    const thrown: unknown = await settled.then(
      () => undefined,
      (error: unknown) => error,
    )
    moved.push((await storedTexts('large')).length)
    expect(thrown === undefined || isCallsUsedUp(thrown)).toBe(true)
  }
  expect(moved[0]).toBeLessThan(texts.length)
  expect(moved[2]).toBe(texts.length)
  expect((await storedTexts(UNASSIGNED)).filter((text) => texts.includes(text))).toEqual([])
})

test('decisions are in the audit log, without texts', async () => {
  await appendPendingAudit(testDeps())
  const { results } = await env.DB.prepare(
    `SELECT action, target, before, after FROM audit WHERE action LIKE 'proposal.%' ORDER BY id`,
  ).all<{ action: string; target: string; after: string }>()
  expect(results.map(({ action, target }) => `${action} ${target}`)).toEqual([
    'proposal.accepted found_accepted',
    'proposal.accepted found_shared',
    'proposal.merged found_merged',
    'proposal.discarded found_discarded',
    'proposal.discarded found_endless',
    'proposal.merged found_large',
  ])
  expect(JSON.stringify(results)).not.toContain('number 70')
})
