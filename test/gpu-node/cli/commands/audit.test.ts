import { expect, test } from 'vitest'
import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

/** Returns a sound log whose rows follow from each other. */
async function logOf(count: number, previous = FIRST_PREVIOUS_HASH, firstId = 1): Promise<AuditEntry[]> {
  const rows: AuditEntry[] = []
  for (let id = firstId; id < firstId + count; id += 1) {
    const row = {
      id,
      actor: 'key_1',
      action: 'PATCH /admin/keys/:id',
      target: `key_${id}`,
      before: null,
      after: { status: 200 },
      reason: '',
      request_id: null,
      created_at: 1_700_000_000_000 + id,
      previous_hash: rows.at(-1)?.hash ?? previous,
    }
    rows.push({ ...row, hash: await auditHash(row), sealed: true })
  }
  return rows
}

const pageOf = (data: AuditEntry[], changes: Partial<AuditPage> = {}): AuditPage => ({
  data,
  checkpoint: null,
  next_after: null,
  ...changes,
})
const verify = (page: AuditPage, ...args: string[]) =>
  copal(page, ['audit', 'verify', ...args], { piped: true })

test('verify finds a sound log as it was written, over several pages, and prints its last row', async () => {
  const rows = await logOf(5)
  const pages = new Map([
    ['0', pageOf(rows.slice(0, 3), { next_after: 3 })],
    ['3', pageOf(rows.slice(3))],
  ])
  const { code, stdout } = await copal(
    (call) => pages.get(/after=(\d+)/.exec(call)?.[1] ?? ''),
    ['audit', 'verify'],
    { piped: true },
  )
  expect(code).toBe(0)
  expect(stdout).toContain(`5 rows are as they were written.`)
  expect(stdout).toContain(`--known 5:${rows[4]?.hash}`)
})

test.each<[string, (rows: AuditEntry[]) => AuditEntry[], RegExp]>([
  [
    'was changed',
    (rows) => rows.map((row) => (row.id === 3 ? { ...row, actor: 'x' } : row)),
    /row 3: it was changed/,
  ],
  ['was removed', (rows) => rows.filter(({ id }) => id !== 3), /row 3: it is missing; row 4 follows/],
  [
    'was renumbered to make room for another',
    (rows) => rows.map((row) => (row.id >= 3 ? { ...row, id: row.id + 1 } : row)),
    /row 3: it is missing/,
  ],
  [
    'was not sealed by the gateway',
    (rows) => rows.map((row) => (row.id === 2 ? { ...row, sealed: false } : row)),
    /row 2: it was not written by the gateway/,
  ],
])('verify names the first row that %s, and fails', async (_, damage, message) => {
  const { code, stderr } = await verify(pageOf(damage(await logOf(5))))
  expect(code).not.toBe(0)
  expect(stderr).toMatch(message)
})

test('verify names the first row of a part that was written anew, though its own hashes are right', async () => {
  const rows = await logOf(5)
  const anew = await logOf(3, 'f'.repeat(64), 3)
  const { code, stderr } = await verify(pageOf([...rows.slice(0, 2), ...anew]))
  expect(code).not.toBe(0)
  expect(stderr).toMatch(/row 3: it does not follow from the row before/)
})

test('verify takes no mistyped row for a removed one', async () => {
  const rows = await logOf(5)
  for (const known of ['5', `5:${rows[4]?.hash.slice(1)}`, 'the last one']) {
    const { stderr } = await verify(pageOf(rows), '--known', known)
    expect(stderr).toContain("as 'npx copal audit verify' prints them")
  }
})

test('verify misses a known row at an end that was cut off', async () => {
  const rows = await logOf(5)
  const known = `5:${rows[4]?.hash}`
  expect((await verify(pageOf(rows), '--known', known)).code).toBe(0)
  const { code, stderr } = await verify(pageOf(rows.slice(0, 4)), '--known', known)
  expect(code).not.toBe(0)
  expect(stderr).toContain(`The log has no row ${known} any more`)
})

test('list shows actor, action, target and outcome, and passes its filters on', async () => {
  const [row] = await logOf(1)
  if (!row) throw new Error('no row')
  const calls: string[] = []
  const { stdout } = await copal(
    (call) => {
      calls.push(call)
      return pageOf([row, { ...row, id: 2, after: { status: 403, error: 'forbidden' } }])
    },
    ['audit', 'list', '--actor', 'key_1'],
    { piped: true },
  )
  expect(calls[0]).toContain('actor=key_1')
  expect(stdout).toMatch(/1 +2023-11-14 22:13:20 +key_1 +PATCH \/admin\/keys\/:id +key_1 +200/)
  expect(stdout).toMatch(/forbidden/)
})

test('list takes a time, or a span back from now', async () => {
  const since = async (text: string) => {
    const { calls } = await copal(pageOf([]), ['audit', 'list', '--since', text])
    return new URL(`http://x${calls[0]?.call.split(' ')[1]}`).searchParams.get('since') ?? ''
  }
  for (const start of ['2026-05-01T00:00:00Z', '2026-05-01T02:00:00+02:00', '2026-05-01'])
    expect(await since(start)).toBe('2026-05-01T00:00:00.000Z')
  expect(Math.abs(Date.now() - 6 * 3_600_000 - Date.parse(await since('6h')))).toBeLessThan(60_000)
  for (const wrong of ['0h', 'yesterday', '2026-05-01T00:00', '2026-99-01'])
    expect((await copal(pageOf([]), ['audit', 'list', '--since', wrong])).code).toBe(2)
})

test('verify counts a single row as one', async () => {
  expect((await verify(pageOf(await logOf(1)))).stdout).toContain('1 row is as it was written.')
})
