/** Tests that an open proposal, which has words of its texts, goes with them. */
import { env } from 'cloudflare:workers'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { findDomains } from '../../../../gateway/src/adaptation/intake/find-domains.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import {
  listProposals,
  replaceProposals,
  type ProposalRow,
} from '../../../../gateway/src/storage/db/queries/discovery-queries.ts'
import { ensureDomains, listDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { setPolicyOverrides } from '../../../../gateway/src/storage/db/queries/policy-queries.ts'
import { UNASSIGNED } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { startDescribingNode } from '../../support/doubles/describing-node.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'

const BASE = 'a'.repeat(64)
const MINUTE_MS = 60_000
const PROPOSALS: Record<string, readonly string[]> = {
  found_hers: ['her recipe', 'her other recipe'],
  found_both: ['her contract', 'his contract'],
  found_his: ['his report'],
}
const db = openDatabase(env.DB)
const staging = env.RESERVOIR.get(env.RESERVOIR.idFromName(UNASSIGNED))

beforeEach(async () => {
  await staging.clear()
  await staging.offer(
    Object.values(PROPOSALS)
      .flat()
      .map((text) =>
        offeredSample(text, {
          keyId: text.startsWith('her') ? 'hers' : 'his',
          atMs: Date.now() + 1,
          description: { baseSha256: BASE, tokens: 100, embedding: [1], nllMean: 2 },
        }),
      ),
  )
  const hashes = new Map((await staging.listDescribed(BASE, 100)).map(({ text, hash }) => [text, hash]))
  await replaceProposals(db, 'tiny', Object.keys(PROPOSALS).map(proposal))
  await staging.propose(
    BASE,
    Object.fromEntries(
      Object.entries(PROPOSALS).map(([id, texts]) => [id, texts.flatMap((text) => hashes.get(text) ?? [])]),
    ),
  )
})

function proposal(id: string): ProposalRow {
  return {
    id,
    model: 'tiny',
    name: `name of ${id}`,
    terms: [`term of ${id}`],
    texts: PROPOSALS[id]?.length ?? 0,
    characters: 100,
    centroid: [1],
    state: 'proposed',
    domain: null,
    createdAt: Date.now(),
    updatedAt: Date.now(),
  }
}

/** Runs the cron task some time after now, and returns the proposals that are open then. */
async function openAfter(ms: number): Promise<string[]> {
  await findDomains(testDeps({ nowMs: () => Date.now() + ms }))
  return (await listProposals(db, { state: 'proposed' })).map(({ id }) => id).toSorted()
}

test('a proposal of whose texts one is deleted goes, and its other texts are in none', async () => {
  expect(await openAfter(10 * MINUTE_MS)).toEqual(['found_both', 'found_hers', 'found_his'])
  await adminJson('DELETE', '/samples?key=hers')
  expect(await openAfter(10 * MINUTE_MS)).toEqual(['found_his'])
  expect(await staging.proposalSizes()).toEqual({ found_his: 1 })
  expect(await staging.countUngrouped(BASE, 100)).toBe(1)
})

test('a proposal whose texts are being marked stays', async () => {
  await staging.propose(BASE, {})
  expect(await openAfter(MINUTE_MS)).toHaveLength(3)
  expect(await openAfter(10 * MINUTE_MS)).toEqual([])
})

test('a proposal without texts is neither listed nor accepted before it goes, by an operator or by the policy', async () => {
  await adminJson('DELETE', '/samples?key=hers')
  expect(await openAfter(MINUTE_MS)).toHaveLength(3)
  const { data } = await adminJson<{ data: { id: string }[] }>('GET', '/proposals')
  expect(data.map(({ id }) => id)).toEqual(['found_his'])
  await ensureDomains(db, ['known'], 1)
  for (const [path, body] of [
    ['accept', {}],
    ['merge', { domain: 'known' }],
  ] as const) {
    const refused = await admin('POST', `/proposals/found_hers/${path}`, body)
    expect(refused.status).toBe(409)
    expect((await errorOf(refused)).message).toContain('has no texts any more')
  }
  await startDescribingNode('tiny')
  await setPolicyOverrides(db, 'tiny', { discovery: { enabled: true, accept_texts: 1 } }, 1)
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  await findDomains(testDeps())
  expect(error).not.toHaveBeenCalled()
  expect((await listDomains(db)).map(({ name }) => name).toSorted()).toEqual(['known', 'name of found_his'])
})
