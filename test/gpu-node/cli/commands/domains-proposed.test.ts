import { beforeEach, expect, test } from 'vitest'
import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import { copal, type ReceivedCall } from '../../../support/doubles/copal-command.ts'

const PROPOSAL: ProposalEntry = {
  id: 'found_0123456789ab',
  model: 'tiny',
  name: 'butter-flour',
  terms: ['butter', 'flour', 'oven'],
  texts: 31,
  characters: 9_300,
  state: 'proposed',
  domain: null,
  preview: ['Melt the butter\nin a pan.', `Preheat ${'the oven '.repeat(30)}`],
  created_at: new Date(Date.now() - 3_600_000).toISOString(),
  updated_at: new Date().toISOString(),
}

let calls: ReceivedCall[] = []
let response: object = {}
beforeEach(() => {
  calls = []
})

async function run(...args: string[]): Promise<string> {
  const result = await copal(response, ['domains', ...args])
  expect(result.code).toBe(0)
  calls.push(...result.calls)
  return result.stdout
}

test('proposed shows each proposal with its terms, its size and texts of one line', async () => {
  response = { data: [PROPOSAL] }
  const shown = await run('proposed', '--model', 'tiny')
  expect(calls[0]?.call).toBe('GET /admin/proposals?model=tiny')
  for (const part of [PROPOSAL.id, 'butter-flour', '31', 'Melt the butter in a pan.'])
    expect(shown).toContain(part)
  for (const line of shown.split('\n')) expect(line.length).toBeLessThanOrEqual(120)
  expect(JSON.parse(await run('proposed', '--json'))).toEqual([PROPOSAL])
  response = { data: [{ ...PROPOSAL, preview: ['Stir\x1b]0;owned\x07 the pot.'] }] }
  expect(await run('proposed')).toContain('Stir?]0;owned? the pot.')
  response = { data: [] }
  expect(await run('proposed')).toContain('No domain is proposed. Texts of keys')
  response = { data: [], waiting: { texts: 144, read: 96 } }
  expect(await run('proposed')).toContain('144 texts fit into no domain, of which a node has read 96.')
})

test('accept, merge and discard send their decision and print what became of it', async () => {
  response = { id: PROPOSAL.id, state: 'accepted', domain: 'recipes', owner: 'acme' }
  expect(await run('accept', PROPOSAL.id, '--name', 'recipes')).toBe(
    'Accepted as recipes, which keeps texts of the tenant acme alone.\n',
  )
  response = { id: PROPOSAL.id, state: 'accepted', domain: 'butter-flour', owner: null }
  expect(await run('accept', PROPOSAL.id)).toBe(
    'Accepted as butter-flour, which keeps texts of all tenants.\n',
  )
  response = { id: PROPOSAL.id, state: 'merged', domain: 'legal', owner: null }
  expect(await run('merge', PROPOSAL.id, 'legal')).toBe('Merged into legal.\n')
  response = { id: PROPOSAL.id, state: 'discarded', domain: null, owner: null }
  expect(await run('discard', PROPOSAL.id, '--yes')).toBe(`Discarded ${PROPOSAL.id} and its texts.\n`)
  const path = `POST /admin/proposals/${PROPOSAL.id}`
  expect(calls).toEqual([
    { call: `${path}/accept`, body: { name: 'recipes' } },
    { call: `${path}/accept`, body: {} },
    { call: `${path}/merge`, body: { domain: 'legal' } },
    { call: `${path}/discard`, body: {} },
  ])
})
